"""Which cells get further blocks, while there is time, until every answer on throughput is beyond doubt.

The planned blocks are the first look, each round after them another. A cell is left alone at an interim look only where
its answer is beyond doubt, p < 0.0002 for a difference or for equivalence; what the last look has is judged at 5 % as
if it had been the only one (Haybittle 1971, Peto 1976). Looks at so small a p cost almost nothing of the 5 %:
docs/measurement.md has the simulation. Nothing here may depend on whether an answer is there at 5 %: who stops at the
first p < 0.05 is wrong in 8 to 13 % instead of 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from quantbench.records.comparison import Comparison, LeftOpen, Verdict
from quantbench.records.metric import PER_GPU, SPEED
from quantbench.stats import MIN_PAIRS, t_quantile

ROUND: Final = 2
"""Blocks that a round adds per arm of a cell: A B B A stays balanced."""
BEYOND_DOUBT: Final = 0.0002
"""The p-value, uncorrected, below which no further block is spent on an answer."""


def next_round(
    verdict: Verdict, measured: Mapping[str, int], seconds_left: float, seconds_per_round: Mapping[str, float]
) -> dict[str, int]:
    """{cell key: blocks to add now, per arm}; empty: stop.

    measured: blocks on disk per cell, valid or not, of the arm that has fewest. seconds_per_round: what ROUND more
    blocks of a cell cost, all arms together. A cell without a price gets none, nor does one with
    `verdict.precision.most_blocks`. The declared cell comes first, then those that are cheapest to decide; one that the
    time does not suffice for gets a round only if it suffices for none.
    """
    declared = {row.cell.key for row in verdict.rows if row.primary}
    prices = {
        key: rounds * seconds_per_round[key]
        for key, rounds in _needs(verdict).items()
        if key in seconds_per_round and measured.get(key, 0) + ROUND <= verdict.precision.most_blocks
    }
    nearest = sorted(prices, key=lambda key: (key not in declared, prices[key], key))
    reached, total = [], 0.0
    for key in nearest:
        if total + prices[key] <= seconds_left:
            reached.append(key)
            total += prices[key]
    chosen: dict[str, int] = {}
    for key in reached or nearest:
        if seconds_per_round[key] <= seconds_left:
            chosen[key] = ROUND
            seconds_left -= seconds_per_round[key]
    return chosen


def explained(
    verdict: Verdict, measured: Mapping[str, int], seconds_left: float, seconds_per_round: Mapping[str, float]
) -> Verdict:
    """The verdict after the last round, with why its undecided answers got no more blocks; arguments as above."""

    def why(key: str) -> LeftOpen | None:
        if key not in seconds_per_round:
            return "not_measured"
        if measured.get(key, 0) + ROUND > verdict.precision.most_blocks:
            return "most_blocks"
        return "budget_spent" if seconds_per_round[key] > seconds_left else None

    wanted = {id(row) for row in asked(verdict)}
    rows = (
        replace(row, left_open=why(row.cell.key)) if id(row) in wanted and row.code == "undecided" else row
        for row in verdict.rows
    )
    return replace(verdict, rows=tuple(rows))


def asked(verdict: Verdict) -> Iterator[Comparison]:
    """The rows to be decided: throughput, per GPU where models use several numbers of them, and the declared one."""
    per_gpu = {(row.variant, row.cell) for row in verdict.rows if row.metric == PER_GPU}
    for row in verdict.rows:
        speed = PER_GPU if (row.variant, row.cell) in per_gpu else SPEED
        if row.primary or row.metric == speed:
            yield row


def _needs(verdict: Verdict) -> dict[str, int]:
    """{cell key: rounds until another of its answers is beyond doubt}, without the cells where they all are.

    One variant that is like the baseline, and would take hundreds of blocks, is no reason to leave the others open.
    """
    needs: dict[str, int] = {}
    for row in asked(verdict):
        if rounds := _rounds(row):
            needs[row.cell.key] = min(needs.get(row.cell.key, rounds), rounds)
    return needs


def _rounds(row: Comparison) -> int:
    """Rounds until a row's answer is beyond doubt at the scatter it has; 0 where it is, or where none would help."""
    if row.blockers:
        return 0
    if row.n_pairs < MIN_PAIRS:  # too few, or refused ones that others may replace
        return 1
    if row.ratio is None or row.sd is None or row.df is None or row.p_value is None or row.p_equivalence is None:
        return 0
    if min(row.p_value, row.p_equivalence) < BEYOND_DOUBT:
        return 0
    effect, bound = abs(math.log(row.ratio)), math.log1p(row.margin)
    ways = ((effect, BEYOND_DOUBT / 2), (bound - effect, BEYOND_DOUBT))
    pairs = min((t_quantile(1 - tail, row.df) * row.sd / gap) ** 2 for gap, tail in ways if gap > 0)
    return max(1, math.ceil((pairs - row.n_pairs) / ROUND))
