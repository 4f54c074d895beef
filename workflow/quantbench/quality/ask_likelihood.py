"""Ask served models how likely the tokens of a text are: the baseline writes the texts, every model scores them.

The baseline answers each prompt once, drawn at temperature 1 from what it says itself, with a seed of the prompt's own.
Prompt and text then go as token ids to every server, which tells for each position the most likely tokens and the one
that stands there (`prompt_logprobs`). An answer that ends is kept to its end-of-text token: to stop was drawn too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import numpy as np
from msgspec import to_builtins

from quantbench.errors import QuantbenchError
from quantbench.quality.answers import GREEDY, UNTOLD, Thought
from quantbench.quality.ask import Server, connected, rendered
from quantbench.quality.likelihood import asked, draw_z, seed, token_sha256
from quantbench.quality.pair import digest
from quantbench.quality.prompt_set import Prompt
from quantbench.records.base import convert
from quantbench.records.likelihood import TOP, Likelihoods, Likely, ScoredText, WrittenText, pack, unpack

NEEDS = (
    f"a likelihood suite needs vLLM's /tokenize, and /v1/completions with prompt_logprobs of {TOP} "
    f"(--max-logprobs {TOP} or more, vLLM's own default); without them leave the suite out of `quality.suites`"
)
DRAWN: dict[str, Any] = GREEDY | {"temperature": 1.0, "logprobs": 1}
"""Every field is set, as of `GREEDY`; the seed is the prompt's own."""
SCORED: dict[str, Any] = GREEDY | {"max_tokens": 1, "prompt_logprobs": TOP}
DISAGREE = 0.1
"""Nats by which a drawn token's logprob and the same token's, scored, may differ in the median: a few hundredths come
of other kernels for prefill and decoding."""
NEVER = -9999.0
"""vLLM's logprob of what cannot come; other servers write -Infinity."""
UNLIKELY = 6.0
"""Standard deviations: draws that are so far from the distribution that the server tells do not come from it."""
_T = TypeVar("_T")
_R = TypeVar("_R")


def collect(
    url: str,
    model: str,
    prompts: Sequence[Prompt],
    *,
    tokens: int = 128,
    concurrency: int = 8,
    baseline: Likelihoods | None = None,
    key: str | None = None,
    thought: Thought = UNTOLD,
    said: MutableMapping[str, Any] | None = None,
) -> Likelihoods:
    """What one server says of the texts.

    baseline: what the baseline's server gave for the same prompts; None where this is the baseline, which writes them.
    Its second look is with one request in flight, or with 4 where the first was. thought: what the
    chat template is told. said: what this server has said so far, by what it was asked: it is not asked again, and each
    reply is put there as it comes.

    Raises QuantbenchError where the server does not answer, gives no lists of log-probabilities, was sent other ids
    than it reports, draws from another distribution than it tells, or tokenizes otherwise than the baseline.
    """
    with_server = connected(url, model, key, thought, NEEDS)
    return asyncio.run(
        _collect(with_server, prompts, tokens, concurrency, baseline, _Said({} if said is None else said))
    )


class _Said:
    """What a server has said, by the request and the look that it was for: plain data, None where it is forgotten."""

    def __init__(self, kept: MutableMapping[str, Any]) -> None:
        self.kept, self.names = kept, list[str]()

    async def once(self, look: str, body: Mapping[str, Any], ask: Callable[[], Awaitable[Any]]) -> Any:
        """The reply to this request: the one that is kept, else what `ask` makes of it."""
        name = digest([look, body])
        self.names.append(name)
        if self.kept.get(name) is None:
            self.kept[name] = await ask()
        return self.kept[name]

    def forget(self) -> None:
        """Nothing of it is to be believed."""
        for name in self.names:
            self.kept[name] = None


