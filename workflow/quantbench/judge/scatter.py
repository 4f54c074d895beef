"""Why blocks scatter: does it go with what the host did, or with the card's clock? Offered as an explanation, no more.

Within each arm's cell the blocks should be alike. Where they are not, their throughput is ranked against each fact of
the host; the cells are then taken together (`stats.rank_trend`), as each alone has few blocks. Only the direction that
would explain something counts, and only a fact that varies enough to matter. Two things that both drift through a
session go together without either causing the other: so a fact that passes is offered, and never called the cause.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Final

from quantbench.judge.siblings import rates
from quantbench.records.block import BlockContext
from quantbench.records.measurement import Offered, Scatter, ScatteredCell
from quantbench.stats import MIN_PAIRS, rank_trend

SCATTERED: Final = 0.03
"""Standard deviation of ln(tok/s) from which a cell's blocks scatter: six pairs then give a half-width above 4 %."""
MIN_BLOCKS: Final = 6
"""Blocks that a rank correlation needs, over all cells."""
STRONG: Final = 0.4
"""A weaker correlation explains too little, however sure it is."""
ALPHA: Final = 0.05
"""Chance of any false offer, over all facts."""


@dataclass(frozen=True)
class Fact:
    """What may explain scatter: `sign` is that of its correlation with throughput; below `least` it did not vary."""

    name: str
    read: Callable[[BlockContext], float | None]
    sign: int
    least: float


def _log(value: float | None) -> float | None:
    return math.log(value) if value else None


FACTS: Final = (
    Fact("steal_share", lambda b: b.host.steal_share, -1, 0.01),
    Fact("foreign_cpu_cores", lambda b: b.host.foreign_cpu_share, -1, 0.02),
    Fact("throttled_share", lambda b: b.host.throttled_share, -1, 0.01),
    Fact("cpu_freq_mhz", lambda b: _log(b.host.cpu_freq_mhz), 1, 0.01),
    Fact("sm_clock_mhz_mean", lambda b: _log(b.telemetry.sm_clock_mhz_mean), 1, 0.01),
)


def scatter(arms: Iterable[Sequence[BlockContext]]) -> Scatter:
    """What of `FACTS` goes with the scatter. arms: the judged blocks of one arm in one cell each."""
    found = [(cell, blocks) for blocks in arms if (cell := _cell(blocks))]
    trends = {fact: rank_trend(_ranked(fact, (blocks for _, blocks in found))) for fact in FACTS}
    asked = {fact: trend for fact, trend in trends.items() if trend.n >= MIN_BLOCKS and trend.tau is not None}
    offered = [
        Offered(fact=fact.name, tau=fact.sign * trend.tau, p_value=p, blocks=trend.n)
        for fact, trend in asked.items()
        if trend.tau is not None and (p := min(1.0, len(asked) * trend.p_value)) < ALPHA and trend.tau >= STRONG
    ]
    return Scatter(
        cells=tuple(cell for cell, _ in found),
        asked=tuple(fact.name for fact in asked),
        offered=tuple(sorted(offered, key=lambda one: one.p_value)),
    )


def _cell(blocks: Sequence[BlockContext]) -> ScatteredCell | None:
    """The cell, if its valid blocks scatter."""
    known = rates(blocks)
    sd = stdev(math.log(rate) for _, rate in known) if len(known) >= MIN_PAIRS else 0.0
    if sd < SCATTERED:
        return None
    return ScatteredCell(model=blocks[0].arm, **blocks[0].cell.columns, blocks=len(known), sd=round(sd, 4))


def _ranked(fact: Fact, cells: Iterable[Sequence[BlockContext]]) -> list[tuple[list[float], list[float]]]:
    """Per cell in which the fact varies: its values, turned so that more explains more, and the throughputs."""
    groups = []
    for blocks in cells:
        pairs = [(fact.sign * value, rate) for block, rate in rates(blocks) if (value := fact.read(block)) is not None]
        values = [value for value, _ in pairs]
        if len(pairs) >= MIN_PAIRS and max(values) - min(values) >= fact.least:
            groups.append((values, [rate for _, rate in pairs]))
    return groups
