"""Plain requests that every OpenAI-compatible server answers: is it well, what does it serve, one completion.

The only HTTP client beside those that measure (`client/wire`, `client/aiohttp_wire`, `quality/ask`).
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from quantbench.records.server import Completion

Json = dict[str, Any]

TEST_PROMPT = "The capital of France is"
KEY = "OPENAI_API_KEY"
"""The variable with the key of servers that want one; never part of a configuration, which is printed and kept."""
TLS_REMEDY = (
    "for a certificate of your own, name its CA's file in SSL_CERT_FILE; for a server without TLS, write http://"
)


class ClientError(Exception):
    """The server did not answer, or not with success; the message says how.

    status: of an HTTP answer, else None. tls: what is wrong with the TLS of the server, else None.
    """

    def __init__(self, message: str, status: int | None = None, tls: ssl.SSLError | None = None) -> None:
        super().__init__(message)
        self.status, self.tls = status, tls


def is_loopback(url: str) -> bool:
    """True for a server on this machine: no proxy stands between, whatever the environment says."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def request(
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    post: bool = False,
    timeout: float = 10.0,
    key: str | None = None,
) -> bytes:
    """GET, or POST with a JSON body; returns the body of a 2xx answer, raises ClientError for all else.

    key: the API key; None takes that of the environment.
    """
    data = json.dumps(body).encode() if body is not None else b"" if post else None
    headers = ({"Content-Type": "application/json"} if body is not None else {}) | authorization(key)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({} if is_loopback(url) else None))
        with opener.open(urllib.request.Request(url, data=data, headers=headers), timeout=timeout) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        body_start = error.read(300).decode(errors="replace")
        raise ClientError(f"{url} answered HTTP {error.code}: {body_start}", error.code) from error
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        tls = reason if isinstance(reason, ssl.SSLError) else None
        raise ClientError(f"{url} did not answer: {reason or type(error).__name__}", tls=tls) from error


def api_key() -> str | None:
    """The key that the environment holds for servers that want one."""
    return os.environ.get(KEY, "").strip() or None


def authorization(key: str | None = None) -> dict[str, str]:
    """The header that goes with every request: this key, or the environment's."""
    return {"Authorization": f"Bearer {key}"} if (key := key or api_key()) else {}


def ask(url: str, body: Mapping[str, Any] | None = None, *, timeout: float = 10.0, key: str | None = None) -> Json:
    """The JSON object of a 2xx answer; see `request`."""
    try:
        value = json.loads(request(url, body, timeout=timeout, key=key))
    except ValueError as error:
        raise ClientError(f"{url} did not answer with JSON") from error
    if not isinstance(value, dict):
        raise ClientError(f"{url} did not answer with a JSON object")
    return value


def healthy(url: str, timeout: float = 2.0) -> bool:
    """Does /health (or, on servers without it, /v1/models) answer 200?"""
    for path in ("/health", "/v1/models"):
        try:
            request(url + path, timeout=timeout)
        except ClientError as error:
            if error.status == 404:
                continue
            return False
        return True
    return False


def models(url: str, key: str | None = None) -> list[str]:
    """Names in the list at `url` (…/v1/models). Raises ClientError if there is no such list."""
    listed = ask(url, key=key).get("data")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ClientError(f"{url} did not answer with a list of models")
    return [str(entry.get("id")) for entry in listed]


class Answer(NamedTuple):
    """One completion, and the fingerprint that came with it."""

    completion: Completion
    fingerprint: str | None


def complete(url: str, model: str, *, tokens: int = 16, timeout: float = 120.0) -> Answer:
    """One greedy completion of TEST_PROMPT, as a chat where all else is 404. Raises ClientError."""
    body = {"model": model, "max_tokens": tokens, "temperature": 0.0}
    start = time.monotonic()
    try:
        answer = ask(f"{url}/v1/completions", body | {"prompt": TEST_PROMPT}, timeout=timeout)
    except ClientError as error:
        if error.status != 404:
            raise
        start, turn = time.monotonic(), [{"role": "user", "content": TEST_PROMPT}]
        answer = ask(f"{url}/v1/chat/completions", body | {"messages": turn}, timeout=timeout)
    elapsed = time.monotonic() - start
    if "error" in answer or not answer.get("choices"):
        raise ClientError(f"{url}/v1/completions answered without a completion: {json.dumps(answer)[:300]}")
    choice = answer["choices"][0]
    completion = Completion(
        prompt=TEST_PROMPT,
        text=str(choice.get("text", (choice.get("message") or {}).get("content")) or ""),
        tokens=(answer.get("usage") or {}).get("completion_tokens"),
        e2e_ms=round(elapsed * 1000, 1),
    )
    return Answer(completion, answer.get("system_fingerprint"))