async def _collect(
    connection: AbstractAsyncContextManager[Server],
    prompts: Sequence[Prompt],
    tokens: int,
    concurrency: int,
    baseline: Likelihoods | None,
    said: _Said,
) -> Likelihoods:
    async with connection as server:
        ids = await rendered(server, prompts)
        if baseline is None:
            written = await _at_once(concurrency, list(zip(prompts, ids, strict=True)), _writer(server, tokens, said))
            texts, drawn = [text for text, _ in written], np.concatenate([logprobs for _, logprobs in written])
        else:
            texts, drawn = _same_prompts(server, prompts, ids, tokens, baseline), None
        scored = await _at_once(concurrency, texts, lambda text: _score(server, text, said, "scored"))
        if drawn is None:
            return Likelihoods(
                role="variant",
                tokens=tokens,
                concurrency=concurrency,
                system_fingerprint=scored[0][1],
                scored=tuple(text for text, _ in scored),
            )
        try:
            _require_own_draws(server, texts, drawn, [unpack(text.likely) for text, _ in scored])
        except QuantbenchError:
            said.forget()
            raise
        other = 1 if concurrency > 1 else 4
        again = await _at_once(other, texts, lambda text: _score(server, text, said, f"again {other}"))
    return Likelihoods(
        role="baseline",
        tokens=tokens,
        concurrency=concurrency,
        system_fingerprint=scored[0][1],
        texts=tuple(texts),
        scored=tuple(text for text, _ in scored),
        again=tuple(text for text, _ in again),
        again_concurrency=other,
    )


async def _at_once(most: int, items: Sequence[_T], ask: Callable[[_T], Awaitable[_R]]) -> list[_R]:
    """One answer per item, in their order, with at most so many requests open."""
    gate = asyncio.Semaphore(most)

    async def one(item: _T) -> _R:
        async with gate:
            return await ask(item)

    return list(await asyncio.gather(*map(one, items)))


def _writer(
    server: Server, tokens: int, said: _Said
) -> Callable[[tuple[Prompt, list[int]]], Awaitable[tuple[WrittenText, np.ndarray]]]:
    """Asks for the text of one prompt: the text, and the logprobs that it was drawn with."""

    async def write(item: tuple[Prompt, list[int]]) -> tuple[WrittenText, np.ndarray]:
        prompt, ids = item
        body = {"prompt": ids, **DRAWN, "max_tokens": tokens, "seed": seed(prompt)}
        text, logprobs = await said.once("written", body, lambda: draw(prompt, ids, body))
        return convert(text, WrittenText), np.array(logprobs, float)

    async def draw(prompt: Prompt, ids: list[int], body: dict[str, Any]) -> list[Any]:
        reply = await server.post("/v1/completions", body)
        with server.expected("/v1/completions"):
            choice = reply["choices"][0]
            _require_sent(server, choice, ids, prompt["id"])
            drawn, logprobs = tuple(choice["token_ids"]), choice["logprobs"]["token_logprobs"]
            if not drawn or len(logprobs) != len(drawn):
                raise QuantbenchError(
                    f"{server.url}: {len(drawn)} tokens and {len(logprobs)} logprobs for {prompt['id']}", remedy=NEEDS
                )
            text = WrittenText(
                id=prompt["id"],
                asked=asked(prompt, tokens),
                prompt_token_ids=tuple(ids),
                token_ids=drawn,
                finish_reason=str(choice["finish_reason"]),
            )
        return [to_builtins(text), list(logprobs)]

    return write


async def _score(server: Server, text: WrittenText, said: _Said, look: str) -> tuple[ScoredText, str | None]:
    """What the server says of a text, and its fingerprint."""
    body = {"prompt": [*text.prompt_token_ids, *text.token_ids], **SCORED}
    scored, fingerprint = await said.once(look, body, lambda: _look(server, text, body))
    return convert({**scored, "id": text.id}, ScoredText), fingerprint


