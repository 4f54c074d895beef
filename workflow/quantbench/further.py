"""Further blocks: after those of the plan, rounds for open answers until they are decided or the budget is spent.

Each round judges what lies on the disk, asks `judge.rounds` which cells get more, and has the processes of the lanes
measure them like any block. Nothing is remembered but the blocks, so a killed run goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from quantbench import ask_lane, order, results
from quantbench.config import settings
from quantbench.config.expected import of_run
from quantbench.judge import budget, rounds
from quantbench.kept import Kept
from quantbench.records.base import read
from quantbench.records.block import BlockContext, Calibration
from quantbench.records.cell import Cell
from quantbench.records.comparison import Verdict
from quantbench.records.layout import Results
from quantbench.records.measurement import Further
from quantbench.records.plan import ComparisonPlan
from quantbench.records.server import Ready
from quantbench.serving.agenda import Reference


class Rounds:
    """The rounds of one run.

    config: as jobs get it. budget_s: seconds per lane.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        comparison: ComparisonPlan,
        budget_s: float,
        ready: Mapping[str, Ready],
        calibrations: Sequence[Calibration],
    ) -> None:
        self._expected = of_run(config)
        self._plan, self._comparison, self._budget_s = self._expected.plan, comparison, budget_s
        self._ready, self._calibrations = ready, calibrations
        self._results = Results(self._plan.gpu)
        self._lanes = {arm: self._plan.lane_of(arm) for arm in self._plan.arms}
        self._schedule = order.of_plan(self._plan, settings.lane_modes(self._plan, self._results))

    def run(self) -> Further:
        """Measure until nothing is left to decide, or to spend. SystemExit if a block failed, as its job has said."""
        while True:
            kept = Kept(self._plan, self._results)
            counts = {arm: {c: kept.blocks(arm, c) for c in self._plan.cells(arm)} for arm in self._lanes}
            blocks, verdict = self._judged(counts)
            measured = {c.key: min(at[c] for at in counts.values() if c in at) for c in self._cells(counts)}
            spent, prices = budget.spent(blocks, self._plan.blocks), budget.prices(blocks, self._lanes)
            more = rounds.next_round(verdict, measured, self._budget_s - spent, prices)
            if not more:
                return self._told(verdict, measured, prices, spent)
            said = f"{spent / 60:.1f} of {self._budget_s / 60:g} min spent"
            print(f"quantbench: answers are open; further blocks per model: {_listed(more)}; {said}", file=sys.stderr)
            wanted = [
                (arm, cell, number)
                for cell in self._cells(counts)
                for arm, at in counts.items()
                if cell in at
                for number in range(at[cell] + 1, measured[cell.key] + more.get(cell.key, 0) + 1)
            ]
            kept.set_aside(("block", {"arm": a, **c.columns, "block": n}, False) for a, c, n in wanted)
            try:
                self._measure(sorted(wanted, key=lambda block: -self._schedule.block(*block)), f"further, {said}")
            finally:
                kept.put_back()

    def _cells(self, counts: Mapping[str, Mapping[Cell, int]]) -> list[Cell]:
        return list(dict.fromkeys(cell for at in counts.values() for cell in at))

    def _judged(self, counts: Mapping[str, Mapping[Cell, int]]) -> tuple[list[BlockContext], Verdict]:
        """All blocks of the grid, judged, and what they say."""
        places = [
            (cell, arm, n) for arm, at in counts.items() for cell, count in at.items() for n in range(1, count + 1)
        ]
        contexts, records = (
            [self._results.path(kind, cell, arm=arm, block=n) for cell, arm, n in places if self._is_kept(cell, arm, n)]
            for kind in ("block", "records")
        )
        declared = self._comparison.arms
        blocks = results.judged_blocks(contexts, self._ready, self._calibrations, self._expected, declared)
        return blocks, results.verdict_of(blocks, records, self._ready, self._comparison)

    def _is_kept(self, cell: Cell, arm: str, number: int) -> bool:
        """Of further blocks one may have been deleted; whoever pools them has it measured again."""
        return all(self._results.file(kind, cell, arm=arm, block=number).exists() for kind in ("block", "records"))

    def _measure(self, blocks: Sequence[tuple[str, Cell, int]], said: str) -> None:
        """On all lanes side by side, in this order."""
        queues: dict[str, list[Reference]] = {}
        for arm, cell, number in blocks:
            reference = (arm, cell.workload, cell.concurrency, cell.max_tokens, number)
            queues.setdefault(self._lanes[arm], []).append(reference)

        def left(lane: str) -> list[Reference]:
            measured = ask_lane.journal(lane)[ask_lane.MEASURED]
            return [block for block in queues[lane] if block not in measured]

        def on_lane(lane: str) -> bool:
            while blocks := left(lane):  # again for what was handed to a process that has ended
                if ask_lane.ask(lane, {"blocks": blocks, "next": None, "progress": said}):
                    return False
            return True

        with ThreadPoolExecutor(len(queues) or 1) as pool:
            if not all(pool.map(on_lane, queues)):
                sys.exit(1)

    def _told(
        self, verdict: Verdict, measured: Mapping[str, int], prices: Mapping[str, float], spent: float
    ) -> Further:
        planned = {cell.key: self._plan.blocks(cell) for cell in self._plan.cells(verdict.baseline)}
        rows = [row for row in rounds.asked(verdict) if row.cell.key in planned]
        return Further(
            budget_s=self._budget_s,
            spent_s=round(spent, 1),
            blocks={key: measured[key] - n for key, n in planned.items() if measured[key] > n},
            decided=sum(row.decided for row in rows),
            answers=len(rows),
            measured=dict(measured),
            prices={key: round(price, 1) for key, price in prices.items()},
        )


def _listed(more: Mapping[str, int]) -> str:
    return ", ".join(f"{n} of {key}" for key, n in more.items())


def run(
    config: Mapping[str, Any],
    comparison: ComparisonPlan,
    budget_s: float,
    ready: Sequence[Path | str],
    calibrations: Sequence[Path | str],
) -> Further:
    """`Rounds.run` on these files."""
    servers, known = results.by_model(ready, Ready), [read(path, Calibration) for path in calibrations]
    return Rounds(config, comparison, budget_s, servers, known).run()
