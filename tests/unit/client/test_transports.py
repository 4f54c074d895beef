"""Both transports against servers that are odd on the socket: what they close, hold back, redirect and never end."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import raw_server
from quantbench.client import load_phase, load_spec, wire
from quantbench.client.load import run_block
from quantbench.client.load_checks import transport_for, unreachable
from quantbench.client.load_phase import Phase
from quantbench.client.load_spec import LoadSpec
from quantbench.client.records import KEPT_OF_A_FAILURE, BlockResult
from quantbench.engines.openai_api import is_loopback
from quantbench.errors import QuantbenchError
from raw_server import sends, server

BOTH = pytest.mark.parametrize("transport", ["wire", "aiohttp"])
PROMPTS: list[dict[str, Any]] = [{"id": "p", "prompt": "Question"}]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


BODY = b"".join(event(choices=[{"index": 0, "text": "x", "finish_reason": None}]) for _ in range(4)) + (
    event(choices=[{"index": 0, "text": "", "finish_reason": "length"}])
    + event(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def ask(url: str, transport: str, **over: Any) -> BlockResult:
    fields = {"min_requests": 4, "warmup_requests": 0, "timeout_s": 60.0, "transport": transport}
    return run_block(LoadSpec(url, "m", PROMPTS, 1, 4, **{**fields, **over}))  # type: ignore[arg-type]


whole, whole_once = sends(WHOLE), sends(WHOLE, last=True)


@pytest.fixture
def late_is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that a busy machine stalls sees a close late; that it is told from a slow server is another test's."""
    monkeypatch.setattr(wire, "_STALE_NS", 60 * 10**9)


@BOTH
@pytest.mark.usefixtures("late_is_soon")
def test_a_kept_connection_that_was_closed_silently_is_opened_anew_and_counted(transport: str) -> None:
    with server(whole_once) as url:
        result = ask(url, transport)
    assert [r.reason for r in result.records] == [None] * 4
    assert result.client.connections_opened >= 4
    assert result.client.resent <= 3


@pytest.mark.usefixtures("late_is_soon")
def test_a_request_that_a_kept_connection_loses_is_sent_once_more_with_a_new_stamp() -> None:
    def drops_the_second(connection: socket.socket, number: int) -> bool:
        time.sleep(0.5 if number else 0)
        return number == 0 and whole(connection, number)

    with server(drops_the_second) as url:
        result = ask(url, "wire")
    assert [r.reason for r in result.records] == [None] * 4
    assert result.client.resent == 3
    # All three waited for the loss; one that a busy machine delays as long is likely, three are not.
    assert min((r.first_ns or 0) - (r.sent_ns or 0) for r in result.records[1:]) < 0.5e9


@BOTH
def test_a_new_connection_that_is_closed_without_a_byte_is_a_failure(transport: str) -> None:
    with server(lambda connection, number: False) as url:
        result = ask(url, transport, min_requests=1)
    assert [r.reason for r in result.records] == ["disconnected"]
    if transport == "wire":
        assert result.records[0].detail == "closed before any byte of the reply"


def test_a_kept_connection_that_is_closed_late_is_a_failure() -> None:
    def thinks_then_drops(connection: socket.socket, number: int) -> bool:
        if number:
            time.sleep(0.2)
        return number == 0 and whole(connection, number)

    with server(thinks_then_drops) as url:
        result = ask(url, "wire", min_requests=2)
    assert [r.reason for r in result.records] == [None, "disconnected"]
    assert result.client.resent == 0


