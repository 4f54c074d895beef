from __future__ import annotations

from typing import Any

import pytest
import runs
from quantbench.judge.doubts import doubts, interleaved, measure_again
from quantbench.records.cell import Cell
from quantbench.records.comparison import Control, DriftRow, Precision
from quantbench.records.finding import finding
from quantbench.records.measurement import FarBlock, Gap, GuardCount, RefusedBlock
from quantbench.records.run import Run
from quantbench.report.marks import plain
from quantbench.report.say import Speech

ALWAYS = [finding("doubts.synthetic"), finding("doubts.one_day")]
SOUND = {"awq": runs.quality()}


def with_rows(*rows: Any, **verdict: Any) -> Run:
    return runs.run(verdict=runs.verdict(rows, **verdict), quality=SOUND)


def measured(**parts: Any) -> Run:
    return runs.run(measurement=runs.measurement(**parts), quality=SOUND)


def refused(model: str = "awq", number: int = 1, cell: Cell = runs.CHAT) -> RefusedBlock:
    return RefusedBlock(model=model, **cell.columns, block=number, reasons=("failed_requests",), details=())


NEAR, FAR = (runs.comparison(code="undecided", blocks_to_decide=n) for n in (4, None))
APART, ALONE = (runs.comparison(interleaved=False, n_pairs=n) for n in (6, 1))
FEW = {"precision": Precision(target=0.02, most_blocks=9)}
DRIFT = DriftRow(
    **runs.CHAT.columns, metric="throughput_tok_s", percent=3.5, ci_low_pct=3.0, ci_high_pct=4.0, p_value=0.01, n=6,
    flagged=True,
)  # fmt: skip
GAPS = {
    "telemetry_missing": {"a": "no NVML", "b": "no NVML"},
    "telemetry_gaps": {"power_w_mean": Gap(blocks=1, reason="NVML timed out")},
}
GUARDS = tuple(
    GuardCount(id=name, ok=0, fail=0, warn=warn, unknown=5) for name, warn in (("queueing", 3), ("power_cap", 0))
)
FAR_BLOCK = FarBlock(model="awq", **runs.CHAT.columns, block=2, rate=57.0, usual=699.0)
DUMMY = runs.plan(load_formats={"bf16": "dummy", "awq": "auto"})


@pytest.mark.parametrize(("run", "expected"), [
    (runs.run(quality=SOUND), []),
    (with_rows(trusted=False), [finding("doubts.aa_differs")]),
    (with_rows(aa=Control(present=False)), [finding("doubts.aa_absent")]),
    # interleaving is that of the comparisons; one pair has no order
    (with_rows(runs.comparison(), APART), [finding("doubts.not_interleaved")]),
    (with_rows(runs.comparison(), ALONE), []),
    (with_rows(drift=(DRIFT,)),
     [finding("doubts.drifted", by=0.035, workload="chat", cell=runs.CHAT.key)]),
    (with_rows(drift=(runs.but(DRIFT, flagged=None), runs.but(DRIFT, flagged=False))), []),
    (measured(far=(FAR_BLOCK,)), [
        finding("doubts.far_block", arm="awq", workload="chat", cell=runs.CHAT.key, block=2, rate=57.0, usual=699.0),
    ]),
    (with_rows(NEAR, **FEW), [finding("doubts.undecided_near", n=1)]),
    (with_rows(FAR, FAR, **FEW), [finding("doubts.undecided_far", n=2, most=9)]),
    (with_rows(NEAR, FAR, FAR, **FEW), [finding("doubts.undecided_both", n=3, near=1, far=2, most=9)]),
    (with_rows(runs.comparison(code="no_test")), [finding("doubts.untested", n=1)]),
    (runs.run(), [finding("doubts.no_quality")]),
    (runs.run(plan=runs.plan(variants=())), []),
    (runs.run(plan=DUMMY, quality=SOUND), [finding("doubts.dummy", models=["bf16"])]),
    (measured(**GAPS), [
        finding("doubts.unseen", fields=["a", "b"], reason="no NVML"),
        finding("doubts.unseen_in_part", field="power_w_mean", n=1, total=60, reason="NVML timed out"),
    ]),
    # a guard that found something could tell
    (measured(guards=GUARDS), [finding("doubts.guards_unknown", guards=["power_cap"])]),
    (measured(calibration_age_s=86_401.0), [finding("doubts.calibration_old", age=86_401.0)]),
    (measured(calibration_age_s=86_400.0), []),
    (measured(invalid=[refused()]), [finding("doubts.refused", n=1)]),
])  # fmt: skip
def test_what_is_absent_or_flagged_is_a_doubt_beside_those_that_all_runs_have(run: Run, expected: Any) -> None:
    assert doubts(run) == [*expected, *ALWAYS]


def test_interleaving_is_counted_where_it_can_be_told() -> None:
    assert interleaved(runs.verdict([runs.comparison(), APART, ALONE])) == (1, 2)


def test_one_comparison_is_one_and_days_are_counted() -> None:
    measurement = runs.measurement(last_block_at="2026-11-23T08:00:00", **GAPS)
    run = runs.run(verdict=runs.verdict([NEAR]), measurement=measurement, quality=SOUND)
    words = plain(Speech.of(run).all(doubts(run)))
    assert "`a` and `b` (no NVML)" in words
    assert "1 comparison stayed undecided: more blocks would decide it." in words
    assert "One machine was measured, between 2026-11-20 and 2026-11-23;" in words


def test_refused_blocks_are_measured_again_with_what_they_pair_with() -> None:
    run = measured(invalid=[refused(), refused("bf16"), refused("awq", 2, runs.BATCH)])
    chat, batch = measure_again(run)
    assert (chat.cell, chat.block, chat.arms) == (runs.CHAT, 1, ("bf16", "bf16__aa", "awq"))
    assert (batch.cell, batch.block, batch.arms) == (runs.BATCH, 2, ("bf16", "awq"))
    assert measure_again(runs.run()) == []
