"""The same `Connection` interface through aiohttp: https, proxies, and a second opinion on `wire`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from quantbench.client.http1 import MAX_INTERIM, HttpError
from quantbench.client.records import Ending, Exchange
from quantbench.client.wire import CONNECT_S, MOST_OF_A_LINE, Lines, closed_soon, redirection
from quantbench.engines.openai_api import is_loopback

# For the answer to the HEAD request that opens a connection: some servers never give one.
_HEAD_ANSWER_S = 5.0


class BoundedReply(aiohttp.ClientResponse):
    """A reply of a session that gives up on endless interim replies: aiohttp reads them for ever. Raises HttpError."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read its head."""
        protocol = connection.protocol
        read, left = protocol.read, MAX_INTERIM

        async def counted() -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise HttpError(f"more than {MAX_INTERIM} interim replies")
            return await read()

        protocol.read = counted
        try:
            return await super().start(connection)
        finally:
            del protocol.read


def _proxy(url: str) -> dict[str, Any]:
    """The environment's proxy for a URL, and no more: `trust_env` would add the user's ~/.netrc to the request."""
    with contextlib.suppress(LookupError):
        if not is_loopback(url):
            proxy, auth = get_env_proxy_for_url(URL(url))
            return {"proxy": proxy, "proxy_auth": auth}
    return {}


class AiohttpConnection:
    """A `Connection` on a session of its own, so that each slot keeps its socket."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.opened = 0
        self._url, self._headers = url, headers
        self._session: aiohttp.ClientSession | None = None
        self._sent_ns: int | None = None
        self._reused = False

    @property
    def connected(self) -> bool:
        return self._session is not None

    async def connect(self) -> None:
        """Open the session and a first connection by one HEAD request, whatever its answer. Raises OSError."""
        await self.close()
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._opened)
        trace.on_connection_reuseconn.append(self._kept)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=3600),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            auto_decompress=False,
            headers=self._headers,
            **_proxy(self._url),
            trace_configs=[trace],
            read_bufsize=1 << 20,
            response_class=BoundedReply,
        )
        before = self.opened
        limits = aiohttp.ClientTimeout(
            total=CONNECT_S + _HEAD_ANSWER_S, sock_connect=CONNECT_S, sock_read=_HEAD_ANSWER_S
        )
        try:
            async with self._session.head(self._url, allow_redirects=False, timeout=limits):
                pass
        except (aiohttp.ClientError, TimeoutError, HttpError) as error:
            if self.opened == before:
                await self.close()
                raise OSError(str(error)) from error

    async def _opened(self, *_: Any) -> None:
        """A connection is there, TLS and all, and the request is about to be written to it: it counts from here."""
        self.opened += 1
        self._reused, self._sent_ns = False, time.monotonic_ns()

    async def _kept(self, *_: Any) -> None:
        self._reused, self._sent_ns = True, time.monotonic_ns()

    def start(
        self, index: int, prompt_id: str, body: bytes, timeout_s: float, most_bytes: int
    ) -> asyncio.Task[Exchange]:
        """Send one request; see `wire.Connection`."""
        return asyncio.ensure_future(self._post(index, prompt_id, body, timeout_s, most_bytes))

    async def _post(self, index: int, prompt_id: str, body: bytes, timeout_s: float, most_bytes: int) -> Exchange:
        assert self._session is not None, "connect() first"
        times: list[int] = []
        parts: list[bytes] = []
        lines = Lines()
        status: int | None = None
        ending: Ending = "complete"
        detail = ""
        self._sent_ns = None
        post = self._session.post(self._url, data=body, allow_redirects=False)
        try:
            async with asyncio.timeout(timeout_s), post as reply:
                status, left = reply.status, most_bytes
                if (coding := reply.headers.get("Content-Encoding", "").strip().lower()) not in ("", "identity"):
                    raise HttpError(f"Content-Encoding {coding[:40]!r}, which nobody asked for")
                if 300 <= status < 400:
                    detail = redirection(self._url, reply.headers.get("Location"))
                async for piece in reply.content.iter_any():
                    times.append(time.monotonic_ns())
                    parts.append(piece)
                    left -= len(piece)
                    endless = lines.endless(parts)
                    if left < 0 or endless:
                        what = (
                            f"a line of the reply is longer than {MOST_OF_A_LINE}"
                            if endless
                            else (f"the reply is longer than {most_bytes}")
                        )
                        ending, detail = "too_long", f"{what} bytes"
                        reply.close()
                        break
        except TimeoutError:
            ending, detail = "timeout", f"no end after {timeout_s:g} s"
        except aiohttp.ClientConnectorError as error:
            ending, detail = "connect", str(error)
        except (aiohttp.ClientResponseError, ValueError) as error:  # no HTTP, or a URL that is none
            ending, detail = "bad_http", str(error)
        except (aiohttp.ClientError, OSError) as error:
            ending, detail = "disconnected", str(error)
            if status is None and self._reused and closed_soon(self._sent_ns):
                ending = "stale"
        return Exchange(index, prompt_id, self._sent_ns, time.monotonic_ns(), times, parts, status, ending, detail)

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
