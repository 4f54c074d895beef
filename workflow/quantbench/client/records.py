"""What a connection saw of one request, and what a block of load gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Literal

from quantbench.records.block import ClientFacts
from quantbench.records.request import RequestRecord, Span

KEPT_OF_A_FAILURE = 1 << 16
"""Bytes of a reply that are kept where no more of it is read: the words of a refusal."""

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

    def beginning(self) -> Exchange:
        """The same with no more than the first bytes of the reply."""
        first = b"".join(islice(self.parts, 1024))[:KEPT_OF_A_FAILURE]
        return replace(self, times=self.times[:1], parts=[first] if first else [])


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
