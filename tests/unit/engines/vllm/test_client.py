"""What a server sends that breaks off is no page, and no traceback; no proxy is asked for it; nobody is followed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from quantbench.engines import api_key, openai_api
from quantbench.engines.vllm import client
from quantbench.errors import QuantbenchError
from raw_server import sends, server

HEAD = b"HTTP/1.1 200 OK\r\n"
BROKEN = {
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc",
    "no HTTP": b"\x16\x03 x\r\n\r\n",
    "nothing": b"",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 150 + b"\r\n",
    "huge header": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    "cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "huge size line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000,
    "a length beyond all memory": b"HTTP/1.1 200 OK\r\nContent-Length: 1152921504606846976\r\n\r\nabc",
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_reply_is_no_page_and_no_health(reply: bytes) -> None:
    with server(sends(reply, last=True)) as url:
        assert client.metrics_page(url) == ""
        assert openai_api.healthy(url) is False
        assert client.version(url) is None
        assert client.is_sleeping(url) is None
        with pytest.raises(openai_api.ClientError, match="did not answer"):
            openai_api.models(f"{url}/v1/models")


def test_a_proxy_of_the_environment_is_asked_for_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(sends(says({"data": [{"id": "m"}]}))) as url:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert "data" in client.metrics_page(url)
        assert openai_api.healthy(url) is True
        monkeypatch.setenv("http_proxy", url)
        assert "data" in client.metrics_page("http://far.example")


def says(value: Any, kind: bytes = b"application/json", status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    """A reply with this JSON, or these bytes."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, kind, more, len(body), body)


@contextmanager
def recording(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that keeps the head of each request."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heads.append(connection.recv(65536))
                    connection.sendall(reply)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.fault(
    "an endpoint redirects, to another host or to https",
    "an error at once that names where to; nobody is followed, so the API key goes to the named host only",
)
@pytest.mark.parametrize("status", [b"301 M", b"302 F", b"303 S", b"307 T", b"308 P"])
@pytest.mark.parametrize("post", [False, True])
def test_a_redirect_is_not_followed_and_named(status: bytes, post: bool) -> None:
    with recording(says({"data": []})) as (target, reached):
        place = target.replace("http://", "http://me:secret@").encode() + b"/v1/models?token=secret"
        with (
            recording(says(b"", status=status, more=b"Location: " + place + b"\r\n")) as (url, heads),
            pytest.raises(openai_api.ClientError) as caught,
        ):
            openai_api.request(f"{url}/v1/models", {"a": 1} if post else None, key="sk-1")
    assert b"Authorization: Bearer sk-1" in heads[0]
    assert reached == []
    error = caught.value
    assert error.lasting
    assert str(error) == f"{url}/v1/models redirects (HTTP {int(status[:3])}) to {target}/v1/models"
    assert f"set models.a.endpoint to {target}/v1 if" in openai_api.remedy(error, "models.a.endpoint")


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("https://h/v1/models", "https://h/v1/models"),
        ("/login?next=%2Fv1", "http://a:1/login"),
        ("//other/x#f", "http://other/x"),
        ("http://[bad", "http://[bad"),
        ("http://h/\x1b[2J\u202e", "http://h/\\x1b[2J\\u202e"),
        ("ftp://u:p@h/", "ftp://h/"),
    ],
)
def test_where_a_redirect_leads_is_shown_without_secrets(location: str, place: str) -> None:
    assert openai_api.place("http://a:1/v1/models", location) == place


PAGE = b"<!DOCTYPE html><html><title>Log in</title>" + b"<p>\x1b[31mWelcome</p>" * 50
PAGES: dict[str, tuple[bytes, str]] = {
    "HTML": (says(PAGE, b"text/html; charset=utf-8"), "answered with text/html; charset=utf-8, “<!DOCTYPE html>"),
    "text": (says(b"It works!", b"text/plain"), "answered with text/plain, “It works!”"),
    "nothing": (says(b""), "answered with application/json, “”"),
    "a list": (says([1, 2]), "“[1, 2]”"),
    "another app's JSON": (says({"status": "UP"}), "did not answer with a list of models"),
    "names in place of entries": (says({"data": ["m"]}), "did not answer with a list of models"),
    "another model": (says({"data": [{"id": "else"}]}), "serves else, not 'm'"),
    "packed": (says(b"\x1f\x8b", more=b"Content-Encoding: gzip\r\n"), "answered packed as gzip"),
    "deep JSON": (says(b"[" * 100_000), "and not with a JSON object"),
    "log-in asked for": (says(b"", status=b"401 No"), "HTTP 401"),
}


