"""The quality client against a small server that behaves as vLLM does, and then misbehaves."""

from __future__ import annotations

import gzip

import pytest
import raw_server
from answer_server import BOS, Server, serving
from quantbench.engines import openai_api
from quantbench.errors import QuantbenchError
from quantbench.quality import ask

PROMPTS = [{"id": i, "class": "fact", "prompt": f"question {i}", "max_tokens": 8, "checks": []} for i in "abcd"]


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
