"""Records of requests by hand: one by its times, and blocks of them in lockstep."""

from __future__ import annotations

from quantbench.records.request import RequestRecord

MS = 1_000_000


def request(
    sent: float = 0, first: float = 20, last: float = 65, *,
    tokens: int = 10, lead: int = 1, ok: bool = True, i: int = 0,
) -> RequestRecord:  # fmt: skip
    """A request by its times in ms; it ends 1 ms after its last token."""
    gaps = tokens - lead if last > first else 0
    return RequestRecord(
        index=i, prompt_id="p", sent_ns=int(sent * MS), first_ns=int(first * MS), last_ns=int(last * MS),
        end_ns=int((last + 1) * MS), prompt_tokens=5, completion_tokens=tokens, chunks=tokens, first_chunk_tokens=lead,
        reads=1 + gaps, gaps_us=(round((last - first) * 1000 / gaps),) * gaps if gaps else (), ok=ok,
        reason=None if ok else "timeout",
    )  # fmt: skip


def block(count: int, concurrency: int, *, length: float = 100, failed: int = 0) -> list[RequestRecord]:
    """Waves of `concurrency` lockstep requests; the last `failed` ones failed."""
    return [
        request(w := (i // concurrency) * (length + 1), w + 20, w + length, ok=i < count - failed, i=i)
        for i in range(count)
    ]
