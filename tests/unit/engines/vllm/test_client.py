"""What a server sends that breaks off is no page, and no traceback; no proxy is asked for it."""

from __future__ import annotations

import pytest
from quantbench.engines import openai_api
from quantbench.engines.vllm import client
from raw_server import sends, server

BROKEN = {
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc",
    "no HTTP": b"\x16\x03 x\r\n\r\n",
    "nothing": b"",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 150 + b"\r\n",
    "cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
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
    with server(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as url:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert client.metrics_page(url) == "ok"
        assert openai_api.healthy(url) is True
        monkeypatch.setenv("http_proxy", url)
        assert client.metrics_page("http://far.example") == "ok"
