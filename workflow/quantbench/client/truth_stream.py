"""What the known-truth server sends for one request, byte by byte, and at which offsets in time.

The wire format is vLLM's: continuous usage, token ids, a role-only first chunk for chat, one message per write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import orjson

from quantbench.errors import QuantbenchError

MODEL = "known-truth"
PROMPT_TOKENS = 16  # claimed for every prompt, so that streams of one length can share their bytes

FAULTS = {
    "": "none",
    "error": "an error inside the stream after `after` tokens, then [DONE], as vLLM ends a stream whose engine died",
    "late_error": "a whole stream, and an error behind its [DONE]",
    "truncate": "the HTTP body ends after `after` tokens, correctly framed",
    "cut": "the connection is closed after `after` tokens",
    "reset": "the connection is reset after `after` tokens",
    "hang": "nothing more comes after `after` tokens",
    "short": "the stream is whole, but one token fewer than asked",
    "no_usage": "usage is null throughout",
    "no_done": "the stream ends without [DONE]",
    "http_500": "HTTP 500 with a JSON error",
    "http_503": "HTTP 503 with an HTML page",
    "http_429": "HTTP 429 with an empty body",
    "http_400": "HTTP 400 with a JSON error, as for a prompt that is too long",
    "json": "status 200 and a plain JSON error instead of a stream",
    "garbage": "bytes that are no HTTP",
}

Closing = Literal["keep", "close", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When tokens are sent: the first after ttft_ms + U(0, jitter_ms), the others every itl_ms.

    `fault` strikes every `fault_every`-th request; `after` is where. A request may override any field by a body
    field "truth": {...}.
    """

    ttft_ms: float = 20.0
    jitter_ms: float = 0.0
    itl_ms: float = 5.0
    tokens_per_chunk: int = 1
    fault: str = ""
    after: int = 10
    fault_every: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes of one reply: `tokens[i]` is due at first_ns + i * step_ns after the request; then `tail` at once."""

    head: bytes
    tokens: tuple[bytes, ...]
    tail: bytes
    closing: Closing
    first_ns: int
    step_ns: int
    token_count: int


def plan(schedule: Schedule, body: Mapping[str, Any], *, chat: bool, number: int) -> Plan:
    """The reply to the `number`-th request. The jitter depends on the seed and that number only."""
    schedule = _overridden(schedule, body.get("truth"))
    fault = schedule.fault if (number + 1) % max(1, schedule.fault_every) == 0 else ""
    first_ns = int((schedule.ttft_ms + schedule.jitter_ms * _uniform(schedule.seed, number)) * 1e6)
    step_ns = int(schedule.itl_ms * schedule.tokens_per_chunk * 1e6)
    if fault in _PAGES:
        return Plan(b"", (), _PAGES[fault], "close" if fault == "garbage" else "keep", first_ns, 0, 0)
    wanted = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
    count = wanted - 1 if fault == "short" else wanted
    pieces = _pieces(chat, count, schedule.tokens_per_chunk, fault != "no_usage")
    tail = _tail(chat, count, fault)
    closing: Closing = "keep"
    if fault in ("error", "truncate", "cut", "reset", "hang"):
        pieces = pieces[: schedule.after // schedule.tokens_per_chunk]
        tail = {"error": _frame(_ERROR) + _frame(b"data: [DONE]\n\n") + _END, "truncate": _END}.get(fault, b"")
        closing = {"cut": "close", "reset": "reset", "hang": "hang"}.get(fault, "keep")  # type: ignore[assignment]
    head = _HEAD + (_frame(_message(True, "", 0, [], None, role=True)) if chat else b"")
    sent = min(count, len(pieces) * schedule.tokens_per_chunk)
    return Plan(head, pieces, tail, closing, first_ns, step_ns, sent)


def _overridden(schedule: Schedule, fields: Any) -> Schedule:
    if not isinstance(fields, Mapping):
        return schedule
    try:
        changed = replace(schedule, **fields)
    except TypeError as error:
        raise QuantbenchError(f"unknown schedule field: {error}") from error
    return changed


def _uniform(seed: int, number: int) -> float:
    """A number in [0, 1) that depends on its arguments only."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{number}".encode()).digest()[:4]) / 2**32


def _frame(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _page(status: str, kind: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        *(status.encode(), kind.encode(), len(body), body),
    )


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"
_JSON_ERROR = b'{"error":{"message":"EngineCore encountered an issue","type":"InternalServerError","code":500}}'
_ERROR = b"data: " + _JSON_ERROR + b"\n\n"
_PAGES = {
    "http_500": _page("500 Internal Server Error", "application/json", _JSON_ERROR),
    "http_503": _page("503 Service Unavailable", "text/html", b"<html><body>upstream is down</body></html>"),
    "http_429": _page("429 Too Many Requests", "text/plain", b""),
    "http_400": _page("400 Bad Request", "application/json", b'{"error":{"message":"prompt is too long"}}'),
    "json": _page("200 OK", "application/json", _JSON_ERROR),
    "garbage": b"\x15\x03\x01\x00\x02\x02\x16 this is not HTTP\r\n\r\n",
}


def _message(
    chat: bool, text: str, total: int, ids: list[int], finish: str | None, *, role: bool = False, usage: bool = True
) -> bytes:
    """One server-sent event as vLLM writes it."""
    content: dict[str, Any] = {"text": text}
    if chat:
        content = {"delta": {"role": "assistant", "content": ""} if role else {"content": text}}
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish, "token_ids": ids or None}
    counts = {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + total,
        "completion_tokens": total,
    }
    return b"data: %b\n\n" % orjson.dumps(
        {
            "id": "truth",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 0,
            "model": MODEL,
            "choices": [choice],
            "usage": counts if usage else None,
        }
    )


@lru_cache(maxsize=64)
def _pieces(chat: bool, count: int, per_chunk: int, usage: bool) -> tuple[bytes, ...]:
    """The token chunks of a whole stream of `count` tokens."""
    pieces = []
    for begin in range(0, count, per_chunk):
        ids = list(range(begin, min(begin + per_chunk, count)))
        end = begin + len(ids)
        text = "".join(f" t{i % 10}" for i in ids)
        finish = "length" if end == count else None
        pieces.append(_frame(_message(chat, text, end, ids, finish, usage=usage)))
    return tuple(pieces)


def _tail(chat: bool, count: int, fault: str) -> bytes:
    """What follows the last token: usage, [DONE], the end of the body."""
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + count,
        "completion_tokens": count,
    }
    last: dict[str, Any] = {
        "object": "chat.completion.chunk" if chat else "text_completion",
        "choices": [],
        "usage": usage,
        "system_fingerprint": MODEL,  # vLLM gives it here only
    }
    tail = b"" if fault == "no_usage" else _frame(b"data: %b\n\n" % orjson.dumps(last))
    tail += b"" if fault == "no_done" else _frame(b"data: [DONE]\n\n")
    return tail + (_frame(_ERROR) if fault == "late_error" else b"") + _END
