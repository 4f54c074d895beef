"""One keep-alive HTTP/1.1 connection that stamps every read on arrival; an asyncio protocol of our own.

Below aiohttp's response path on purpose: docs/decisions.md, "Load client transport", has the figures.
It speaks http:// only. https and proxies go through `aiohttp_wire`, which has the same interface.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from typing import Protocol, cast
from urllib.parse import urlsplit

from quantbench.client.http1 import HttpError, ReplyParser
from quantbench.client.records import Ending, Exchange
from quantbench.engines import openai_api

# A close this soon after the request was on its way before the server saw the request (an idle limit, or a server that
# does not say `Connection: close`); a later one is the server's answer.
_STALE_NS = 100_000_000


CONNECT_S = 30.0
MOST_OF_A_LINE = 1 << 20
"""Bytes without a line end after which a stream is given up: no event of one token is as long."""
_COST_OF_A_READ = 64
"""Bytes that each read takes besides what it brings: a stream of single bytes fills the memory by these."""


class Connection(Protocol):
    """What the load client needs of a transport: at most one request at a time on each."""

    opened: int

    @property
    def connected(self) -> bool: ...

    async def connect(self) -> None:
        """Open it. Raises OSError."""

    def start(self, index: int, prompt_id: str, body: bytes, timeout_s: float, most_bytes: int) -> Awaitable[Exchange]:
        """Send one request now; the result comes when its reply has ended, however it ended.

        A reply of more than `most_bytes` is given up ("too_long"), as it would fill the memory; so is one whose lines
        do not end within MOST_OF_A_LINE.
        """

    async def close(self) -> None: ...


def request_head(url: str, headers: dict[str, str]) -> bytes:
    """The head of a POST up to, and without, the value of Content-Length."""
    parts = urlsplit(url)
    path = parts.path or "/"
    lines = [
        f"POST {path}{'?' + parts.query if parts.query else ''} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Content-Length: ",
    ]
    return "\r\n".join(lines).encode()


def redirection(url: str, location: str | None) -> str:
    """What is told of a reply that leads elsewhere; empty for any other."""
    return f"redirects to {openai_api.place(url, location)}" if location else ""


class Lines:
    """Whether the lines of a stream end. Looked at once per MOST_OF_A_LINE, as that is often enough to bound them."""

    def __init__(self) -> None:
        self._from, self._bytes = 0, 0

    def endless(self, parts: Sequence[bytes]) -> bool:
        """Called after each part: is there no line end in the last MOST_OF_A_LINE bytes or more?"""
        self._bytes += len(parts[-1])
        if self._bytes <= MOST_OF_A_LINE:
            return False
        since, self._from, self._bytes = parts[self._from :], len(parts), 0
        return not any(b"\n" in part or b"\r" in part for part in since)


def closed_soon(sent_ns: int | None) -> bool:
    """Did a connection that is found closed now, without a byte of a reply, close without regard to the request?"""
    return sent_ns is not None and time.monotonic_ns() - sent_ns < _STALE_NS


class WireConnection(asyncio.Protocol):
    """A `Connection` on a plain socket."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self.opened = 0
        self._url, self._address = url, (parts.hostname or "", parts.port or 80)
        self._head = request_head(url, headers)
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._waiter: asyncio.Future[Exchange] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parser = ReplyParser()
        self._index, self._prompt_id, self._sent_ns = 0, "", 0
        self._fresh, self._heard, self._most_bytes = True, 0, 0
        self._times: list[int] = []
        self._parts: list[bytes] = []
        self._lines = Lines()

    @property
    def connected(self) -> bool:
        return self._transport is not None

    async def connect(self) -> None:
        """Open the socket. Raises OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            await loop.create_connection(lambda: self, *self._address)
        self.opened += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._fresh = True

    def start(
        self, index: int, prompt_id: str, body: bytes, timeout_s: float, most_bytes: int
    ) -> asyncio.Future[Exchange]:
        """Send one request. The stamp is taken right before the system call that sends it."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._timer = loop.call_later(timeout_s, self._finish, "timeout", f"no end after {timeout_s:g} s")
        self._parser, self._times, self._parts, self._lines = ReplyParser(), [], [], Lines()
        self._index, self._prompt_id = index, prompt_id
        self._heard, self._most_bytes = 0, most_bytes
        payload = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        self._sent_ns = time.monotonic_ns()
        if self._transport is None:
            self._gone("")
            return waiter
        try:
            # Straight to the socket: uvloop would send at the end of this turn of its loop, which at high
            # concurrency is milliseconds after the stamp. What does not fit goes the ordinary way.
            sent = os.write(self._descriptor, payload)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._gone(str(error))
            return waiter
        if sent < len(payload):
            self._transport.write(payload[sent:])
        return waiter

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._waiter is None:  # nothing was asked: this connection cannot be trusted any more
            self._drop()
            return
        self._heard += len(data) + _COST_OF_A_READ
        if self._heard > self._most_bytes:
            self._finish("too_long", f"the reply is longer than {self._most_bytes} bytes")
            return
        try:
            body = self._parser.feed(data)
        except HttpError as error:
            self._finish("bad_http", str(error))
            return
        if body:
            self._times.append(now)
            self._parts.append(body)
            if self._lines.endless(self._parts):
                self._finish("too_long", f"a line of the reply is longer than {MOST_OF_A_LINE} bytes")
                return
        if self._parser.done:
            self._finish("complete", redirection(self._url, self._parser.location))

    def eof_received(self) -> None:
        if self._waiter is not None:
            if self._parser.end_of_stream():
                self._finish("complete", redirection(self._url, self._parser.location))
            else:
                self._gone("")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._waiter is not None:
            self._gone(str(error or ""))

    def _gone(self, error: str) -> None:
        """The server has closed the connection before the end of a reply."""
        where = "closed within the reply" if self._heard else "closed before any byte of the reply"
        stale = not self._heard and not self._fresh and closed_soon(self._sent_ns)
        self._finish("stale" if stale else "disconnected", f"{where}: {error}" if error else where)

    def _finish(self, ending: Ending, detail: str) -> None:
        """Hand over the exchange; keep the connection only after a whole reply that allows it."""
        waiter, self._waiter = self._waiter, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fresh = False
        if ending != "complete" or not self._parser.keep_alive:
            self._drop()
        if waiter is not None and not waiter.done():
            end_ns = time.monotonic_ns()
            waiter.set_result(
                Exchange(
                    *(self._index, self._prompt_id, self._sent_ns, end_ns, self._times, self._parts),
                    *(self._parser.status, ending, detail),
                )
            )

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def close(self) -> None:
        """Close the socket; a request in flight is abandoned."""
        if self._waiter is not None:
            self._waiter.cancel()
            self._finish("cancelled", "")
        self._drop()
