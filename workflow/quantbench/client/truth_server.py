"""A server whose timing is known exactly; the client is measured against it.

It sends tokens on a fixed schedule and logs, on the same monotonic clock that the client reads, when it got each
request and when it sent the first and the last token. What differs between its log and the client's records is the
client's error (and the kernel's). It stands in a process of its own: `with TruthServer(Schedule(...)) as server`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import heapq
import os
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import orjson
import uvloop

from quantbench.client.truth_stream import FAULTS, MODEL, Plan, Schedule, plan
from quantbench.engines.openai_api import request
from quantbench.errors import QuantbenchError

_EARLY_NS = 20_000  # what is due within 20 us is sent now: another wake-up would cost more
_LOG_FIELDS = ("key", "received_ns", "first_ns", "last_ns", "late_max_ns", "tokens")


class _TimerFd:
    """Linux timerfd: wakes the loop to some 50 us, where libuv's own timers have a grain of 1 ms."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise QuantbenchError("timerfd_create failed", remedy="the known-truth server needs Linux")

    def wake_at(self, due_ns: int) -> None:
        spec = struct.pack("qqqq", 0, 0, *divmod(max(1, due_ns), 1_000_000_000))
        self._libc.timerfd_settime(self.fd, 1, spec, None)  # 1: TFD_TIMER_ABSTIME

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)


class _Sender:
    """All streams in flight, by the time of their next token."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.log: list[tuple[Any, ...]] = []
        self.number = 0
        self._queue: list[tuple[int, int, _Stream]] = []
        self._order = 0
        self._timer = _TimerFd()
        self._armed_ns = 0
        asyncio.get_running_loop().add_reader(self._timer.fd, self._run)

    def add(self, stream: _Stream) -> None:
        self._push(stream.due_ns, stream)
        self._arm()

    def _push(self, due_ns: int, stream: _Stream) -> None:
        self._order += 1
        heapq.heappush(self._queue, (due_ns, self._order, stream))

    def _arm(self) -> None:
        if self._queue and self._queue[0][0] != self._armed_ns:
            self._armed_ns = self._queue[0][0]
            self._timer.wake_at(self._armed_ns)

    def _run(self) -> None:
        """Send all that is due."""
        self._timer.clear()
        self._armed_ns = 0
        queue = self._queue
        limit = time.monotonic_ns() + _EARLY_NS
        while queue and queue[0][0] <= limit:
            _, _, stream = heapq.heappop(queue)
            if stream.send_next():
                self._push(stream.due_ns, stream)
        self._arm()


class _Stream:
    """One reply on its way."""

    __slots__ = (*("connection", "due_ns", "first_ns", "key", "late_max_ns", "next_token", "plan", "received_ns"),)

    def __init__(self, connection: _Server, key: str, received_ns: int, reply: Plan) -> None:
        self.connection, self.key, self.received_ns, self.plan = connection, key, received_ns, reply
        self.due_ns = received_ns + reply.first_ns
        self.next_token = self.first_ns = self.late_max_ns = 0

    def send_next(self) -> bool:
        """Send the token that is due; True if another follows."""
        reply, connection = self.plan, self.connection
        if connection.transport is None:
            return False
        now = time.monotonic_ns()
        self.late_max_ns = max(self.late_max_ns, now - self.due_ns)
        if self.next_token < len(reply.tokens):
            connection.send(reply.tokens[self.next_token])
        if not self.next_token:
            self.first_ns = now
        self.next_token += 1
        if self.next_token < len(reply.tokens):
            self.due_ns += reply.step_ns
            return True
        connection.sender.log.append(
            (self.key, self.received_ns, self.first_ns, now, self.late_max_ns, reply.token_count)
        )
        connection.end(reply)
        return False


class _Server(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self, sender: _Sender) -> None:
        self.sender = sender
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._descriptor = -1
        self._unsent: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._descriptor = transport.get_extra_info("socket").fileno()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        received_ns = time.monotonic_ns()
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = head.split(b" ", 2)
        self._answer(method.decode(), path.decode(), rest[:length], received_ns)

    def _answer(self, method: str, path: str, body: bytes, received_ns: int) -> None:
        if method == "POST" and path.endswith("/completions"):
            request = orjson.loads(body)
            chat = path.endswith("/chat/completions")
            if request.get("model") not in (None, MODEL):
                message = {"error": {"message": f"The model `{request['model']}` does not exist.", "code": 404}}
                self._page("404 Not Found", message)
                return
            text = request["messages"][0]["content"] if chat else request["prompt"]
            key = str(text)[:24]
            reply = plan(self.sender.schedule, request, chat=chat, number=self.sender.number)
            self.sender.number += 1
            self.send(reply.head)
            self.sender.add(_Stream(self, key, received_ns, reply))
        elif path.startswith("/truth"):
            rows = [dict(zip(_LOG_FIELDS, row, strict=True)) for row in self.sender.log]
            self.sender.log.clear()
            self._page("200 OK", rows)
        elif path == "/v1/models":
            self._page("200 OK", {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self._page("200 OK" if path == "/health" else "404 Not Found", {}, with_body=method != "HEAD")

    def _page(self, status: str, value: Any, *, with_body: bool = True) -> None:
        body = orjson.dumps(value)
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.send(head.encode() + (body if with_body else b""))

    def send(self, data: bytes) -> None:
        """Straight to the socket, so that the logged time is the time of the system call."""
        if self.transport is None or not data:
            return
        sent = 0
        if not self.transport.get_write_buffer_size():
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.transport.abort()
                self.transport = None
                return
        if sent < len(data):
            self.transport.write(data[sent:])

    def end(self, reply: Plan) -> None:
        """Send the tail and do with the connection what the plan says."""
        self.send(reply.tail)
        if self.transport is None or reply.closing in ("keep", "hang"):
            return
        if reply.closing == "reset":
            linger = struct.pack("ii", 1, 0)  # close sends RST
            with socket.socket(fileno=os.dup(self._descriptor)) as duplicate:
                duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        else:
            self.transport.close()
        self.transport = None


async def _serve(schedule: Schedule) -> None:
    """Serve until standard input ends: so the server never outlives the process that started it."""
    loop = asyncio.get_running_loop()
    sender = _Sender(schedule)
    server = await loop.create_server(lambda: _Server(sender), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


class TruthServer:
    """The server in a process of its own, as a context manager."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self._schedule = schedule or Schedule()
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> TruthServer:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(self._schedule).items()]
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH", "")) if p)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "quantbench.client.truth_server", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise QuantbenchError("the known-truth server did not start", remedy="its message is above")
        self.url = f"http://127.0.0.1:{int(line)}"
        return self

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "not started"
        return self._process.pid

    def log(self) -> list[dict[str, Any]]:
        """The truth on the requests since the last call: key, received_ns, first_ns, last_ns, late_max_ns, tokens."""
        rows: list[dict[str, Any]] = orjson.loads(request(f"{self.url}/truth", timeout=30))
        return rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.communicate()


def main() -> None:
    """`python -m quantbench.client.truth_server --ttft-ms 20 ...`; prints its port."""
    parser = argparse.ArgumentParser(description=__doc__)
    for entry in fields(Schedule):
        kind = str if entry.name == "fault" else type(entry.default)
        parser.add_argument(f"--{entry.name.replace('_', '-')}", type=kind, default=entry.default)
    args = parser.parse_args()
    if args.fault not in FAULTS:
        parser.error(f"--fault must be one of {sorted(FAULTS)}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Schedule(**vars(args))))


if __name__ == "__main__":
    main()
