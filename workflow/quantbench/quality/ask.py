"""Ask a served model the quality prompts, greedily.

The chat template is applied once, by the server (`/tokenize` with messages); the token ids then go to
`/v1/completions`, and the ids that it reports back must be the same. So no template is applied twice or not at all,
and the hash of the ids proves that two models were asked the same thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import orjson

from quantbench.client.aiohttp_wire import BoundedReply
from quantbench.client.http1 import HttpError
from quantbench.engines import api_key, openai_api
from quantbench.errors import QuantbenchError
from quantbench.quality.checks import opens_thought
from quantbench.quality.prompt_set import Prompt, messages, shown
from quantbench.records.quality import Answer, Repeat

Reply = dict[str, Any]
"""What an `Answer` and a `Repeat` take from one completion."""
# Every field is set: a server fills what is missing from the model's generation_config.json.
GREEDY: dict[str, Any] = {
    "n": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 0, "min_tokens": 0, "ignore_eos": False,
    "stream": False, "return_token_ids": True,
}  # fmt: skip
TIMEOUT_S = 600
SWITCHES = ("enable_thinking", "thinking")
"""Names that chat templates have for it: Qwen, GLM and others; DeepSeek, Granite and Kimi. vLLM (0.26 to 0.32) hands a
template those that it knows, and what a request says goes before the server's `--default-chat-template-kwargs`."""
TAIL = 16
"""Tokens at the end of a prompt in which a template opens a thought."""
NEEDS = "the quality part needs vLLM's /tokenize and /v1/completions; `quality.prompts: null` skips it"


class _Server:
    """One model on one server. thinking: what its chat template is told; thinking_tokens: those of each answer beside
    its prompt's.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        model: str,
        key: str | None,
        thinking: bool | None = None,
        thinking_tokens: int = 0,
    ) -> None:
        self.session, self.url, self.model, self.key = session, url.rstrip("/"), model, key
        self.template = {} if thinking is None else {"chat_template_kwargs": dict.fromkeys(SWITCHES, thinking)}
        self.thinking_tokens = thinking_tokens

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object of a 200 answer; QuantbenchError for anything else, a redirect too."""
        url, asked = self.url + path, {"model": self.model, **body}
        content = bytearray()
        try:
            async with self.session.post(url, json=asked, allow_redirects=False) as reply:
                status, kind = reply.status, reply.headers.get("Content-Encoding", "identity")
                location = reply.headers.get("Location") if 300 <= status < 400 else None
                async for piece in reply.content.iter_any():
                    content += piece
                    if len(content) > openai_api.MOST_BYTES:
                        raise QuantbenchError(
                            f"{url} answered with more than {openai_api.MOST_BYTES >> 20} MiB", remedy=NEEDS
                        )
        except (aiohttp.ClientError, TimeoutError, HttpError) as error:
            said = api_key.hidden(str(error) or type(error).__name__, self.key)
            raise QuantbenchError(f"{url} did not answer: {said}") from error
        if location:
            raise QuantbenchError(
                f"{url} redirects (HTTP {status}) to {openai_api.place(url, location)}",
                remedy="name the server itself in the model's endpoint: nothing follows redirects",
            )
        text = api_key.hidden(openai_api.printable(bytes(content[:300]), 300), self.key)
        if status != 200:
            raise QuantbenchError(f"{url} answered HTTP {status}: {text}", remedy=NEEDS)
        try:
            return dict(orjson.loads(content))
        except (ValueError, TypeError) as error:
            packed = "" if kind == "identity" else f", packed as {openai_api.printable(kind, 40)}"
            raise QuantbenchError(f"{url} answered without a JSON object{packed}: {text}", remedy=NEEDS) from error

    async def render(self, prompt: Prompt) -> list[int]:
        """Token ids of the conversation, ready for the answer, with the chat template applied once."""
        asked = {"messages": messages(prompt), "add_generation_prompt": True, **self.template}
        rendered = await self.post("/tokenize", asked)
        with self.expected("/tokenize"):
            ids, longest = list(rendered["tokens"]), int(rendered.get("max_model_len") or 0)
        if self.thinking_tokens and longest and len(ids) + self.max_tokens(prompt) > longest:
            raise QuantbenchError(
                f"{self.model}: prompt {prompt['id']} of {len(ids)} tokens, {prompt['max_tokens']} of its answer and"
                f" {self.thinking_tokens} of a thought do not fit into the server's max_model_len {longest}",
                remedy="lower quality.thinking_tokens, or raise server.max_model_len",
            )
        return ids

    def max_tokens(self, prompt: Prompt) -> int:
        """Most tokens of an answer, its thought counted in."""
        return int(prompt["max_tokens"]) + self.thinking_tokens

    async def leading(self) -> list[int]:
        """The ids that the tokenizer itself puts in front of a text (begin-of-text), often none."""
        bare = await self.post("/tokenize", {"prompt": "a", "add_special_tokens": False})
        full = await self.post("/tokenize", {"prompt": "a", "add_special_tokens": True})
        with self.expected("/tokenize"):
            extra = len(full["tokens"]) - len(bare["tokens"])
            return list(full["tokens"][:extra]) if full["tokens"][extra:] == bare["tokens"] else []

    async def opens_thought(self, ids: list[int]) -> bool:
        """Whether the template has opened a thought (`<think>`); False where the server does not tell."""
        with contextlib.suppress(QuantbenchError):
            return opens_thought((await self.post("/detokenize", {"tokens": ids[-TAIL:]}))["prompt"])
        return False

    async def complete(self, prompt: Prompt, ids: list[int]) -> Reply:
        """One greedy answer; the server must report the very ids that it was sent."""
        reply = await self.post("/v1/completions", {"prompt": ids, "max_tokens": self.max_tokens(prompt), **GREEDY})
        with self.expected("/v1/completions"):
            choice = reply["choices"][0]
            if choice.get("prompt_token_ids") != ids:
                raise QuantbenchError(f"{self.url}: prompt {prompt['id']} arrived with other token ids than were sent")
            return {
                "output": choice["text"],
                "finish_reason": choice["finish_reason"],
                "tokens": reply["usage"]["completion_tokens"],
                "token_ids": tuple(choice["token_ids"]),
                "system_fingerprint": reply.get("system_fingerprint"),
            }

    @contextlib.contextmanager
    def expected(self, path: str) -> Iterator[None]:
        """An answer that lacks what is taken from it is an error with the server's name on it."""
        try:
            yield
        except (LookupError, TypeError, AttributeError) as error:
            raise QuantbenchError(
                f"{self.url}{path} answered with JSON of another shape ({error})", remedy=NEEDS
            ) from error