@BOTH
def test_a_stream_without_end_is_given_up(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pours(connection: socket.socket, number: int) -> bool:
        connection.sendall(HEAD + b"\r\n")
        while True:
            connection.sendall(b": nothing\n\n" * 6000)

    monkeypatch.setattr(load_spec.LoadSpec, "most_bytes", 1 << 20)
    with server(pours) as url:
        result = ask(url, transport, min_requests=1)
    assert [r.reason for r in result.records] == ["too_long"]


@BOTH
@pytest.mark.fault("a server or proxy compresses the stream, though asked not to", "a failed request that says so")
def test_a_compressed_stream_is_named(transport: str) -> None:
    head = WHOLE.partition(b"\r\n\r\n")[0].partition(b"Content-Length")[0] + b"Content-Encoding: gzip\r\n\r\n"
    with server(sends(head + gzip.compress(BODY), last=True)) as url:
        [record] = ask(url, transport, min_requests=1).records
    assert (record.reason, "Content-Encoding" in (record.detail or "")) == ("bad_stream", True)


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "a line": (HEAD + b"\r\n", b"data: " + b"x" * 65536, "too_long"),
    "a line in chunks": (CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n", "too_long"),
    "a line in one chunk": (CHUNKED + b"ffffffffff\r\n", b"x" * 65536, "too_long"),
    "a head": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 9999, "bad_stream"),
    "a header": (b"HTTP/1.1 200 OK\r\nA: ", b"b" * 65536, "bad_stream"),
    "a size line": (CHUNKED, b"0" * 65536, "bad_stream"),
    "interim replies": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 999, "bad_stream"),
    "an error page": (b"HTTP/1.1 500 Oh\r\n\r\n", b"<p>sorry</p>\n" * 6000, "http_5xx"),
}


@pytest.mark.fault(
    "a server streams without end, and without a line end",
    "each such reply is given up at 2 MiB as `too_long` (HTTP without end: `bad_stream`), and only its beginning kept",
)
@pytest.mark.parametrize("name", ENDLESS)
def test_nothing_without_end_fills_the_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, again, reason = ENDLESS[name]
    kept: list[int] = []

    def pours(connection: socket.socket, number: int) -> bool:
        connection.sendall(head)
        while True:
            connection.sendall(again)

    real = Phase.add
    monkeypatch.setattr(Phase, "add", lambda self, e: (real(self, e), kept.append(self.kept))[0])
    monkeypatch.setattr(load_spec.LoadSpec, "most_bytes", 4 << 20)
    with server(pours) as url:
        [record] = ask(url, "wire", min_requests=1).records
    assert (record.ok, record.reason) == (False, reason)
    assert kept[-1] <= KEPT_OF_A_FAILURE
    assert len(record.detail or "") <= 500


@pytest.mark.parametrize("name", ["a line", "a line in one chunk", "a header", "interim replies"])
def test_nothing_without_end_hangs_the_other_transport(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, again, _ = ENDLESS[name]

    def pours(connection: socket.socket, number: int) -> bool:
        connection.sendall(head)
        while True:
            connection.sendall(again)

    with server(pours) as url:
        [record] = ask(url, "aiohttp", min_requests=1).records
    assert (record.ok, record.reason) == (False, "too_long" if "line" in name else "bad_stream")


@BOTH
def test_a_long_event_among_others_is_read(transport: str) -> None:
    long = event(choices=[], usage=USAGE, more="x" * 900_000)
    with server(sends(WHOLE.partition(b"Content-Length")[0] + b"\r\n" + long + BODY, last=True)) as url:
        [record] = ask(url, transport, min_requests=1).records
    assert (record.ok, record.completion_tokens) == (True, 4)


def test_a_block_keeps_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_phase, "MOST_KEPT", 3 * len(BODY))
    with server(whole) as url:
        records = ask(url, "wire", min_requests=6).records
    assert [r.reason for r in records] == [None] * 3 + ["too_long"] * 3
    assert "the replies of this block are more than" in (records[-1].detail or "")


@BOTH
def test_compressed_replies_are_not_unpacked(transport: str) -> None:
    packed = gzip.compress(BODY)
    reply = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)
    with server(sends(reply)) as url:
        [record] = ask(url, transport, min_requests=1).records
    assert (record.reason, record.http_status) == ("bad_stream", 200)


@pytest.mark.fault(
    "a server under load redirects (307, 308)",
    "the block ends at once with an error that names where to; the API key goes to nobody else",
)
@BOTH
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed_and_end_the_block_at_once(transport: str, code: int) -> None:
    asked: list[int] = []

    def elsewhere(connection: socket.socket, number: int) -> bool:
        asked.append(number)
        connection.sendall(b"HTTP/1.1 %d Go\r\nLocation: http://u:pw@h/v1/x?k=1\r\nContent-Length: 0\r\n\r\n" % code)
        return True

    with server(elsewhere) as url, pytest.raises(QuantbenchError) as caught:
        ask(url, transport, min_requests=99, warmup_requests=None, api_key="sk-1")
    assert caught.value.what == f"{url} redirects to http://h/v1/x (HTTP {code})"
    assert "nothing follows redirects" in caught.value.remedy
    assert len(asked) == 1


