"""How late the event loop runs what is due. A read that waits for the loop is stamped that much too late."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from quantbench.records.request import Span

_PERIOD_S = 0.01
_STALL_NS = 50_000_000
"""Later than this the loop stood still: the process was stopped, swapped out, or had no core."""


class LagProbe:
    """A timer every 10 ms that notes by how much it was late. libuv's timers have a grain of 1 ms; so has this."""

    def __init__(self) -> None:
        self._late_ns: list[int] = []
        self.stalls: list[Span] = []  # when the loop stood still, in ns of the monotonic clock
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> LagProbe:
        self._loop = asyncio.get_running_loop()
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._look()  # a stall at the end of the block has its tick no more

    def _arm(self) -> None:
        self._due_ns = time.monotonic_ns() + int(_PERIOD_S * 1e9)
        self._timer = self._loop.call_later(_PERIOD_S, self._tick)

    def _tick(self) -> None:
        self._late_ns.append(self._look())
        self._arm()

    def _look(self) -> int:
        now = time.monotonic_ns()
        if now - self._due_ns >= _STALL_NS:
            self.stalls.append((self._due_ns, now))
        return now - self._due_ns

    def percentile_ms(self, q: int) -> float | None:
        """The lag as an order statistic; None before the first tick."""
        late = sorted(self._late_ns)
        return max(0.0, late[min(len(late) - 1, len(late) * q // 100)] / 1e6) if late else None
