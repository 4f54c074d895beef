"""Which comparisons are as precise as wanted, and what it takes to make the others so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from quantbench.records import codes
from quantbench.records.comparison import Comparison, Precision, PrecisionEntry
from quantbench.stats import MIN_PAIRS, blocks_needed, half_width

MOST_BLOCKS: Final = 40
"""The default of `refine.max_blocks`: a comparison that needs more blocks is out of reach, so fix the noise instead."""


def blocks_more(row: Comparison, target: float, most_blocks: int = MOST_BLOCKS) -> int | None:
    """Further pairs until the half-width is at most `target`: 0 where it is, None above `most_blocks` or unknown.

    A cell with too few valid pairs gets what is missing to a test, also in place of refused blocks. No other row
    without a CI is helped by more blocks: its blocks are too short, or its models are not to be compared.
    """
    width, n = half_width(row.ci_low, row.ci_high), row.n_pairs
    if width is None:
        return MIN_PAIRS - n if n < MIN_PAIRS else None
    if width <= target:
        return 0
    if row.by_start:
        return None
    need = blocks_needed(n, width, target, cap=most_blocks)
    return None if need is None else max(1, need - n)


def blocks_to_decide(row: Comparison, most_blocks: int = MOST_BLOCKS) -> int | None:
    """Further pairs until an undecided row's CI is as narrow as its margin, or, where it is, until it would decide.

    None above `most_blocks`.
    """
    width, n = half_width(row.ci_low, row.ci_high), row.n_pairs
    if width is None or row.ratio is None or row.by_start:
        return None
    need = blocks_needed(n, width, row.margin, cap=most_blocks)
    if need is not None and need <= n:
        mean = abs(math.log(row.ratio))
        bound = math.expm1(max(mean, math.log1p(row.margin) - mean))
        need = blocks_needed(n, width, bound, cap=most_blocks)
    return None if need is None else max(1, need - n)


def plan(
    rows: Sequence[Comparison],
    target: float | None,
    measured: Mapping[str, int] | None = None,
    planned_blocks: int | None = None,
    most_blocks: int = MOST_BLOCKS,
) -> Precision:
    """The comparisons sorted by what they lack.

    missing: more blocks reach it. out_of_reach: more than `most_blocks` would. untested: no CI, and more blocks give
    none. refused: not valid. measured: blocks on disk per cell key, valid or not. planned_blocks: `blocks` of the
    config, from which `extra_blocks` counts; {} where there is nothing to add, and without a target, when all is empty.
    """
    if target is None:
        return Precision(target=None, most_blocks=most_blocks)
    lists: dict[str, tuple[PrecisionEntry, ...]] = {}
    for row in _compared(rows):
        more = blocks_more(row, target, most_blocks)
        entry = PrecisionEntry(
            cell=row.cell.key,
            variant=row.variant,
            metric=row.metric,
            half_width=half_width(row.ci_low, row.ci_high),
            blocks_more=more,
            reasons=row.reasons,
        )
        name = _list_of(row, more)
        lists[name] = (*lists.get(name, ()), entry)
    needs = _needs(rows, target, most_blocks)
    extra = extra_blocks(needs, measured or {}, planned_blocks) if needs and planned_blocks else {}
    return Precision(target=target, most_blocks=most_blocks, **lists, extra_blocks=extra)


def _list_of(row: Comparison, more: int | None) -> Literal["reached", "missing", "out_of_reach", "untested", "refused"]:
    if row.code == "invalid":
        return "refused"
    if more is None:
        return "untested" if not row.has_ci else "out_of_reach"
    return "missing" if more else "reached"


def _compared(rows: Sequence[Comparison]) -> list[Comparison]:
    """All rows but those of a metric that was not measured at all, as energy is not without NVML."""
    return [row for row in rows if row.code == "invalid" or codes.code("not_measured") not in row.reasons]


def _needs(rows: Sequence[Comparison], target: float, most_blocks: int) -> dict[str, int]:
    """{cell key: further blocks} so that every reachable comparison gets its precision; even, as A B B A is."""
    needs: dict[str, int] = {}
    for row in _compared(rows):
        more = blocks_more(row, target, most_blocks)
        if more:
            needs[row.cell.key] = max(needs.get(row.cell.key, 0), more + more % 2)
    return needs


def extra_blocks(more: Mapping[str, int], measured: Mapping[str, int], planned_blocks: int) -> dict[str, int]:
    """The config's `extra_blocks` (beyond `blocks`) for `more` blocks on top of those on disk.

    Cells that have had more than `blocks` already are named too, so that the same line repeats the whole from nothing.
    """
    totals = {cell: max(measured.get(cell, 0), planned_blocks) + more.get(cell, 0) for cell in {**measured, **more}}
    return {cell: total - planned_blocks for cell, total in totals.items() if total > planned_blocks}


def next_round(
    rows: Sequence[Comparison],
    target: float,
    measured: Mapping[str, int],
    budget_seconds_left: float,
    seconds_per_block: float | Mapping[str, float],
    *,
    most_blocks: int = MOST_BLOCKS,
) -> dict[str, int]:
    """{cell key: blocks to add now} for the automatic mode; empty when all is reached or nothing fits the budget.

    measured: blocks on disk per cell. seconds_per_block: what one more block of a cell costs, all arms together.
    The cells nearest to their goal come first, and each gets all that it needs at once. Stopping depends on the width
    of the CIs only, never on whether a difference is significant; `stats.spread` pays for looking at the width.
    """
    wanted = _needs(rows, target, most_blocks)
    needs = {cell: min(more, most_blocks - measured.get(cell, 0)) for cell, more in wanted.items()}
    chosen: dict[str, int] = {}
    left = budget_seconds_left
    for cell, count in sorted(needs.items(), key=lambda item: (item[1], item[0])):
        price = seconds_per_block[cell] if isinstance(seconds_per_block, Mapping) else seconds_per_block
        fits = count if price <= 0 else min(count, int(max(left, 0.0) // price))
        if fits > 0:
            chosen[cell] = fits
            left -= fits * price
    return chosen
