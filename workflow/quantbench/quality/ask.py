"""Ask a served model prompts, greedily.

The chat template is applied once, by the server (`/tokenize` with messages); the token ids then go to
`/v1/completions`, and the ids that it reports back must be the same. So no template is applied twice or not at all,
and the hash of the ids proves that two models were asked the same thing.

A server that stumbles over one prompt loses no other: it is asked again, and then the prompt has no answer (`fill`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import msgspec
import orjson

from quantbench.client.aiohttp_wire import BoundedReply
from quantbench.client.http1 import HttpError
from quantbench.engines import api_key, openai_api
from quantbench.errors import QuantbenchError
from quantbench.quality import answers as kind
from quantbench.quality.answers import GREEDY, UNTOLD, Reply, Thought
from quantbench.quality.checks import opens_thought
from quantbench.quality.prompt_set import Prompt, messages
from quantbench.records.base import convert
from quantbench.records.quality import Answer, Repeat

T = TypeVar("T")
TIMEOUT_S = 600
TRIES: Final = 3
PAUSE_S = 0.5
"""Before a prompt is asked for the second time; twice that before the third."""
AT_ONCE: Final = 8
"""Prompts that are rendered at a time."""
TAIL = 16
"""Tokens at the end of a prompt in which a template opens a thought."""
NEEDS = "the quality part needs vLLM's /tokenize and /v1/completions; `quality.prompts: null` skips it"


class UnansweredError(QuantbenchError):
    """A request without an answer to use. again: whether it may get one if it is asked again."""

    def __init__(self, what: str, *, remedy: str = "", again: bool = True) -> None:
        super().__init__(what, remedy=remedy)
        self.again = again


class _Rendered(NamedTuple):
    """A prompt as token ids, ready for the answer; the hash of those of its text alone; why it cannot be answered."""

    ids: list[int]
    text_sha256: str
    no_room: str = ""


class Server:
    """One model on one server. thought: what its chat template is told, and the tokens of each answer beside its
    prompt's; needs: what an error recommends where the server does not give what was asked for.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        model: str,
        key: str | None,
        thought: Thought = UNTOLD,
        needs: str = NEEDS,
    ) -> None:
        self.session, self.url, self.model, self.key, self.needs = session, url.rstrip("/"), model, key, needs
        told = kind.template_kwargs(thought)
        self.template = {"chat_template_kwargs": told} if told else {}
        self.thought = thought

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object of a 200 answer; UnansweredError for anything else, QuantbenchError for a redirect."""
        url, asked = self.url + path, {"model": self.model, **body}
        content = bytearray()
        try:
            async with self.session.post(url, json=asked, allow_redirects=False) as reply:
                status, coding = reply.status, reply.headers.get("Content-Encoding", "identity")
                location = reply.headers.get("Location") if 300 <= status < 400 else None
                async for piece in reply.content.iter_any():
                    content += piece
                    if len(content) > openai_api.MOST_BYTES:
                        most = f"{openai_api.MOST_BYTES >> 20} MiB"
                        raise UnansweredError(f"{url} answered with more than {most}", remedy=self.needs, again=False)
        except (aiohttp.ClientError, TimeoutError, HttpError) as error:
            said = api_key.hidden(str(error) or type(error).__name__, self.key)
            # Who was waited for so long is not waited for again.
            again = not isinstance(error, TimeoutError)
            raise UnansweredError(f"{url} did not answer: {said}", again=again) from error
        if location:
            raise QuantbenchError(
                f"{url} redirects (HTTP {status}) to {openai_api.place(url, location)}",
                remedy="name the server itself in the model's endpoint: nothing follows redirects",
            )
        text = api_key.hidden(openai_api.printable(bytes(content[:300]), 300), self.key)
        if status != 200:
            busy = status >= 500 or status == 429
            raise UnansweredError(f"{url} answered HTTP {status}: {text}", remedy=self.needs, again=busy)
        try:
            return dict(_loaded(bytes(content)))
        except (ValueError, TypeError, RecursionError) as error:
            if openai_api.is_stream(bytes(content)):
                what = f"{url} answered with a stream, though `stream: false` asks for one JSON object: {text}"
                raise UnansweredError(what, remedy=openai_api.STREAM_REMEDY, again=False) from error
            packed = "" if coding == "identity" else f", packed as {openai_api.printable(coding, 40)}"
            raise UnansweredError(f"{url} answered without a JSON object{packed}: {text}", remedy=self.needs) from error

    async def render(self, prompt: Prompt) -> _Rendered:
        """The conversation with the chat template applied once."""
        turns = messages(prompt)
        asked = {"messages": turns, "add_generation_prompt": True, **self.template}
        rendered = await self.post("/tokenize", asked)
        text = "\n".join(turn["content"] for turn in turns)
        bare = await self.post("/tokenize", {"prompt": text, "add_special_tokens": False})
        with self.expected("/tokenize"):
            ids, limit = list(rendered["tokens"]), rendered.get("max_model_len")
        needed = len(ids) + self.max_tokens(prompt)
        over = needed - limit if isinstance(limit, int) else 0
        if 0 < over <= self.thought.tokens:
            raise QuantbenchError(
                f"{self.model}: prompt {prompt['id']} of {len(ids)} tokens, {prompt['max_tokens']} of its answer and"
                f" {self.thought.tokens} of a thought do not fit into the server's max_model_len {limit}",
                remedy="lower quality.thinking_tokens, or raise server.max_model_len",
            )
        no_room = f"it needs {needed} tokens, and the server takes {limit}" if over > 0 else ""
        with self.expected("/tokenize"):
            return _Rendered(ids, _sha256(list(bare["tokens"])), no_room)

    def max_tokens(self, prompt: Prompt) -> int:
        """Most tokens of an answer, its thought counted in."""
        return int(prompt["max_tokens"]) + self.thought.tokens

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
            given = {
                "output": choice["text"] or "",
                "finish_reason": choice["finish_reason"],
                "tokens": reply["usage"]["completion_tokens"],
                "token_ids": choice["token_ids"],
                "system_fingerprint": reply.get("system_fingerprint"),
            }
            convert({**given, "concurrency": 1}, Repeat)  # as it is read again
            return given

    @contextlib.contextmanager
    def expected(self, path: str) -> Iterator[None]:
        """An answer that lacks what is taken from it is an error with the server's name on it."""
        try:
            yield
        except (LookupError, TypeError, AttributeError, msgspec.ValidationError) as error:
            raise UnansweredError(
                f"{self.url}{path} answered with JSON of another shape ({error})", remedy=self.needs
            ) from error


