"""A few plain requests to one OpenAI-compatible server: is it well, what is it, and vLLM's sleep and wake."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

Json = dict[str, Any]

TEST_PROMPT = "The capital of France is"
PROBES = (
    "Hello, world!", " leading space", "trailing space ", "two  spaces", "tab\tand\nnewline", "MiXeD CaSe WoRdS",
    "0123456789", "3.14159 and -2.7e10", "1 + 1 = 2", "def f(x):\n    return x ** 2", '{"key": [1, 2.5, null]}',
    "Grüße aus Zürich", "日本語のテキスト", "Привет, мир", "مرحبا", "emoji 🙂🚀", "e\u0301 combining", "<|im_start|>",
    "https://example.org/a?b=c#d", "",
)  # fmt: skip
"""Texts that tell tokenizers apart: white space, digits, code, scripts, a special token, nothing at all."""
CHAT_PROBE = [{"role": "user", "content": "Hello, world!"}]

_NOT_A_NUMBER = "Out of range float values are not JSON compliant"
"""What vLLM (0.32) answers in place of logprobs that are NaN."""

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
        said = error.read(300).decode(errors="replace")
        raise ClientError(f"{url} answered HTTP {error.code}: {said}", error.code) from error
    except (OSError, ValueError, HTTPException) as error:
        raise ClientError(f"{url} did not answer: {getattr(error, 'reason', error) or type(error).__name__}") from error


def api_key() -> str | None:
    """The key that the environment holds for servers that want one."""
    return os.environ.get(KEY, "").strip() or None


def authorization() -> dict[str, str]:
    """The header that goes with every request."""
    return {"Authorization": f"Bearer {key}"} if (key := api_key()) else {}


def _json(content: bytes, url: str) -> Json:
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


def version(url: str) -> str | None:
    """vLLM's version, None where the server does not tell."""
    try:
        return str(_json(request(f"{url}/version"), url)["version"])
    except (ClientError, KeyError):
        return None


def models(url: str) -> list[Json]:
    """Entries of /v1/models. Raises ClientError if there is no such list."""
    listed = _json(request(f"{url}/v1/models"), f"{url}/v1/models").get("data")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ClientError(f"{url}/v1/models did not answer with a list of models")
    return listed


def metrics(url: str, timeout: float = 10.0) -> str:
    """The /metrics page, "" where there is none."""
    try:
        return request(f"{url}/metrics", timeout=timeout).decode(errors="replace")
    except ClientError:
        return ""


def complete(url: str, model: str, *, prompt: str = TEST_PROMPT, tokens: int = 16, timeout: float = 120.0) -> Json:
    """One greedy completion, as a chat where all else is 404: {prompt, text, tokens, e2e_ms, system_fingerprint}."""
    body = {"model": model, "max_tokens": tokens, "temperature": 0.0}
    start = time.monotonic()
    try:
        answer = _json(request(f"{url}/v1/completions", body | {"prompt": prompt}, timeout=timeout), url)
    except ClientError as error:
        if error.status != 404:
            raise
        start, turn = time.monotonic(), [{"role": "user", "content": prompt}]
        answer = _json(request(f"{url}/v1/chat/completions", body | {"messages": turn}, timeout=timeout), url)
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


def logits(url: str, model: str, *, tokens: int = 4, timeout: float = 120.0) -> Json:
    """Are the log-probabilities of a short greedy answer numbers? {finite: true | false | null, seen, missing}.

    A model whose logits are NaN answers plain requests with success and empty text. Asked for logprobs, vLLM cannot
    write them as JSON and answers HTTP 400; others send null or NaN. Null where the server gives no logprobs at all.
    """
    body = {"model": model, "prompt": TEST_PROMPT, "max_tokens": tokens, "temperature": 0.0, "logprobs": 1}
    try:
        answer = _json(request(f"{url}/v1/completions", body, timeout=timeout), url)
        values = list(answer["choices"][0]["logprobs"]["token_logprobs"])
    except ClientError as error:
        return _logits(False if _NOT_A_NUMBER in str(error) else None, str(error))
    except (KeyError, IndexError, TypeError):
        return _logits(None, f"{url}/v1/completions gives no logprobs")
    finite = all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    return _logits(finite if values else None, f"logprobs of {len(values)} tokens: {', '.join(map(str, values))}")


def _logits(finite: bool | None, seen: str) -> Json:
    return {"finite": finite, "seen": seen, "missing": {"finite": seen} if finite is None else {}}


def _token_ids(url: str, **body: Any) -> list[int]:
    return [int(token) for token in _json(request(f"{url}/tokenize", body), url)["tokens"]]


def tokenizer(url: str, model: str) -> Json:
    """Fingerprints of the tokenizer: {probe_sha256, chat_probe_sha256, chat_bos_count, chat_is_plain}.

    `chat_bos_count` counts the tokenizer's begin-of-text token at the head of a chat prompt (2 is a known fault);
    `chat_is_plain`: a chat prompt has the ids of its bare text, so no template was applied. Null where not offered.
    """
    facts: Json = dict.fromkeys(("probe_sha256", "chat_probe_sha256", "chat_bos_count", "chat_is_plain"))
    try:
        ids = [_token_ids(url, model=model, prompt=text) if text else [] for text in PROBES]
        facts["probe_sha256"] = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
        plain = _token_ids(url, model=model, prompt=PROBES[0], add_special_tokens=False)
        head = [token for token in ids[0] if token not in plain][:1]
        chat = _token_ids(url, model=model, messages=CHAT_PROBE, add_generation_prompt=True)
        facts["chat_probe_sha256"] = hashlib.sha256(json.dumps(chat).encode()).hexdigest()
        facts["chat_is_plain"] = chat in (plain, ids[0])
        facts["chat_bos_count"] = _leading(chat, head[0]) if head and ids[0][0] == head[0] else 0
    except (ClientError, KeyError, TypeError, ValueError):
        pass
    return facts


def _leading(ids: list[int], token: int) -> int:
    return next((n for n, other in enumerate(ids) if other != token), len(ids))


def sleep(url: str, timeout: float = 60.0) -> float:
    """Send the server to sleep: weights to host memory, KV cache dropped; returns seconds."""
    start = time.monotonic()
    request(f"{url}/sleep?level=1", post=True, timeout=timeout)
    return time.monotonic() - start


def wake(url: str, timeout: float = 60.0) -> float:
    """Wake the server up; returns seconds."""
    start = time.monotonic()
    request(f"{url}/wake_up", post=True, timeout=timeout)
    return time.monotonic() - start


def is_sleeping(url: str) -> bool | None:
    """Does the server say that it sleeps? None where it does not tell."""
    try:
        return bool(_json(request(f"{url}/is_sleeping"), url)["is_sleeping"])
    except (ClientError, KeyError):
        return None
