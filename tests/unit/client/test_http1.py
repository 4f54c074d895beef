"""The HTTP parser: any cut of a reply gives the same body; what is not HTTP is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.client.http1 import HttpError, ReplyParser

QUICK = settings(max_examples=80, deadline=None)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunked(pieces: list[bytes]) -> bytes:
    frames = [b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p]
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(frames) + b"0\r\n\r\n"


def feed(data: bytes, places: list[int]) -> tuple[ReplyParser, bytes]:
    edges = sorted({0, len(data), *(p % (len(data) + 1) for p in places)})
    parser = ReplyParser()
    return parser, b"".join(parser.feed(data[a:b]) for a, b in pairwise(edges))


@QUICK
@given(
    pieces=st.lists(st.binary(max_size=40) | st.just(b"x\r\n0\r\n\r\n"), max_size=8),
    places=st.lists(st.integers(0, 5000), max_size=30),
)
def test_chunked_replies(pieces: list[bytes], places: list[int]) -> None:
    parser, body = feed(chunked(pieces), places)
    assert (parser.status, parser.done, parser.keep_alive, body) == (200, True, True, b"".join(pieces))


@QUICK
@given(body=st.binary(max_size=90), places=st.lists(st.integers(0, 500), max_size=9))
def test_replies_with_a_length(body: bytes, places: list[int]) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"CONTENT-LENGTH: %d\r\n\r\n%b" % (len(body), body)
    parser, got = feed(data, places)
    assert (parser.done, got) == (True, body)


@QUICK
@given(pieces=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4), keep=st.integers(0, 5000))
def test_a_cut_reply_is_not_done(pieces: list[bytes], keep: int) -> None:
    data = chunked(pieces)
    parser, _ = feed(data[: keep % len(data)], [])
    assert not parser.end_of_stream()


def test_whole_chunks_take_the_fast_path() -> None:
    parser = ReplyParser()
    parser.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    assert [parser.feed(b"5\r\nhello\r\n"), parser.feed(b"3;ext=1\r\nabc\r\n0\r\n"), parser.done] == [
        b"hello",
        b"abc",
        False,
    ]
    assert parser.feed(b"Trailer: x\r\n\r\n") == b""
    assert parser.done


def test_a_reply_until_close_and_one_without_a_body() -> None:
    parser, body = feed(HEAD + b"\r\nrest", [])
    assert (parser.done, parser.end_of_stream(), parser.keep_alive, body) == (False, True, False, b"rest")
    assert feed(b"HTTP/1.1 204 No Content\r\n\r\n", [])[0].done


@pytest.mark.parametrize(
    "lines",
    [b"Connection: close", b"connection: keep-alive, Close", b"Connection: close\r\nConnection: x-foo"],
)
def test_close_is_found_in_any_list(lines: bytes) -> None:
    assert not feed(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 0\r\n\r\n" % lines, [])[0].keep_alive


def test_one_length_said_twice_is_one_length() -> None:
    assert feed(HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", [])[1] == b"ab"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.x9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        b"HTTP/1.1 200 OK\n",
        HEAD + b"Content-Length: 9\r\nContent-Length: 2\r\n\r\nab",
        HEAD + b"Content-Length: 0000000000000000002\r\n\r\nab",
        HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: notchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        HEAD + b"Content-Length: -4\r\n\r\n",
        HEAD + b"Content-Length: 2\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello world\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
        chunked([b"a"]) + b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 12_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 12_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    ],
)
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(HttpError):
        feed(data, [])


@pytest.mark.parametrize("line", [b"Location: /x y", b"location:/x y ", b"LOCATION:  /x y\r\nLocation: /z"])
def test_a_redirect_says_where_to_and_no_other_reply(line: bytes) -> None:
    reply = b"HTTP/1.1 %d A\r\nContent-Length: 0\r\n%b\r\n\r\n"
    assert [feed(reply % (code, line), [])[0].location for code in (200, 308, 500)] == [None, "/x y", None]


@QUICK
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_survived(parts: list[bytes]) -> None:
    parser = ReplyParser()
    try:
        for part in [b"HTTP/1.1 200 OK\r\n", *parts]:
            parser.feed(part)
    except HttpError:
        assert parser.status in (None, 200) or parser.status is not None