def doubled(ids: Sequence[int], leading: Sequence[int]) -> bool:
    """Does the text begin with the tokenizer's own leading ids twice?"""
    size = len(leading)
    return bool(size) and list(ids[:size]) == list(ids[size : 2 * size]) == list(leading)


def _loaded(content: bytes) -> Any:
    """JSON as a strict reader has it, else with U+FFFD for what is no text: a check then says that it is garbled."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        value = json.loads(content.decode("utf-8", "replace"))
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return json.loads(whole)


def _sha256(ids: list[int]) -> str:
    return hashlib.sha256(repr(ids).encode()).hexdigest()


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked for again where that may help."""
    for tried in range(1, TRIES):
        try:
            return await ask()
        except UnansweredError as error:
            if not error.again:
                raise
        await asyncio.sleep(PAUSE_S * tried)
    return await ask()


class _Asking:
    """The prompts on their way to one server; `failed`: why one has no answer, by its id."""

    def __init__(
        self, server: Server, prompts: Sequence[Prompt], replies: MutableMapping[str, Reply], spare: float
    ) -> None:
        self.server, self.replies, self.asked = server, replies, len(prompts)
        self.most = max(1, int(spare * len(prompts))) if spare else 0
        self.failed: dict[str, str] = {}
        self.lost = 0
        self.rendered: dict[str, _Rendered] = {}
        self.leading: list[int] = []
        self.opened: bool | None = None

    async def render(self, prompts: Sequence[Prompt]) -> None:
        self.leading = await self.server.leading()
        await _at_once(AT_ONCE, [partial(self._render, prompt) for prompt in prompts])
        first = next(iter(self.rendered.values()), None)
        self.opened = await self.server.opens_thought(first.ids) if first else False

    async def _render(self, prompt: Prompt) -> None:
        with self._losing(prompt):
            found = await _patiently(lambda: self.server.render(prompt))
            _once(self.server, prompt, found.ids, self.leading)
            self.rendered[prompt["id"]] = found

    async def answer(self, prompt: Prompt, number: int, at_once: int) -> None:
        name, found = kind.key(prompt, number, at_once, self.server.thought), self.rendered.get(prompt["id"])
        if name in self.replies or found is None or prompt["id"] in self.failed:
            return
        if found.no_room:
            if not self.most:
                what = f"prompt {prompt['id']} does not fit {self.server.model}: {found.no_room}"
                raise QuantbenchError(what, remedy="raise max_model_len of its server, or leave that prompt out")
            self.failed[prompt["id"]] = found.no_room
            return
        with self._losing(prompt):
            reply = await _patiently(lambda: self.server.complete(prompt, found.ids))
            self.replies[name] = (
                reply
                if number
                else {
                    **reply,
                    "thought_opened": self.opened,
                    "concurrency": at_once,
                    "thinking": self.server.thought.thinking,
                    "prompt_tokens": len(found.ids),
                    "prompt_token_ids_sha256": _sha256(found.ids),
                    "text_ids_sha256": found.text_sha256,
                }
            )

    @contextlib.contextmanager
    def _losing(self, prompt: Prompt) -> Iterator[None]:
        """A prompt without an answer is noted, until there are too many."""
        try:
            yield
        except UnansweredError as error:
            self.failed[prompt["id"]] = error.what
            self.lost += 1
            if not self.most:
                raise
            if self.lost > self.most:
                raise QuantbenchError(
                    f"{self.server.url}: {self.lost} of {self.asked} prompts got no answer from {self.server.model}, "
                    f"at most {self.most} may be missing; the last: {error.what}",
                    remedy="look into the server's log; answers given so far are kept, the same command asks the rest",
                ) from error


