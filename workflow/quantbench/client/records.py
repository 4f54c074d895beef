"""What a connection saw of one request, and what a block of load gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from quantbench.records.block import ClientFacts
from quantbench.records.request import RequestRecord, Span

# stale: a reused connection closed before any byte of the reply; the load client asks once more and never records it.
Ending = Literal["complete", "connect", "disconnected", "stale", "timeout", "too_long", "cancelled", "bad_http"]


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


@dataclass(frozen=True)
class BlockResult:
    """The records of one block, times relative to its clock zero; when that was, how long it took, and the client.

    stalls: when the client itself stood still, on the records' clock.
    """

    records: list[RequestRecord]
    started: datetime
    duration_s: float
    client: ClientFacts
    stalls: Sequence[Span] = ()
