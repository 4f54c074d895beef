"""Edge: the same `Connection` interface through aiohttp: https, proxies, and a second opinion on `wire`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from quantbench.client.records import Ending, Exchange


class AiohttpConnection:
    """A `Connection` on a session of its own, so that each slot keeps its socket."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.opened = 0
        self._url, self._headers = url, headers
        self._session: aiohttp.ClientSession | None = None

    @property
    def connected(self) -> bool:
        return self._session is not None

    async def connect(self) -> None:
        """Open the session and a first connection by one HEAD request. Raises OSError."""
        await self.close()
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._count)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=3600),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            headers=self._headers,
            trust_env=True,
            trace_configs=[trace],
            read_bufsize=1 << 20,
        )
        try:
            async with self._session.head(self._url) as reply:
                await reply.read()
        except aiohttp.ClientError as error:
            await self.close()
            raise OSError(str(error)) from error

    async def _count(self, *_: Any) -> None:
        self.opened += 1

    def start(self, index: int, prompt_id: str, body: bytes, timeout_s: float) -> asyncio.Task[Exchange]:
        """Send one request; see `wire.Connection`."""
        return asyncio.ensure_future(self._post(index, prompt_id, body, timeout_s))

    async def _post(self, index: int, prompt_id: str, body: bytes, timeout_s: float) -> Exchange:
        assert self._session is not None, "connect() first"
        times: list[int] = []
        parts: list[bytes] = []
        status: int | None = None
        ending: Ending = "complete"
        detail = ""
        sent_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(timeout_s), self._session.post(self._url, data=body) as reply:
                status = reply.status
                async for piece in reply.content.iter_any():
                    times.append(time.monotonic_ns())
                    parts.append(piece)
        except TimeoutError:
            ending, detail = "timeout", f"no end after {timeout_s:g} s"
        except aiohttp.ClientConnectorError as error:
            ending, detail = "connect", str(error)
        except (aiohttp.ClientResponseError, ValueError) as error:  # no HTTP, or a URL that is none
            ending, detail = "bad_http", str(error)
        except (aiohttp.ClientError, OSError) as error:
            ending, detail = "disconnected", str(error)
        return Exchange(index, prompt_id, sent_ns, time.monotonic_ns(), times, parts, status, ending, detail)

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
