"""What could still be wrong: conditions on the facts of a run, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from quantbench.judge import starts
from quantbench.judge.guards import device
from quantbench.judge.guards.base import Guard
from quantbench.records.cell import AA_SUFFIX, Cell
from quantbench.records.comparison import Verdict
from quantbench.records.finding import Finding, finding
from quantbench.records.run import Run

OLD_S: Final = 86_400.0
"""A calibration that is older than a day says little of today's machine."""


def doubts(run: Run) -> list[Finding]:
    """One finding per doubt, from what is absent or flagged in this run."""
    return [*_trust(run), *_coverage(run), *_telemetry(run), *_always(run)]


def interleaved(verdict: Verdict) -> tuple[int, int]:
    """(comparisons that were interleaved, comparisons of which it can be told): one pair alone has no order."""
    tellable = [row for row in verdict.rows if row.n_pairs > 1]
    return sum(row.interleaved for row in tellable), len(tellable)


def _trust(run: Run) -> Iterator[Finding]:
    if not run.trusted:
        yield finding("doubts.aa_differs")
    if not run.verdict.aa.present:
        yield finding("doubts.aa_absent")
    ordered, tellable = interleaved(run.verdict)
    if ordered < tellable:
        yield finding("doubts.not_interleaved")
    yield from starts.doubts(run.verdict)
    for drift in run.verdict.drift:
        if drift.flagged and drift.percent is not None:
            yield finding("doubts.drifted", by=drift.percent / 100, workload=drift.workload, cell=drift.cell.key)


def _coverage(run: Run) -> Iterator[Finding]:
    if n := sum(row.code == "no_test" for row in run.verdict.rows):
        yield finding("doubts.untested", n=n)
    undecided = [row for row in run.verdict.rows if row.code == "undecided"]
    if n := len(undecided):
        far = sum(row.blocks_to_decide is None for row in undecided)
        if not far:
            yield finding("doubts.undecided_near", n=n)
        elif far == n:
            yield finding("doubts.undecided_far", n=n, most=run.most_blocks)
        else:
            yield finding("doubts.undecided_both", n=n, near=n - far, far=far, most=run.most_blocks)
    if n := len(run.measurement.blocks.invalid):
        yield finding("doubts.refused", n=n)
    for one in run.measurement.far:
        values = {"arm": one.model, "workload": one.workload, "cell": one.cell.key, "block": one.block}
        yield finding("doubts.far_block", **values, rate=one.rate, usual=one.usual)
    if run.variants and not run.quality and not run.suites:
        yield finding("doubts.no_quality")
    if dummies := [model for model in run.models if run.plan.load_formats.get(model) == "dummy"]:
        yield finding("doubts.dummy", models=dummies)


def _telemetry(run: Run) -> Iterator[Finding]:
    of_card = {guard.id for guard in vars(device).values() if isinstance(guard, Guard)} if run.on_cpu else set()
    if run.on_cpu:
        yield finding("doubts.no_card")
    by_reason: dict[str, list[str]] = {}
    for name, reason in run.measurement.telemetry_missing.items() if not run.on_cpu else ():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield finding("doubts.unseen", fields=names, reason=reason)
    total = run.measurement.blocks.total
    for name, gap in run.measurement.telemetry_gaps.items():
        yield finding("doubts.unseen_in_part", field=name, n=gap.blocks, total=total, reason=gap.reason)
    age = run.measurement.calibration_age_s
    if age is not None and age > OLD_S:
        yield finding("doubts.calibration_old", age=age)
    silent = [
        guard.id
        for guard in run.measurement.guards
        if guard.unknown and not guard.ok + guard.fail + guard.warn and guard.id not in of_card
    ]
    if silent:
        yield finding("doubts.guards_unknown", guards=silent)


def _always(run: Run) -> Iterator[Finding]:
    yield finding("doubts.synthetic")
    first, last = ((at or "")[:10] for at in (run.measurement.first_block_at, run.measurement.last_block_at))
    yield finding("doubts.one_day") if first == last else finding("doubts.several_days", first=first, last=last)


class Again(NamedTuple):
    """A block to measure again, in all arms that it is paired with: measured side by side, pairs stay interleaved."""

    cell: Cell
    block: int
    arms: tuple[str, ...]


def measure_again(run: Run) -> list[Again]:
    """Refused blocks, with the arms whose files are to be deleted; empty where all blocks are valid."""
    places = dict.fromkeys((refused.cell, refused.block) for refused in run.measurement.blocks.invalid)
    return [Again(cell, block, _arms(run, cell)) for cell, block in places]


def _arms(run: Run, cell: Cell) -> tuple[str, ...]:
    control = [run.baseline + AA_SUFFIX] if run.verdict.aa.cell == cell.key else []
    return (run.baseline, *control, *run.variants)
