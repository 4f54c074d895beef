"""What further blocks cost, and what of the budget for them is spent: from the blocks themselves, by no clock.

So a run that was killed goes on with what is left of its budget.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final

from quantbench.judge.rounds import ROUND
from quantbench.records.block import BlockContext
from quantbench.records.cell import Cell

PAUSE_S: Final = 60.0
"""Seconds; a longer pause before a block was no part of measuring: the run was interrupted."""


def costs(blocks: Iterable[BlockContext]) -> list[tuple[BlockContext, float]]:
    """Each block with the seconds that it took: its duration, and the pause on its lane before it.

    A pause in which a server started does not count, nor one that is longer than PAUSE_S.
    """
    lanes: dict[str | None, list[BlockContext]] = defaultdict(list)
    for block in blocks:
        lanes[block.lane.lane].append(block)
    priced = []
    for some in lanes.values():
        end = None
        for block in sorted(some, key=lambda block: block.started_unix):
            pause = block.started_unix - end if end is not None else 0.0
            counts = 0 <= pause <= PAUSE_S and block.lane.action != "started"
            priced.append((block, block.duration_s + (pause if counts else 0.0)))
            end = block.started_unix + block.duration_s
    return priced


def spent(blocks: Iterable[BlockContext], planned: Callable[[Cell], int]) -> float:
    """Seconds that blocks beyond the plan took on the lane that measured longest; planned: blocks of a cell and arm."""
    lanes: dict[str | None, float] = defaultdict(float)
    for block, seconds in costs(blocks):
        if block.block > planned(block.cell):
            lanes[block.lane.lane] += seconds
    return max(lanes.values(), default=0.0)


def prices(blocks: Sequence[BlockContext], arms: Mapping[str, str]) -> dict[str, float]:
    """{cell key: seconds that ROUND more blocks of all its arms take}, lanes side by side.

    arms: {arm: lane}. Of what the blocks of the cell took so far; a cell without blocks has no price.
    """
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for block, cost in costs(blocks):
        if block.arm in arms:
            seconds[block.cell.key][block.arm].append(cost)
    priced = {}
    for key, by_arm in seconds.items():
        lanes: dict[str, float] = defaultdict(float)
        for arm, some in by_arm.items():
            lanes[arms[arm]] += ROUND * fmean(some)
        priced[key] = max(lanes.values())
    return priced
