"""A server on raw sockets: what it answers is up to the test, byte by byte."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile

Handler = Callable[[socket.socket, int], bool]


class _Talk(socketserver.StreamRequestHandler):
    """One connection: HEAD is answered with 405 (late, if `slow_head`), everything else by `handle`."""

    handle_request: Handler
    slow_head = False

    def handle(self) -> None:
        with suppress(OSError):
            number = 0
            while head := b"".join(takewhile(lambda line: line not in (b"\r\n", b""), self.rfile)):
                if head.startswith(b"HEAD"):
                    time.sleep(5 if self.slow_head else 0)
                    self.connection.sendall(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
                    continue
                self.rfile.read(int((head.lower().partition(b"content-length:")[2].split() or [0])[0]))
                if not type(self).handle_request(self.connection, number):
                    return
                number += 1


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads, block_on_close, allow_reuse_address = True, False, True


@contextmanager
def server(handle: Handler, *, slow_head: bool = False) -> Iterator[str]:
    """A server on raw sockets: `handle(connection, number of its request)` answers; False closes the connection."""
    talk = type("Talk", (_Talk,), {"handle_request": staticmethod(handle), "slow_head": slow_head})
    with _Server(("127.0.0.1", 0), talk) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def sends(reply: bytes, *, last: bool = False) -> Handler:
    """A handler that answers each request with these bytes; with `last` it then closes the connection."""

    def handle(connection: socket.socket, _: int) -> bool:
        connection.sendall(reply)
        return not last

    return handle
