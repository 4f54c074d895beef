"""Ask a served model the quality prompts, greedily.

The chat template is applied once, by the server (`/tokenize` with messages); the token ids then go to
`/v1/completions`, and the ids that it reports back must be the same. So no template is applied twice or not at all,
and the hash of the ids proves that two models were asked the same thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

import aiohttp
import orjson

from quantbench.engines import openai_api
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
TAIL = 16
"""Tokens at the end of a prompt in which a template opens a thought."""


class _Server:
    """One model on one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self.session, self.url, self.model = session, url.rstrip("/"), model

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object of a 200 answer; QuantbenchError for anything else."""
        try:
            async with self.session.post(self.url + path, json={"model": self.model, **body}) as reply:
                content = await reply.read()
                status = reply.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise QuantbenchError(f"{self.url}{path} did not answer: {error or type(error).__name__}") from error
        if status != 200:
            text = content[:300].decode(errors="replace")
            raise QuantbenchError(
                f"{self.url}{path} answered HTTP {status}: {text}",
                remedy="the quality part needs vLLM's /tokenize and /v1/completions; `quality.prompts: null` skips it",
            )
        return dict(orjson.loads(content))

    async def render(self, prompt: Prompt) -> list[int]:
        """Token ids of the conversation, ready for the answer, with the chat template applied once."""
        rendered = await self.post("/tokenize", {"messages": messages(prompt), "add_generation_prompt": True})
        return list(rendered["tokens"])

    async def leading(self) -> list[int]:
        """The ids that the tokenizer itself puts in front of a text (begin-of-text), often none."""
        bare = await self.post("/tokenize", {"prompt": "a", "add_special_tokens": False})
        full = await self.post("/tokenize", {"prompt": "a", "add_special_tokens": True})
        extra = len(full["tokens"]) - len(bare["tokens"])
        return list(full["tokens"][:extra]) if full["tokens"][extra:] == bare["tokens"] else []

    async def opens_thought(self, ids: list[int]) -> bool:
        """Whether the template has opened a thought (`<think>`); False where the server does not tell."""
        with contextlib.suppress(QuantbenchError):
            return opens_thought((await self.post("/detokenize", {"tokens": ids[-TAIL:]}))["prompt"])
        return False

    async def complete(self, prompt: Prompt, ids: list[int]) -> Reply:
        """One greedy answer; the server must report the very ids that it was sent."""
        reply = await self.post("/v1/completions", {"prompt": ids, "max_tokens": prompt["max_tokens"], **GREEDY})
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


async def _ask(url: str, model: str, prompts: Sequence[Prompt], floor: Sequence[int]) -> list[Answer]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, headers=openai_api.authorization()) as session:
        server = _Server(session, url, model)
        leading = await server.leading()
        ids = [await server.render(prompt) for prompt in prompts]
        for prompt, tokens in zip(prompts, ids, strict=True):
            if doubled(tokens, leading):
                raise QuantbenchError(f"{model}: the chat template puts the begin-of-text token twice ({prompt['id']})")
        thinking = await server.opens_thought(ids[0])
        first = await _pass(server, prompts, ids, 1)
        again = [(at_once, await _pass(server, prompts, ids, at_once)) for at_once in floor]
    return [
        Answer(
            id=prompt["id"],
            kind=prompt["class"],
            prompt=shown(prompt),
            **first[i],
            thought_opened=thinking,
            prompt_tokens=len(ids[i]),
            prompt_token_ids_sha256=hashlib.sha256(repr(ids[i]).encode()).hexdigest(),
            again=tuple(Repeat(concurrency=at_once, **answers[i]) for at_once, answers in again),
        )
        for i, prompt in enumerate(prompts)
    ]


def answers(url: str, model: str, prompts: Sequence[Prompt], floor: Sequence[int] = ()) -> list[Answer]:
    """Greedy answers in prompt order: one pass alone (concurrency 1), then one more pass per entry of `floor`.

    Raises QuantbenchError when the server does not answer, or answered something else than was sent.
    """
    return asyncio.run(_ask(url, model, prompts, floor))