def doubled(ids: Sequence[int], leading: Sequence[int]) -> bool:
    """Does the text begin with the tokenizer's own leading ids twice?"""
    size = len(leading)
    return bool(size) and list(ids[:size]) == list(ids[size : 2 * size]) == list(leading)


async def _pass(server: _Server, prompts: Sequence[Prompt], ids: Sequence[list[int]], at_once: int) -> list[Reply]:
    """All answers in prompt order, with at most `at_once` requests open."""
    gate = asyncio.Semaphore(at_once)

    async def one(prompt: Prompt, tokens: list[int]) -> Reply:
        async with gate:
            return await server.complete(prompt, tokens)

    return list(await asyncio.gather(*(one(p, t) for p, t in zip(prompts, ids, strict=True))))


async def _ask(
    url: str,
    model: str,
    prompts: Sequence[Prompt],
    passes: Sequence[int],
    key: str | None,
    thinking: bool | None,
    thinking_tokens: int,
) -> list[Answer]:
    headers = api_key.authorization(key) | {"Accept-Encoding": "identity"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    session = aiohttp.ClientSession(
        timeout=timeout, headers=headers, auto_decompress=False, response_class=BoundedReply
    )
    async with session:
        server = _Server(session, url, model, key, thinking, thinking_tokens)
        leading = await server.leading()
        ids = [await server.render(prompt) for prompt in prompts]
        for prompt, tokens in zip(prompts, ids, strict=True):
            if doubled(tokens, leading):
                raise QuantbenchError(f"{model}: the chat template puts the begin-of-text token twice ({prompt['id']})")
        opened = await server.opens_thought(ids[0])
        replies = [await _pass(server, prompts, ids, at_once) for at_once in passes]
    return [
        Answer(
            id=prompt["id"],
            kind=prompt["class"],
            prompt=shown(prompt),
            **replies[0][i],
            thought_opened=opened,
            concurrency=passes[0],
            thinking=thinking,
            prompt_tokens=len(ids[i]),
            prompt_token_ids_sha256=hashlib.sha256(repr(ids[i]).encode()).hexdigest(),
            again=tuple(
                Repeat(concurrency=at_once, **pass_[i]) for at_once, pass_ in zip(passes[1:], replies[1:], strict=True)
            ),
        )
        for i, prompt in enumerate(prompts)
    ]


def answers(
    url: str,
    model: str,
    prompts: Sequence[Prompt],
    concurrency: int = 1,
    floor: Sequence[int] = (),
    key: str | None = None,
    thinking: bool | None = None,
    thinking_tokens: int = 0,
) -> list[Answer]:
    """Greedy answers in prompt order: one pass with so many prompts at a time, then one more per entry of `floor`.

    key: the API key of a server that wants one. thinking: what the chat template is told, None: nothing;
    thinking_tokens: tokens of each answer beside its prompt's `max_tokens`.

    Raises QuantbenchError when the server does not answer, or answered something else than was sent, or where a prompt
    with its thought does not fit.
    """
    return asyncio.run(_ask(url, model, prompts, [concurrency, *floor], key, thinking, thinking_tokens))
