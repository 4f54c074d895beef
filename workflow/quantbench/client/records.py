"""Pure: what a connection saw of one request (`Exchange`), and what it amounts to (`RequestRecord`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# stale: a reused connection closed before any byte of the reply; the load client asks once more and never records it.
Ending = Literal["complete", "connect", "disconnected", "stale", "timeout", "too_long", "cancelled", "bad_http"]

ROW_FIELDS = (
    *("index", "prompt_id", "sent_ns", "first_ns", "last_ns", "end_ns", "prompt_tokens", "completion_tokens"),
    *("cached_tokens", "chunks", "first_chunk_tokens", "reads", "ok", "reason", "http_status"),
    *("finish_reason", "fingerprint"),
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a connection saw of one request: body bytes (HTTP framing removed) and when each read arrived.

    Times are nanoseconds of one monotonic clock. `parts[i]` arrived at `times[i]`. `sent_ns` is null if
    nothing was sent.
    """

    index: int
    prompt_id: str
    sent_ns: int | None
    end_ns: int | None
    times: Sequence[int]
    parts: Sequence[bytes]
    status: int | None
    ending: Ending
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request. Times are monotonic ns since the block's clock zero; null where it never happened.

    `first_chunk_tokens` are the tokens that had arrived by `first_ns`: all of the first read that carried
    any, since chunks of one read share their arrival time. `reads` counts the reads that carried tokens,
    `chunks` the messages that did.
    """

    index: int
    prompt_id: str
    sent_ns: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    end_ns: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    chunks: int = 0
    first_chunk_tokens: int = 0
    reads: int = 0
    ok: bool = False
    reason: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    fingerprint: str | None = None
    detail: str | None = None

    def row(self) -> dict[str, Any]:
        """The record as a row of `b{n}.parquet` (detail stays out)."""
        return {name: getattr(self, name) for name in ROW_FIELDS}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> RequestRecord:
        """The inverse of `row`."""
        return cls(**{name: row[name] for name in ROW_FIELDS})