@pytest.mark.fault(
    "a web server that is no model server answers 200 on the port (a log-in page, another app)",
    "it is not called healthy; the message says what came, what was expected, and what to do",
)
@pytest.mark.parametrize("reply", PAGES.values(), ids=PAGES.keys())
def test_a_page_that_is_no_model_server_is_not_healthy(reply: tuple[bytes, str]) -> None:
    answer, words = reply
    with server(sends(answer)) as url:
        assert openai_api.healthy(url, "m") is False
        with pytest.raises(openai_api.ClientError) as caught:
            openai_api.check_model(url, "m")
    assert words in str(caught.value)
    assert caught.value.lasting
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.fault("a server ignores `stream: false`", "it is said that a stream came, and not that the URL is wrong")
def test_a_stream_in_place_of_one_object_is_named_as_that() -> None:
    came = b'data: {"choices": [{"text": " Paris"}]}\n\ndata: [DONE]\n\n'
    with server(sends(says(came, b"text/event-stream"))) as url, pytest.raises(openai_api.ClientError) as caught:
        openai_api.complete(url, "m")
    assert "answered with a stream" in str(caught.value)
    assert caught.value.lasting
    remedy = openai_api.remedy(caught.value, "models.a.endpoint")
    assert "`stream: false`" in remedy
    assert "models.a.endpoint" not in remedy


def test_a_server_that_is_loading_is_waited_for() -> None:
    for status in (b"503 Loading", b"429 Slow", b"500 Oh"):
        with server(sends(says(b"", status=status))) as url, pytest.raises(openai_api.ClientError) as caught:
            openai_api.check_server(url, "m")
        assert not caught.value.lasting
        assert "wait until it answers" in openai_api.remedy(caught.value, "--url")
    with pytest.raises(openai_api.ClientError) as caught:
        openai_api.check_server("http://127.0.0.1:9", "m")
    assert not caught.value.lasting


@pytest.mark.parametrize("health", [b"200 OK", b"404 None"])
def test_a_model_server_is_healthy(health: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for reply in (says(b"", b"text/plain", health), says({"data": [{"id": "x"}, {"id": "m"}]})) * 2:
                with listener.accept()[0] as connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert openai_api.healthy(url, "m", timeout=60)
        assert not openai_api.healthy(url, "other", timeout=60)
        thread.join()


def test_many_names_are_cut_and_the_nearest_come_first() -> None:
    names = [f"vendor/model-{i}" for i in range(300)] + ["Qwen/Qwen2.5-7B"]
    shown = openai_api.names_of(names, "Qwen/Qwen2.5-7b")
    assert shown.startswith("Qwen/Qwen2.5-7B, ")
    assert shown.endswith("and 293 more")
    assert openai_api.names_of([]) == "no model"


def pours(head: bytes, again: bytes, pause_s: float = 0.0) -> Callable[[socket.socket, int], bool]:
    """A handler that never comes to an end."""

    def handle(connection: socket.socket, _: int) -> bool:
        connection.sendall(head)
        while True:
            connection.sendall(again)
            time.sleep(pause_s)

    return handle


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "body": (HEAD + b"\r\n", b"x" * 65536),
    "chunks": (CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "interim replies": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
}


@pytest.mark.fault(
    "a reply to a control request (health, models, metrics) has no end",
    "given up at 16 MiB or at the timeout, however it is cut or however slowly it drips",
)
@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_reply_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "MOST_BYTES", 1 << 20)
    with server(pours(*ENDLESS[name])) as url, pytest.raises(openai_api.ClientError, match="longer than 1 MiB"):
        openai_api.request(f"{url}/metrics", timeout=60)


