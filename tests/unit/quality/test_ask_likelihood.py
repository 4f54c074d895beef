"""Texts and their likelihoods, from a small server that draws and scores as vLLM does, and then misbehaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from answer_server import running
from likelihood_simulation import normalized
from quantbench.errors import QuantbenchError
from quantbench.quality import ask_likelihood as ask
from quantbench.quality import likelihood
from quantbench.records.base import convert
from quantbench.records.likelihood import TOP, Likelihoods, unpack

PROMPTS = [
    {"id": f"p{i}", "class": "story", "prompt": f"question {i}", "max_tokens": 8, "checks": []} for i in range(12)
]
WORDS, END, TOKENS = 200, 0, 40
TABLE = normalized(np.random.default_rng(7).normal(0, 2, (WORDS, WORDS)) + 2 * (np.arange(WORDS) == END))
"""Row: the token before; column: the token that may follow."""


class Server:
    """Token ids are code points below WORDS. `off`: by how much this model's logits differ from TABLE."""

    def __init__(self, off: float = 0.0, **faults: Any) -> None:
        self.faults, self.bodies = faults, []
        self.table = normalized(TABLE + off * np.random.default_rng(8).normal(0, 1, TABLE.shape))

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        return web.json_response({"tokens": [ord(c) for c in text + self.faults.get("template", "")]})

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        ids = body["prompt"]
        told = ids[1:] if self.faults.get("other_ids") else ids
        choice: dict[str, Any] = {"text": "", "prompt_token_ids": told}
        if "prompt_logprobs" not in body:
            choice |= self.draw(ids, body)
        elif self.faults.get("most", TOP) < body["prompt_logprobs"]:
            words = f"Requested prompt logprobs of 20, which is greater than max allowed: {self.faults['most']}"
            return web.json_response({"error": {"message": words}}, status=400)
        elif not self.faults.get("no_lists"):
            choice |= {"prompt_logprobs": [None, *(self.entry(a, b) for a, b in pairwise(ids))]}
        return web.json_response({"choices": [choice], "usage": {}, "system_fingerprint": "f"})

    def draw(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        rng, drawn, logprobs, last = np.random.default_rng(body["seed"]), [], [], ids[-1]
        for _ in range(body["max_tokens"]):
            row = self.table[last]
            word = int(rng.choice(WORDS, p=np.exp(normalized(row / self.faults.get("temperature", 1.0)))))
            drawn.append(word)
            logprobs.append(float(row[word]) - self.faults.get("drawn_off", 0.0))
            last = word
            if last == END:
                break
        reason = "stop" if last == END else "length"
        return {"token_ids": drawn, "finish_reason": reason, "logprobs": {"token_logprobs": logprobs}}

    def entry(self, before: int, word: int) -> dict[str, Any]:
        row = self.table[before] + self.faults.get("logits", 0)
        order = np.argsort(-row, kind="stable")[: self.faults.get("entries", TOP)]
        ranks = {word: int((row >= row[word]).sum())} | {int(i): rank for rank, i in enumerate(order, 1)}
        said = {i: float(row[i]) for i in ranks}
        if "last" in self.faults:
            said[int(order[-1])] = self.faults["last"]
        return {str(i): {"logprob": said[i], "rank": rank, "decoded_token": ""} for i, rank in ranks.items()}


@contextmanager
def serving(server: Server) -> Iterator[str]:
    app = web.Application()
    app.add_routes([web.post("/tokenize", server.tokenize), web.post("/v1/completions", server.complete)])
    with running(app) as url:
        yield url


def collected(server: Server, baseline: Likelihoods | None = None, prompts: list[Any] = PROMPTS) -> Likelihoods:
    with serving(server) as url:
        return ask.collect(url, "m", prompts, tokens=TOKENS, baseline=baseline)


@pytest.fixture(scope="module")
def first() -> Likelihoods:
    return collected(Server())


def test_the_baseline_writes_and_every_model_scores_the_same_ids(first: Likelihoods) -> None:
    server = Server(off=0.5)
    second = collected(server, first)
    assert [body["prompt"] for body in server.bodies] == [[*t.prompt_token_ids, *t.token_ids] for t in first.texts]
    assert all(body["max_tokens"] == 1 and body["temperature"] == 0 for body in server.bodies)
    made = likelihood.score("likelihood", ("a", first), ("b", convert(second.as_dict(), Likelihoods)))
    assert made.likelihood is not None
    assert made.likelihood_floor is not None
    assert made.likelihood_floor.kl.value == 0
    truth = [
        float(np.exp(TABLE[before]) @ (TABLE[before] - server.table[before]))
        for t in first.texts
        for before in (t.prompt_token_ids[-1], *t.token_ids[:-1])
    ]
    said = made.likelihood.kl
    assert said.low is not None
    assert said.high is not None
    assert said.low < np.mean(truth) < said.high
    assert made.likelihood.kl_lower_bound < np.mean(truth)


def test_minus_infinity_is_the_logprob_of_what_cannot_come(first: Likelihoods) -> None:
    second = collected(Server(last=-math.inf), baseline=first)
    found = unpack(second.scored[0].likely)
    assert likelihood.score("s", ("a", first), ("b", second)).likelihood
    assert found.logprobs.min() == ask.NEVER
    assert found.logprobs[:, -2].min() > ask.NEVER


def test_a_text_that_ends_is_kept_to_its_end(first: Likelihoods) -> None:
    ended = [text for text in first.texts if text.finish_reason == "stop"]
    assert ended
    assert all(text.token_ids[-1] == END and END not in text.token_ids[:-1] for text in ended)
    for text, scored in zip(first.texts, first.scored, strict=True):
        assert len(unpack(scored.likely).written) == len(text.token_ids)


def test_lists_know_nothing_of_the_token_that_was_drawn(first: Likelihoods) -> None:
    for text, scored in zip(first.texts, first.scored, strict=True):
        before = [text.prompt_token_ids[-1], *text.token_ids[:-1]]
        assert (unpack(scored.likely).ids == np.argsort(-TABLE[before], axis=1, kind="stable")[:, :TOP]).all()


def test_other_prompts_do_not_change_what_a_prompt_is_asked(first: Likelihoods) -> None:
    assert collected(Server(), prompts=PROMPTS[3:5]).texts == first.texts[3:5]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "capped": ({"most": 5}, r"max allowed: 5[\s\S]*--max-logprobs 20"),
    "no lists": ({"no_lists": True}, r"another shape[\s\S]*prompt_logprobs"),
    "short lists": ({"entries": 5}, "told 5 of 20 tokens of a position of p"),
    "other ids": ({"other_ids": True}, "arrived with other token ids"),
    "null": ({"last": None}, "that are no numbers"),
    "nan": ({"last": math.nan}, "that are no numbers"),
    "logits": ({"logits": 9.0}, r"no log-probabilities[\s\S]*raw_logprobs"),
    "colder": ({"temperature": 0.6}, r"most likely token comes more often[\s\S]*--generation-config vllm"),
    "another model draws": ({"drawn_off": 0.3}, "other logprobs than it scores them with"),
}