async def _at_once(count: int, work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """All of it, with at most so many under way; the first error ends the rest."""
    gate = asyncio.Semaphore(count)

    async def one(part: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await part()

    tasks = [asyncio.ensure_future(one(part)) for part in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def connected(
    url: str, model: str, key: str | None, thought: Thought = UNTOLD, needs: str = NEEDS
) -> AsyncIterator[Server]:
    """A server to ask, over connections that are closed at the end."""
    headers = api_key.authorization(key) | {"Accept-Encoding": "identity"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    session = aiohttp.ClientSession(
        timeout=timeout, headers=headers, auto_decompress=False, response_class=BoundedReply
    )
    async with session:
        yield Server(session, url, model, key, thought, needs)


async def rendered(server: Server, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of each conversation. Raises QuantbenchError where the template begins the text twice."""
    leading = await server.leading()
    ids = [(await server.render(prompt)).ids for prompt in prompts]
    for prompt, tokens in zip(prompts, ids, strict=True):
        _once(server, prompt, tokens, leading)
    return ids


def _once(server: Server, prompt: Prompt, ids: Sequence[int], leading: Sequence[int]) -> None:
    if doubled(ids, leading):
        raise QuantbenchError(f"{server.model}: the chat template puts the begin-of-text token twice ({prompt['id']})")


async def _fill(
    url: str,
    model: str,
    prompts: Sequence[Prompt],
    passes: Sequence[int],
    replies: MutableMapping[str, Reply],
    key: str | None,
    spare: float,
    thought: Thought,
) -> dict[str, str]:
    async with connected(url, model, key, thought) as server:
        asking = _Asking(server, prompts, replies, spare)
        keys = partial(kind.keys, passes=passes, thought=thought)
        await asking.render([p for p in prompts if any(name not in replies for name in keys([p]))])
        for number, at_once in enumerate(passes):
            await _at_once(at_once, [partial(asking.answer, p, number, at_once) for p in prompts])
    return asking.failed


def fill(
    url: str,
    model: str,
    prompts: Sequence[Prompt],
    passes: Sequence[int],
    replies: MutableMapping[str, Reply],
    *,
    key: str | None = None,
    spare: float = 0.0,
    thought: Thought = UNTOLD,
) -> dict[str, str]:
    """Ask for each answer that `replies` (by `answers.key`) lacks, and put it there as it comes.

    passes: how many prompts at a time in the first pass, then in each repeat. key: the API key of a server that wants
    one. spare: the share of prompts that may get no answer (one at least); 0: the first such is an error. A prompt that
    does not fit into the server's context is not counted in it. Returns {id of a prompt without an answer: why}.

    Raises QuantbenchError when the server does not answer, or answered something else than was sent.
    """
    return asyncio.run(_fill(url, model, prompts, passes, replies, key, spare, thought))


def answers(
    url: str,
    model: str,
    prompts: Sequence[Prompt],
    concurrency: int = 1,
    floor: Sequence[int] = (),
    key: str | None = None,
    thought: Thought = UNTOLD,
) -> list[Answer]:
    """Answers to all prompts, in their order: one pass with so many at a time, then one more per entry of `floor`.

    Raises QuantbenchError as `fill` does, and for a single prompt without an answer.
    """
    passes, replies = [concurrency, *floor], dict[str, Reply]()
    failed = fill(url, model, prompts, passes, replies, key=key, thought=thought)
    return kind.assembled(prompts, passes, replies, failed, thought)