@pytest.mark.parametrize("head", [b"", HEAD + b"\r\n", CHUNKED + b"fffff\r\n"], ids=["head", "body", "chunk"])
def test_a_slow_drip_is_given_up(head: bytes) -> None:
    drip = b"HTTP/1.1 100 Continue\r\n\r\n" if not head else b"x"
    with server(pours(head, drip, pause_s=0.02)) as url, pytest.raises(openai_api.ClientError):
        openai_api.request(f"{url}/metrics", timeout=0.3)  # each read comes in time, the whole does not


def test_a_large_page_is_read_whole() -> None:
    page = b"# HELP x\n" * 100_000
    with server(sends(says(page, b"text/plain"))) as url:
        assert client.metrics_page(url) == page.decode()


def test_a_key_stands_in_no_message() -> None:
    echo = says({"error": "Incorrect API key sk-secret"}, status=b"401 No")
    with server(sends(echo)) as url, pytest.raises(openai_api.ClientError) as caught:
        openai_api.models(f"{url}/v1/models", "sk-secret")
    assert "[key]" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["a\r\nX: y", "schlüssel", "a\nb"])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(QuantbenchError) as caught:
        api_key.authorization(key)
    assert key not in str(caught.value)
    assert "OPENAI_API_KEY" in caught.value.remedy
    assert api_key.authorization("sk-1") == {"Authorization": "Bearer sk-1"}
    assert api_key.authorization(None) == api_key.authorization("") == {}


SHAPES: list[Any] = [
    {}, [], {"choices": []}, {"choices": [{}]}, {"choices": None}, {"choices": {"0": 1}}, {"choices": [None]},
    {"choices": [{"message": None}]}, {"error": {"message": "no"}, "choices": [{"text": "x"}]}, {"choices": "abc"},
]  # fmt: skip


@pytest.mark.parametrize("value", SHAPES, ids=map(str, SHAPES))
def test_a_completion_of_another_shape_is_an_error_in_words(value: Any) -> None:
    with server(sends(says(value))) as url, pytest.raises(openai_api.ClientError, match="answered with"):
        openai_api.complete(url, "m")


def choice(tokens: list[str], likely: dict[str, float] | None) -> dict[str, Any]:
    """A completion of these tokens, each at log-probability -0.5, beside others."""
    told = None if likely is None else {"tokens": tokens, "top_logprobs": [{**likely, t: -0.5} for t in tokens]}
    return {"choices": [{"index": 0, "text": "".join(tokens), "logprobs": told}], "usage": {"completion_tokens": 3}}


BEFORE = " Paris. It is the capital"
CHANGED = {
    "one character": ([" !", "!", "!"], {" Paris": -30.0}),
    "uniform": (["abc", " de"], {"zz": -0.6, "qq": -0.6}),
    "the same first word, then nonsense": ([" Paris", "!!!", "!!"], {".": -12.0}),
    "no log-probabilities": ([" !", "!"], None),
    "no text": (["\ufffd"], {" Paris": -9.0}),
    "nothing": ([], {}),
}
SAME = {
    "the same": ([" Paris", ".", " It", " is", " the", " capital"], {}),
    "a near tie at the first token": ([" the", " city"], {" Paris": -0.6}),
    "a near tie later": ([" Paris", ",", " which"], {".": -0.9}),
    "a tie in other white space": (["Paris", ",", "which"], {".": -0.9}),
    "it ends earlier": ([" Paris", "."], {}),
    "it goes on where the old answer ended": ([" Paris", ".", " It", " is", " the", " capital", " of"], {}),
    "the same first word, no log-probabilities": ([" Paris", ",", " which"], None),
}


def test_an_answer_after_a_wake_up_is_judged_by_what_was_likely() -> None:
    found = {}
    for name, (tokens, likely) in {**CHANGED, **SAME}.items():
        with server(sends(says(choice(tokens, likely)))) as url:
            found[name] = client.changed_answer(url, "m", BEFORE)
    assert {name for name, words in found.items() if words} == set(CHANGED)
    assert "“Paris. It is the capital” at its start and “!!!” now" in found["one character"].replace(" !", "!")


def test_log_probabilities_that_are_no_numbers_are_a_changed_answer() -> None:
    nan = says({"error": {"message": "Out of range float values are not JSON compliant"}}, status=b"400 Bad")
    with server(sends(nan)) as url:
        assert "no numbers" in client.changed_answer(url, "m", BEFORE)
