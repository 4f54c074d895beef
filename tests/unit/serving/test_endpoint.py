"""Servers that are not ours, and not vLLM: behind a path, with a key, for chats only, with other lists of models."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace
from quantbench import block
from quantbench.engines import openai_api
from quantbench.errors import QuantbenchError
from quantbench.records.block import BlockKnobs
from quantbench.records.server import ServerSpec
from quantbench.serving import preflight, ready
from servers import fake_spec, own_home

KNOBS = BlockKnobs(
    protocol=1, workload="chat", style="interactive", concurrency=2, max_tokens=4, min_seconds=0.05, min_requests=2,
    warmup_requests=2, warmup_max_tokens=4, timeout_s=30.0, endpoint="completions", template=None,
)  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """A small OpenAI-compatible server: no /health, /metrics, /version or /tokenize."""

    protocol_version = "HTTP/1.1"
    prefix: ClassVar[str] = ""
    key: ClassVar[str] = ""
    chat_only: ClassVar[bool] = False
    models: ClassVar[Any] = {"data": [{"id": "org/m:7b"}]}
    asked: ClassVar[list[str]]
    moved: ClassVar[str] = ""

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, value: Any, kind: str = "application/json") -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def allowed(self, *paths: str) -> bool:
        self.asked.append(self.path)
        if self.moved:
            self.send_response(307)
            self.send_header("Location", self.moved + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            self.answer(401, {"error": {"message": "Incorrect API key"}})
        elif self.path not in [f"{self.prefix}/v1/{path}" for path in paths]:
            self.answer(404, {"error": {"message": "no such path"}})
        else:
            return True
        return False

    def do_GET(self) -> None:
        if self.allowed("models"):
            self.answer(200, self.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed("chat/completions", *([] if self.chat_only else ["completions"])):
            return
        chat, n = "chat" in self.path, body["max_tokens"]
        usage = {"prompt_tokens": 3, "completion_tokens": n, "total_tokens": n + 3}
        if not body.get("stream"):
            part = {"message": {"role": "assistant", "content": "x" * n}} if chat else {"text": "x" * n}
            self.answer(200, {"choices": [{"index": 0, "finish_reason": "length", **part}], "usage": usage})
            return
        parts = [{"delta": {"content": "x"}} if chat else {"text": "x"} for _ in range(n)]
        ends = [None] * (n - 1) + ["length"]
        chunks = [{"choices": [{"index": 0, "finish_reason": end, **p}]} for p, end in zip(parts, ends, strict=True)]
        lines = [json.dumps(chunk) for chunk in [*chunks, {"choices": [], "usage": usage}]]
        stream = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
        self.answer(200, stream.encode(), "text/event-stream")


@contextmanager
def serving(**traits: Any) -> Iterator[str]:
    """The server's root URL."""
    handler = type("Odd", (Handler,), {"asked": [], **traits})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{handler.prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv(openai_api.KEY, raising=False)
    with own_home(tmp_path, monkeypatch) as folder:
        (folder / "p.jsonl").write_text('{"prompt": "Why?"}\n')
        yield folder


def far(url: str) -> ServerSpec:
    return fake_spec(None, "far", endpoint=url, served_name="org/m:7b")


def measured(url: str, **knobs: Any) -> dict[str, Any]:
    """Metrics of one block on an endpoint, its record made as start_server makes it."""
    spec = far(url)
    asked = block.BlockSpec("far", 1, spec, replace(KNOBS, **knobs), "fake", Path("p.jsonl"))
    return block.measure(asked).parsed()[1].metrics


def refused(url: str) -> QuantbenchError:
    with pytest.raises(QuantbenchError) as caught:
        preflight.check_endpoint(far(url))
    assert "models.far.endpoint" in caught.value.what
    return caught.value


@pytest.mark.parametrize(
    ("traits", "ending", "knobs"),
    [
        *(({"prefix": prefix}, ending, {}) for prefix in ("", "/gateway/llm") for ending in ("", "/", "/v1", "/v1/")),
        ({"chat_only": True}, "", {"endpoint": "chat"}),
    ],
)
def test_a_server_behind_a_path_or_for_chats_only_is_measured_past_a_proxy(
    traits: dict[str, Any], ending: str, knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(**traits) as url:
        metrics = measured(url + ending, **knobs)
        assert ready.of_endpoint(far(url)).test_completion.text == "x" * 16
    assert metrics["failures"] == 0
    assert metrics["n"] >= 2


def test_a_server_that_wants_a_key_gets_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(key="sk-1") as url:
        error = refused(url)
        assert "HTTP 401" in error.what
        assert "export OPENAI_API_KEY" in error.remedy
        monkeypatch.setenv("OPENAI_API_KEY", " sk-1\n")
        assert measured(url)["failures"] == 0


@pytest.mark.parametrize("listed", [[], {"data": "m"}, {"data": ["m"]}, {}, b"<html>"])
def test_another_list_of_models_or_a_url_that_goes_too_far_is_an_error_in_words(listed: Any) -> None:
    with serving(models=listed) as url:
        assert f"{url}/v1/models" in refused(url).what
        assert "/v1" in refused(f"{url}/b").remedy


@pytest.mark.fault(
    "an endpoint redirects to another host",
    "refused before anything is measured, with the URL to set in its place; the other host is never asked",
)
def test_an_endpoint_that_redirects_is_named_with_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    with serving() as other, serving(moved=other) as url:
        error = refused(url)
        assert error.what.endswith(f"{url}/v1/models redirects (HTTP 307) to {other}/v1/models")
        assert error.remedy.startswith(f"set models.far.endpoint to {other}/v1 if")
        with pytest.raises(QuantbenchError, match="redirects"):
            ready.of_endpoint(far(url))
        assert measured(other)["failures"] == 0


def test_another_model_is_refused_with_the_names_that_are_served() -> None:
    with serving(models={"data": [{"id": "a\x1b[31m"}, {"id": "b"}]}) as url:
        error = refused(url)
        assert error.what == f"models.far.endpoint: {url} serves a\\x1b[31m, b, not 'org/m:7b'"
        assert "models.far.served_name" in error.remedy


def test_the_key_is_for_endpoints_and_never_for_a_server_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    ours = fake_spec(None, "ours")
    assert (openai_api.key_of(far("http://h")), openai_api.key_of(ours)) == ("sk-1", None)
    with serving(key="sk-1") as url:
        assert openai_api.healthy(url) is False  # it is asked without the key
        assert openai_api.models(f"{url}/v1/models", openai_api.key_of(far(url))) == ["org/m:7b"]


def test_tls_that_is_not_trusted_has_a_remedy_of_its_own() -> None:
    with serving() as url:
        assert refused(url.replace("http:", "https:")).remedy == openai_api.TLS_REMEDY


def test_what_nobody_tells_of_an_endpoint_has_its_reason() -> None:
    with serving() as url:
        facts = ready.of_endpoint(far(url))
    assert (facts.mode, facts.log, facts.vram, facts.hardware, facts.quantization.verified) == ("endpoint", *[None] * 4)
    for section in (facts.memory, facts.startup, facts.settings):
        nulls = {field for field, value in section.as_dict().items() if value is None}
        assert nulls == set(section.missing)
        assert all("not ours" in reason for reason in section.missing.values())
