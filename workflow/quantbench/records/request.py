"""One request as it is kept: a row of `raw/{arm}/{workload}/c{c}_t{t}/b{n}.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

FAILURES: Final[Mapping[str, str]] = {
    "connect": "no connection to the server",
    "disconnected": "the server closed the connection before the end of its reply",
    "timeout": "no end of the reply within `block.timeout_s` (of `quantbench load`: `--timeout`)",
    "too_long": "the reply, one of its lines, or all replies of the block are larger than a client may keep",
    "cancelled": "given up by the client itself, as when a run is interrupted",
    "http_4xx": "the server refuses the request: wrong model, key or field, too long a prompt, or too many requests",
    "http_5xx": "the server, or a proxy before it, is ill or busy",
    "in_band_error": "an error within a reply of status 200",
    "bad_stream": "what came is no stream of server-sent events as OpenAI's API has it",
    "truncated": "the stream ended without `[DONE]`",
    "no_tokens": "the stream is whole and has no text",
    "no_finish_reason": "the stream has text and `[DONE]`, and no finish_reason",
    "no_usage": "the server does not say how many tokens it sent, though every request asks for that "
    "(`stream_options.include_usage`)",
    "token_count": "usage says another number of tokens than were asked for, or than came",
}
"""Why a request is a failure: its `reason`, and what that means."""

Span = tuple[int, int]
"""(sent, end) in ns."""


class Window(NamedTuple):
    """A stretch of time in ns, both ends included."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request. Times are monotonic ns since the block's clock zero; null where it never happened.

    `first_chunk_tokens` are the tokens that had arrived by `first_ns`: all of the first read that carried
    any, since chunks of one read share their arrival time. `reads` counts the reads that carried tokens,
    `chunks` the messages that did; `gaps_us` are the times between successive such reads in µs, which is finer than the
    client's clock is true, and null in files of older versions. `detail` is what a server said of a failure; of each
    reason a block's context keeps the first.
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
    gaps_us: tuple[int, ...] | None = None
    detail: str | None = None

    def row(self) -> dict[str, Any]:
        """The record as a row of the parquet file."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS: Final = tuple(name for name in RequestRecord.__slots__ if name != "detail")
"""Columns of the parquet file, in order."""
LATER: Final = frozenset(("gaps_us",))
"""Columns that files of older versions lack."""


def spans(requests: Iterable[RequestRecord]) -> list[Span]:
    """(sent, end) of every request that was sent."""
    return [(r.sent_ns, r.end_ns) for r in requests if r.sent_ns is not None and r.end_ns is not None]
