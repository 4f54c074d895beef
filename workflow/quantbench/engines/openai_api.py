"""Plain requests that every OpenAI-compatible server answers: is it well, what does it serve, one completion."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

Json = dict[str, Any]

TEST_PROMPT = "The capital of France is"

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Without the proxies that the environment may name: servers are on this machine or named by URL."""
KEY = "OPENAI_API_KEY"
"""The variable with the key of servers that want one; never part of a configuration, which is printed and kept."""


class ClientError(Exception):
    """The server did not answer, or not with success; the message says how. `status`: of an HTTP answer, else None."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def request(url: str, body: Mapping[str, Any] | None = None, *, post: bool = False, timeout: float = 10.0) -> bytes:
    """GET, or POST with a JSON body; returns the body of a 2xx answer, raises ClientError for all else."""
    data = json.dumps(body).encode() if body is not None else b"" if post else None
    headers = ({"Content-Type": "application/json"} if body is not None else {}) | authorization()
    try:
        with _DIRECT.open(urllib.request.Request(url, data=data, headers=headers), timeout=timeout) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        body_start = error.read(300).decode(errors="replace")
        raise ClientError(f"{url} answered HTTP {error.code}: {body_start}", error.code) from error
    except (OSError, ValueError, HTTPException) as error:
        raise ClientError(f"{url} did not answer: {getattr(error, 'reason', error) or type(error).__name__}") from error


def api_key() -> str | None:
    """The key that the environment holds for servers that want one."""
    return os.environ.get(KEY, "").strip() or None


def authorization() -> dict[str, str]:
    """The header that goes with every request."""
    return {"Authorization": f"Bearer {key}"} if (key := api_key()) else {}


def parse_object(content: bytes, url: str) -> Json:
    """The JSON object that `url` answered with. Raises ClientError for anything else."""
    try:
        value = json.loads(content)
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


def models(url: str) -> list[Json]:
    """Entries of /v1/models. Raises ClientError if there is no such list."""
    listed = parse_object(request(f"{url}/v1/models"), f"{url}/v1/models").get("data")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ClientError(f"{url}/v1/models did not answer with a list of models")
    return listed


def complete(url: str, model: str, *, prompt: str = TEST_PROMPT, tokens: int = 16, timeout: float = 120.0) -> Json:
    """One greedy completion, as a chat where all else is 404: {prompt, text, tokens, e2e_ms, system_fingerprint}."""
    body = {"model": model, "max_tokens": tokens, "temperature": 0.0}
    start = time.monotonic()
    try:
        answer = parse_object(request(f"{url}/v1/completions", body | {"prompt": prompt}, timeout=timeout), url)
    except ClientError as error:
        if error.status != 404:
            raise
        start, turn = time.monotonic(), [{"role": "user", "content": prompt}]
        answer = parse_object(request(f"{url}/v1/chat/completions", body | {"messages": turn}, timeout=timeout), url)
    elapsed = time.monotonic() - start
    if "error" in answer or not answer.get("choices"):
        raise ClientError(f"{url}/v1/completions answered without a completion: {json.dumps(answer)[:300]}")
    choice = answer["choices"][0]
    return {
        "prompt": prompt,
        "text": choice.get("text", (choice.get("message") or {}).get("content")),
        "tokens": (answer.get("usage") or {}).get("completion_tokens"),
        "e2e_ms": round(elapsed * 1000, 1),
        "system_fingerprint": answer.get("system_fingerprint"),
    }
