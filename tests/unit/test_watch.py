"""What a server sends that breaks off is no page, and no traceback; no proxy is asked for it."""

from __future__ import annotations

import socket
import threading

import pytest
from quantbench.serving import vllm_client
from quantbench.serving.watch import Watch

BROKEN = {
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc",
    "no HTTP": b"\x16\x03 x\r\n\r\n",
    "nothing": b"",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 150 + b"\r\n",
    "cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
}


def serving(reply: bytes) -> str:
    """The URL of a server that sends these bytes to each of its first few connections."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        for _ in range(4):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

    threading.Thread(target=answer, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_reply_is_no_page_and_no_health(reply: bytes) -> None:
    url = serving(reply)
    assert Watch(url, None)._page() == ""
    assert vllm_client.healthy(url) is False
    assert vllm_client.version(url) is None
    with pytest.raises(vllm_client.ClientError, match="did not answer"):
        vllm_client.models(url)


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url = serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert Watch(url, None)._page() == "ok"
    assert vllm_client.healthy(url) is True
