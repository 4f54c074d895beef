"""Two runs compared: what differs between them, and per model and cell the ratio new / old (`quantbench compare`)."""

from __future__ import annotations

from typing import Final, Literal

from quantbench.records.base import OpenRecord, Record
from quantbench.records.cell import InCell
from quantbench.records.comparison import DECIDED, Code, InvalidBlock, RatioInterval

Outcome = Literal["fine", "worse", "undecided"]
Unit = Literal["start", "block"]


class KeptVerdict(OpenRecord, frozen=True, kw_only=True):
    """What is read of a run's verdict.json, of any version: the baseline."""

    baseline: str


class RunSide(Record, frozen=True, kw_only=True):
    """One of the two runs: its folder, what served, when it was measured, blocks and those that guards refused.

    drift_pct: the largest trend of a model over its blocks of a cell, as percent from the first to the last one;
    drift_of: where. None where no cell has enough blocks for a trend.
    """

    folder: str
    devices: tuple[str, ...] = ()
    vllm: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    first_block_at: str = ""
    last_block_at: str = ""
    blocks: int = 0
    blocks_invalid: int = 0
    drift_pct: float | None = None
    drift_of: str = ""


class RunDifference(Record, frozen=True, kw_only=True):
    """Something in which the runs differ. group: what declares it, beside `key` itself (`--varies`).

    severity: fail refuses the cells in which it is undeclared, warn does not. of: models, or model and cell.
    """

    key: str
    group: str
    detail: str
    severity: Literal["fail", "warn"]
    declared: bool
    of: tuple[str, ...]

    @property
    def refuses(self) -> bool:
        """Whether cells are refused for it."""
        return self.severity == "fail" and not self.declared


class RunRow(InCell, RatioInterval, frozen=True, kw_only=True):
    """One metric of one model in one cell: new / old with its 95 % CI, unpaired.

    baseline: None for the model itself; else the ratio is the change of model / baseline, each paired inside of its
    run. n_*: valid blocks (pairs); starts_*: starts of the server they are of, 0 where blocks do not tell. unit: of
    the interval. start_sd: of a log-value from start to start, as the runs show it; run_spread: from run to run, as
    given. undone_by: a drift of the machine between the runs, as a ratio above 1, that would undo a
    decision. code, p-values and margin as in a Comparison; p_run: one-sided, of being worse,
    corrected over all rows that decide; fails: worse by that, too, so that a run against an identical one is called
    worse in at most 5 %; blockers: undeclared differences that refuse the row.
    """

    model: str
    baseline: str | None = None
    metric: str
    old_value: float | None = None
    new_value: float | None = None
    ratio: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_old: int = 0
    n_new: int = 0
    starts_old: int = 0
    starts_new: int = 0
    unit: Unit = "block"
    start_sd: float | None = None
    run_spread: float | None = None
    undone_by: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    p_equivalence: float | None = None
    p_run: float | None = None
    fails: bool = False
    family: int = 1
    margin: float
    code: Code
    likely: Literal["gain", "loss"] | None = None
    words: str = ""
    reasons: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()
    invalid_blocks: tuple[InvalidBlock, ...] = ()

    @property
    def gated(self) -> bool:
        """Whether it decides the outcome: a tested metric of a model itself."""
        return self.baseline is None and self.code != "described"

    @property
    def decided(self) -> bool:
        """Whether there is an answer."""
        return self.code in DECIDED


RUN_COLUMNS: Final = tuple(name for name in RunRow.__struct_fields__ if name != "invalid_blocks")
"""Columns of compare.csv."""


class TwoRuns(Record, frozen=True, kw_only=True):
    """`quantbench compare`: both runs, what differs, the rows, and cells of one only ("int8 chat/c1_t32").

    run_spread: as it was given, None where it was not. absent: what was declared to vary and does not. subset:
    whether the new run may lack cells of the old one.
    """

    old: RunSide
    new: RunSide
    margin: float
    run_spread: float | None = None
    varies: tuple[str, ...] = ()
    subset: bool = False
    absent: tuple[str, ...] = ()
    differences: tuple[RunDifference, ...] = ()
    rows: tuple[RunRow, ...] = ()
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()

    @property
    def gated(self) -> list[RunRow]:
        """The rows that decide."""
        return [row for row in self.rows if row.gated]

    @property
    def outcome(self) -> Outcome:
        """worse goes before undecided; what is refused, has no test or is gone from the new run is undecided."""
        found = outcome(self.gated)
        return "undecided" if found == "fine" and self.only_old and not self.subset else found


def outcome(rows: list[RunRow]) -> Outcome:
    """What several rows come to."""
    if any(row.fails for row in rows):
        return "worse"
    return "fine" if rows and all(row.decided and row.code != "worse" for row in rows) else "undecided"