async def _look(server: Server, text: WrittenText, body: dict[str, Any]) -> list[Any]:
    ids = body["prompt"]
    reply = await server.post("/v1/completions", body)
    with server.expected("/v1/completions"):
        choice = reply["choices"][0]
        _require_sent(server, choice, ids, text.id)
        told = choice["prompt_logprobs"][len(text.prompt_token_ids) :]
        lists = [_ranked(server, entry, text.id) for entry in told]
        likely = Likely(
            np.array([[token for token, _ in top] for top in lists], np.uint32),
            np.array([[logprob for _, logprob in top] for top in lists], np.float32),
            np.array([entry[str(i)]["logprob"] for entry, i in zip(told, text.token_ids, strict=True)], np.float32),
        )
    likely = likely._replace(**{name: np.maximum(getattr(likely, name), NEVER) for name in ("logprobs", "written")})
    if not (np.isfinite(likely.logprobs).all() and np.isfinite(likely.written).all()):
        raise QuantbenchError(f"{server.url} told log-probabilities of {text.id} that are no numbers", remedy=NEEDS)
    if likely.logprobs.max() > 1e-3 or np.exp(likely.logprobs.astype(float)).sum(1).max() > 1.01:
        raise QuantbenchError(
            f"{server.url}: what it tells of {text.id} are no log-probabilities of a raw distribution",
            remedy="serve with vLLM's own --logprobs-mode raw_logprobs",
        )
    scored = ScoredText(id=text.id, sha256=token_sha256(text), likely=pack(likely))
    return [to_builtins(scored), reply.get("system_fingerprint")]


def _ranked(server: Server, entry: dict[str, Any], name: str) -> list[tuple[int, float]]:
    """(id, logprob) of the TOP most likely tokens; the token that stands there is an entry too, of a rank beyond."""
    ranked = sorted((told["rank"], int(token), told["logprob"]) for token, told in entry.items())
    top = [(token, logprob) for rank, token, logprob in ranked if rank <= TOP]
    if len(top) != TOP:
        raise QuantbenchError(f"{server.url} told {len(top)} of {TOP} tokens of a position of {name}", remedy=NEEDS)
    return top


def _require_sent(server: Server, choice: dict[str, Any], ids: Sequence[int], name: str) -> None:
    if choice["prompt_token_ids"] != list(ids):
        raise QuantbenchError(f"{server.url}: prompt {name} arrived with other token ids than were sent")


def _same_prompts(
    server: Server, prompts: Sequence[Prompt], ids: Sequence[list[int]], tokens: int, baseline: Likelihoods
) -> list[WrittenText]:
    """The baseline's texts, in the order of the prompts."""
    texts = {text.id: text for text in baseline.texts}
    for prompt, mine in zip(prompts, ids, strict=True):
        text = texts.get(prompt["id"])
        if text is None or text.asked != asked(prompt, tokens):
            raise QuantbenchError(
                f"the baseline was asked for other texts than these ({prompt['id']})",
                remedy="delete its file of this suite and run again",
            )
        if mine != list(text.prompt_token_ids):
            raise QuantbenchError(
                f"{server.model} turns prompt {prompt['id']} into other token ids than the baseline does",
                remedy="a likelihood suite compares models of one tokenizer and chat template: compare tokenizer.json, "
                "chat_template.jinja and tokenizer_config.json of the two, or leave the suite out of `quality.suites`",
            )
    return [texts[prompt["id"]] for prompt in prompts]


def _require_own_draws(
    server: Server, texts: Sequence[WrittenText], drawn: np.ndarray, scored: Sequence[Likely]
) -> None:
    """Raises QuantbenchError unless the texts were drawn from what the server tells."""
    likely = Likely(*(np.concatenate(part) for part in zip(*scored, strict=True)))
    apart = float(np.median(abs(drawn - likely.written)))
    if not apart < DISAGREE:
        raise QuantbenchError(
            f"{server.url} draws tokens with other logprobs than it scores them with (median {apart:.2g} nats)",
            remedy="serve with vLLM's own --logprobs-mode raw_logprobs, and one model behind the address",
        )
    z = draw_z(likely, np.concatenate([text.token_ids for text in texts]))
    if not abs(z) < UNLIKELY:
        raise QuantbenchError(
            f"{server.url} does not draw from the distribution that it tells: its most likely token comes "
            f"{'more' if z > 0 else 'less'} often than its probability (z = {z:+.1f})",
            remedy="something overrides temperature, top_p, top_k or a penalty: serve with --generation-config vllm",
        )
