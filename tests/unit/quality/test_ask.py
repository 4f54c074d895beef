"""The quality client against a small server that behaves as vLLM does, and then misbehaves."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import raw_server
from aiohttp import web
from quantbench.engines import openai_api
from quantbench.errors import QuantbenchError
from quantbench.quality import ask, checks

PROMPTS = [{"id": i, "class": "fact", "prompt": f"question {i}", "max_tokens": 8, "checks": []} for i in "abcd"]
BOS = 7


class Server:
    """Token ids are code points; the answer is the last character of the prompt, in capitals."""

    def __init__(self, **faults: Any) -> None:
        self.faults, self.bodies, self.open, self.most = faults, [], 0, 0
        self.told: dict[str, bool] | None = None

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "messages" in body:
            ids = [BOS, *map(ord, body["messages"][-1]["content"] + self.thought(body))]
            ids = [BOS, *ids] if self.faults.get("double") else ids
        else:
            ids = [BOS] * body["add_special_tokens"] + [ord(c) for c in body["prompt"]]
        return web.json_response({"tokens": ids, "max_model_len": self.faults.get("max_model_len")})

    def thought(self, body: dict[str, Any]) -> str:
        """What a template that knows enable_thinking writes at the end, as Qwen's does."""
        if not self.faults.get("thinks"):
            return ""
        self.told = body.get("chat_template_kwargs")
        return "<think>\n" if (self.told or {}).get("enable_thinking", True) else "<think>\n\n</think>\n\n"

    async def detokenize(self, request: web.Request) -> web.Response:
        text = "".join(map(chr, (await request.json())["tokens"]))
        return web.json_response({"prompt": text + self.faults.get("template", "")})

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0.01)
        self.open -= 1
        if self.faults.get("status"):
            return web.Response(status=500, text="engine dead")
        text = chr(body["prompt"][-1]).upper()
        if self.faults.get("thinks"):
            opened = "".join(map(chr, body["prompt"])).endswith("<think>\n")
            text = ("It is simple.</think>" * (body["max_tokens"] > 8) or "It is") if opened else "A"
        ids = body["prompt"][1:] if self.faults.get("other_ids") else body["prompt"]
        choice = {"text": text, "finish_reason": "stop", "token_ids": [*map(ord, text)], "prompt_token_ids": ids}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": 1}, "system_fingerprint": "f"})


@contextmanager
def serving(server: Server) -> Iterator[str]:
    loop, started, port = asyncio.new_event_loop(), threading.Event(), []
    app = web.Application()
    app.add_routes([web.post("/tokenize", server.tokenize), web.post("/v1/completions", server.complete)])
    if {"template", "thinks"} & set(server.faults):
        app.add_routes([web.post("/detokenize", server.detokenize)])
    runner = web.AppRunner(app)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(runner.addresses[0][1])
        started.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_answers_and_the_passes_of_the_floor() -> None:
    server = Server()
    with serving(server) as url:
        answers = ask.answers(url, "m", PROMPTS, floor=[1, 4])
    assert [a.output for a in answers] == ["A", "B", "C", "D"]
    assert [r.concurrency for r in answers[0].again] == [1, 4]
    assert len(server.bodies) == 12
    assert server.most == 4
    body = server.bodies[0]
    assert body["prompt"] == [BOS, *map(ord, "question a")]
    assert body["temperature"] == 0
    assert set(ask.GREEDY) <= set(body)
    assert len({a.prompt_token_ids_sha256 for a in answers}) == 4


@pytest.mark.parametrize(
    ("fault", "words"),
    [("double", "begin-of-text token twice"), ("other_ids", "other token ids"), ("status", "HTTP 500: engine dead")],
)
def test_faults_are_errors_and_not_answers(fault: str, words: str) -> None:
    with serving(Server(**{fault: True})) as url, pytest.raises(QuantbenchError, match=words):
        ask.answers(url, "m", PROMPTS)


@pytest.mark.parametrize(
    ("faults", "opened"), [({}, False), ({"template": ""}, False), ({"template": "<think>\n"}, True)]
)
def test_a_thought_that_the_template_has_opened_is_known(faults: dict[str, str], opened: bool) -> None:
    with serving(Server(**faults)) as url:
        assert [a.thought_opened for a in ask.answers(url, "m", PROMPTS[:2])] == [opened] * 2


@pytest.mark.parametrize(("declared", "opened"), [(None, True), (True, True), (False, False)])
def test_the_template_is_told_whether_to_think(declared: bool | None, opened: bool) -> None:
    server = Server(thinks=True, max_model_len=4096)
    with serving(server) as url:
        answers = ask.answers(url, "m", PROMPTS[:2], thinking=declared, thinking_tokens=100 if declared else 0)
    assert server.told == (None if declared is None else {"enable_thinking": declared, "thinking": declared})
    assert [(a.thinking, a.thought_opened, a.concurrency) for a in answers] == [(declared, opened, 1)] * 2
    assert {body["max_tokens"] for body in server.bodies} == {108 if declared else 8}
    assert not any("chat_template_kwargs" in body for body in server.bodies), "the template was applied already"
    ends = [checks.thought("<think>" * a.thought_opened + a.output) for a in answers]
    assert ends == [{True: "ended", None: "open", False: "none"}[declared]] * 2


@pytest.mark.fault("a prompt with its thought is longer than the server takes", "named with the key to lower")
def test_a_thought_that_does_not_fit_is_named_with_its_key() -> None:
    with serving(Server(thinks=True, max_model_len=120)) as url, pytest.raises(QuantbenchError) as caught:
        ask.answers(url, "m", PROMPTS, thinking=True, thinking_tokens=100)
    assert "prompt a of 19 tokens, 8 of its answer and 100 of a thought do not fit" in caught.value.what
    assert "lower quality.thinking_tokens" in caught.value.remedy


def raw(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(body), body)


ODD: dict[str, tuple[bytes, str]] = {
    "redirect": (
        raw(b"", b"307 Go", b"Location: https://u:pw@h/x?k=1\r\n"),
        r"redirects \(HTTP 307\) to https://h/x\n",
    ),
    "a page": (raw(b"<html>"), "answered without a JSON object: <html>"),
    "a list": (raw(b"[1]"), "answered without a JSON object"),
    "another shape": (raw(b"{}"), r"JSON of another shape \('tokens'\)"),
    "packed": (raw(gzip.compress(b"{}"), more=b"Content-Encoding: gzip\r\n"), "JSON object, packed as gzip"),
    "a key told": (raw(b"no such key sk-1", b"401 No"), r"HTTP 401: no such key \[key\]"),
    "interim replies": (b"HTTP/1.1 100 Continue\r\n\r\n" * 99, "did not answer: more than 16 interim replies"),
    "too long": (raw(b" " * 5000), "more than 0 MiB"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_are_errors_in_words_and_nobody_is_followed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reply, words = ODD[name]
    monkeypatch.setattr(openai_api, "MOST_BYTES", 4000)
    with raw_server.server(raw_server.sends(reply)) as url, pytest.raises(QuantbenchError, match=words) as caught:
        ask.answers(url, "m", PROMPTS, key="sk-1")
    assert url in str(caught.value)
    assert "pw" not in str(caught.value)


def test_no_server_is_an_error() -> None:
    with pytest.raises(QuantbenchError, match="did not answer"):
        ask.answers("http://127.0.0.1:9", "m", PROMPTS)