@pytest.mark.fault(
    "A server caps or lacks lists of log-probabilities, or draws from another distribution than it tells",
    "the likelihood suite stops, and says what is missing and with which flag to serve",
)
@pytest.mark.parametrize("name", FAULTS)
def test_a_server_that_cannot_be_believed_ends_the_suite(name: str) -> None:
    faults, words = FAULTS[name]
    with pytest.raises(QuantbenchError, match=words):
        collected(Server(**faults))


@pytest.mark.fault(
    "a job is killed, or its server dies, in the middle of a likelihood suite",
    "what was said stays, text by text and look by look; only the rest is asked, and the result is the same",
)
def test_what_a_server_has_said_is_not_asked_again(first: Likelihoods, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {}
    for least in (5, 17, 30):
        server = Server()
        monkeypatch.setattr(server, "complete", _dies_after(server, least - len(said)))
        with pytest.raises(QuantbenchError, match="HTTP 500"), serving(server) as url:
            ask.collect(url, "m", PROMPTS, tokens=TOKENS, said=said)
        assert len(said) >= least
    kept, server = len(said), Server()
    with serving(server) as url:
        assert ask.collect(url, "m", PROMPTS, tokens=TOKENS, said=said) == first
        assert len(server.bodies) == 3 * len(PROMPTS) - kept
        assert ask.collect(url, "m", PROMPTS, tokens=TOKENS, said=said) == first
        assert len(server.bodies) == 3 * len(PROMPTS) - kept


def test_what_cannot_be_believed_is_asked_again_where_the_server_was_mended(first: Likelihoods) -> None:
    said: dict[str, Any] = {}
    with serving(Server(drawn_off=0.3)) as url, pytest.raises(QuantbenchError, match="other logprobs"):
        ask.collect(url, "m", PROMPTS, tokens=TOKENS, said=said)
    with serving(Server()) as url:
        assert ask.collect(url, "m", PROMPTS, tokens=TOKENS, said=said) == first


def _dies_after(server: Server, answers: int) -> Any:
    """Its completions, of which only the first so many are answered."""
    complete = server.complete

    async def dying(request: web.Request) -> web.Response:
        return await complete(request) if len(server.bodies) < answers else web.Response(status=500, text="dead")

    return dying


@pytest.mark.fault(
    "Two models of a likelihood suite tokenize a prompt differently",
    "the suite stops and names the prompt, and what to compare",
)
def test_another_template_ends_the_suite(first: Likelihoods) -> None:
    with pytest.raises(QuantbenchError, match=r"turns prompt p0 into other token ids[\s\S]*chat_template"):
        collected(Server(template="!"), first)


def test_texts_of_other_prompts_are_not_scored(first: Likelihoods) -> None:
    changed = [*PROMPTS[:2], PROMPTS[2] | {"prompt": "another"}]
    with pytest.raises(QuantbenchError, match=r"asked for other texts than these \(p2\)"):
        collected(Server(), first, changed)
