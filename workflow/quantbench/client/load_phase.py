"""One phase of load (warm-up or the measured one): which request is next, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from quantbench.client.load_spec import LoadSpec, body_of, sampling
from quantbench.client.prompts import Prompt
from quantbench.client.records import Exchange

MOST_KEPT = 4 << 30
"""Bytes of replies that a block keeps until it is over; 20 000 tokens/s fill a fifth of it in two minutes."""


@dataclass
class Phase:
    """Issues the requests of one phase and decides when to stop.

    With `max_requests` it is exactly so many. Else it stops issuing once both minima are reached and a whole wave
    (`concurrency` requests) has been issued, so that all slots run dry together: a last wave of a few requests would
    lengthen the drain, in which the server is not at the asked concurrency, and its length would depend on chance.
    """

    spec: LoadSpec
    source: Iterator[Prompt]
    min_requests: int = 0
    min_seconds: float = 0.0
    max_requests: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    issued: int = 0
    bad: int = 0
    kept: int = 0
    resent: int = 0
    stopped: bool = False
    started_ns: int = 0

    def __post_init__(self) -> None:
        self.body = sampling(self.spec)

    def next(self) -> tuple[int, str, bytes] | None:
        """(index, prompt id, body) of the next request, or None when the phase is over."""
        if self.stopped or self._enough():
            self.stopped = True
            return None
        prompt = next(self.source)
        index = self.issued
        self.issued += 1
        return index, prompt.id, body_of(self.spec, self.body, prompt)

    def _enough(self) -> bool:
        if self.max_requests:
            return self.issued >= self.max_requests
        if not self.issued or self.issued % self.spec.concurrency:
            return False
        return self.issued >= self.min_requests and self.elapsed_s() >= self.min_seconds

    def duration_s(self) -> float:
        """From the start to the end of the last exchange."""
        return (max(exchange.end_ns or 0 for exchange in self.exchanges) - self.started_ns) / 1e9

    def elapsed_s(self) -> float:
        return (time.monotonic_ns() - self.started_ns) / 1e9

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange; give up on a server that answers mostly with failures, as nothing is learnt from it.

        Of a failure of which no more is read than its words, only these are kept.
        """
        size = sum(map(len, exchange.parts))
        if self.kept + size > MOST_KEPT:
            words = f"the replies of this block are more than {MOST_KEPT >> 20} MiB"
            exchange = replace(exchange, ending="too_long", detail=words)
        if exchange.ending == "too_long" or exchange.status != 200:
            exchange = exchange.beginning()
            size = sum(map(len, exchange.parts))
        self.kept += size
        self.exchanges.append(exchange)
        self.bad += exchange.status != 200 or exchange.ending != "complete"
        if self.bad >= max(16, 2 * self.spec.concurrency) and 2 * self.bad > len(self.exchanges):
            self.stopped = True