def test_a_redirect_among_others_is_one_failure() -> None:
    def sometimes(connection: socket.socket, number: int) -> bool:
        moved = b"HTTP/1.1 302 Go\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(moved if number == 1 else WHOLE)
        return True

    with server(sometimes) as url:
        records = ask(url, "wire", min_requests=4).records
    assert [r.reason for r in records] == [None, "bad_stream", None, None]
    assert records[1].detail == f"redirects to {url}/login"


@BOTH
def test_a_key_that_a_server_quotes_stands_in_no_record_and_no_message(transport: str) -> None:
    words = b"no such key: sk-secret"
    reply = b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%b"
    with server(sends(reply % (500, len(words), words))) as url:
        [record, *_] = ask(url, transport, min_requests=1, api_key="sk-secret").records
    assert record.detail == "no such key: [key]"
    with server(sends(reply % (401, len(words), words))) as url, pytest.raises(QuantbenchError) as caught:
        ask(url, transport, min_requests=1, api_key="sk-secret")
    assert "sk-secret" not in str(caught.value)
    assert "OPENAI_API_KEY" in caught.value.remedy


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://me:hunter2@h/v1", "holds a user or a password"),
        ("http://me@h", "holds a user or a password"),
        ("http://me:hunter2@[bad", "holds a user or a password"),
        ("http://h/v1#x", "a part behind #"),
    ],
)
def test_a_url_that_says_too_much_is_refused_and_no_password_repeated(url: str, words: str) -> None:
    with pytest.raises(QuantbenchError, match=words) as caught:
        LoadSpec(url, "m", PROMPTS, 1, 1)
    assert "hunter2" not in str(caught.value)


def test_opening_a_connection_is_no_part_of_ttft_on_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    create = aiohttp.TCPConnector._create_connection

    async def slowly(*args: Any, **fields: Any) -> Any:
        await asyncio.sleep(0.5)
        return await create(*args, **fields)

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", slowly)
    with server(sends(WHOLE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), last=True)) as url:
        records = ask(url, "aiohttp", min_requests=4).records
    assert all(r.ok for r in records)
    # Each but the first opens a connection. A busy machine may delay one of them as long, but not all.
    assert min((r.first_ns or 0) - (r.sent_ns or 0) for r in records[1:]) < 0.5e9


def test_an_unanswered_head_request_does_not_hang_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantbench.client.aiohttp_wire._HEAD_ANSWER_S", 0.2)
    with server(whole, slow_head=True) as url:
        result = ask(url, "aiohttp", min_requests=2)
    assert [r.reason for r in result.records] == [None, None]


def test_loopback_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert transport_for(LoadSpec("http://127.0.0.1:1", "m", PROMPTS, 1, 1)).__name__ == "WireConnection"
    assert transport_for(LoadSpec("http://far.example", "m", PROMPTS, 1, 1)).__name__ == "AiohttpConnection"
    with server(whole) as url:
        assert all(r.ok for r in ask(url, "aiohttp").records)
    assert [is_loopback(f"http://{h}/v1") for h in ("localhost:1", "[::1]", "127.9.9.9", "10.0.0.1", "h")] == [
        *[True] * 3,
        *[False] * 2,
    ]


@pytest.mark.parametrize("key", [None, "sk-1"])
def test_a_proxy_is_asked_and_the_users_netrc_stays_at_home(
    key: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine far.example login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    heads: list[bytes] = []
    real = raw_server._Talk.handle

    def handle(self: Any) -> None:
        heads.append(self.connection.recv(4096, socket.MSG_PEEK))
        real(self)

    monkeypatch.setattr(raw_server._Talk, "handle", handle)
    with server(whole_once) as url:
        monkeypatch.setenv("http_proxy", url)
        [record] = ask("http://far.example/v1", "auto", min_requests=1, api_key=key).records
    assert record.ok
    assert heads[0].startswith(b"HEAD http://far.example/v1/completions")
    assert [b"Basic" in head or (b"Bearer sk-1" in head) != bool(key) for head in heads] == [False] * len(heads)


def test_tls_that_is_not_trusted_is_called_so() -> None:
    error = OSError("cannot connect")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    told = unreachable(LoadSpec("https://127.0.0.1:1", "m", PROMPTS, 1, 1), error)
    assert "TLS with https://127.0.0.1:1 fails" in told.what
    assert "SSL_CERT_FILE" in told.remedy
