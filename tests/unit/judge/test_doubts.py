from __future__ import annotations

from typing import Any

import runs
from quantbench.judge.doubts import doubts, interleaved, measure_again
from quantbench.records.cell import Cell
from quantbench.records.comparison import Control, DriftRow, Precision
from quantbench.records.finding import finding
from quantbench.records.measurement import Gap, GuardCount, RefusedBlock
from quantbench.records.run import Run
from quantbench.report.say import Speech

ALWAYS = [finding("doubts.synthetic"), finding("doubts.one_day")]
SOUND = {"awq": runs.quality()}


def with_rows(*rows: Any, **verdict: Any) -> Run:
    return runs.run(verdict=runs.verdict(rows, **verdict), quality=SOUND)


def measured(**parts: Any) -> Run:
    return runs.run(measurement=runs.measurement(**parts), quality=SOUND)


def ids(run: Run) -> list[str]:
    return [doubt.id for doubt in doubts(run) if doubt not in ALWAYS]


def refused(model: str = "awq", number: int = 1, cell: Cell = runs.CHAT) -> RefusedBlock:
    return RefusedBlock(model=model, **cell.columns, block=number, reasons=("failed_requests",), details=())


def test_a_sound_run_has_the_doubts_that_all_runs_have() -> None:
    assert doubts(runs.run(quality=SOUND)) == ALWAYS


def test_a_control_that_failed_or_is_absent() -> None:
    assert ids(with_rows(trusted=False)) == ["doubts.aa_differs"]
    assert ids(with_rows(aa=Control(present=False))) == ["doubts.aa_absent"]


def test_interleaving_is_that_of_the_comparisons_and_one_pair_has_no_order() -> None:
    apart, alone = runs.comparison(interleaved=False), runs.comparison(interleaved=False, n_pairs=1)
    assert ids(with_rows(runs.comparison(), apart)) == ["doubts.not_interleaved"]
    assert ids(with_rows(runs.comparison(), alone)) == []
    assert interleaved(runs.verdict([runs.comparison(), apart, alone])) == (1, 2)


def test_drift_is_that_of_the_verdict() -> None:
    row = DriftRow(
        **runs.CHAT.columns, metric="throughput_tok_s", percent=3.5, ci_low_pct=3.0, ci_high_pct=4.0, p_value=0.01, n=6,
        flagged=True,
    )  # fmt: skip
    [drift, *_] = doubts(with_rows(drift=(row,)))
    assert drift == finding("doubts.drifted", by=0.035, workload="chat", cell=runs.CHAT.key)
    assert ids(with_rows(drift=(runs.but(row, flagged=None), runs.but(row, flagged=False)))) == []


def test_undecided_is_split_into_what_more_blocks_decide_and_what_they_do_not() -> None:
    near, far = runs.comparison(code="undecided", blocks_to_decide=4), runs.comparison(code="undecided")
    few = Precision(target=0.02, most_blocks=9)
    for rows, wanted in (
        ([near], finding("doubts.undecided_near", n=1)),
        ([far, far], finding("doubts.undecided_far", n=2, most=9)),
        ([near, far, far], finding("doubts.undecided_both", n=3, near=1, far=2, most=9)),
    ):
        assert doubts(with_rows(*rows, precision=few))[0] == wanted
    assert doubts(with_rows(runs.comparison(code="no_test")))[0] == finding("doubts.untested", n=1)


def test_one_comparison_is_one_and_days_are_counted() -> None:
    near = runs.comparison(code="undecided", blocks_to_decide=4)
    run = runs.run(
        verdict=runs.verdict([near]), measurement=runs.measurement(last_block_at="2026-11-23T08:00:00"), quality=SOUND
    )
    say = Speech.of(run)
    words = say.all(doubts(run))
    assert "1 comparison stayed undecided: more blocks would decide it." in words
    assert "One machine was measured, between 2026-11-20 and 2026-11-23;" in words


def test_answers_that_were_not_compared_and_weights_that_are_dummies() -> None:
    assert ids(runs.run()) == ["doubts.no_quality"]
    assert ids(runs.run(plan=runs.plan(variants=()))) == [], "without a variant there is nothing to compare"
    dummy = runs.run(plan=runs.plan(load_formats={"bf16": "dummy", "awq": "auto"}), quality=SOUND)
    assert doubts(dummy)[0] == finding("doubts.dummy", models=["bf16"])


def test_what_was_not_seen_in_some_or_all_blocks() -> None:
    gap = Gap(blocks=1, reason="NVML timed out")
    run = measured(telemetry_missing={"a": "no NVML", "b": "no NVML"}, telemetry_gaps={"power_w_mean": gap})
    assert doubts(run)[:2] == [
        finding("doubts.unseen", fields=["a", "b"], reason="no NVML"),
        finding("doubts.unseen_in_part", field="power_w_mean", n=1, total=60, reason="NVML timed out"),
    ]
    assert "`a` and `b` (no NVML)" in Speech()(doubts(run)[0])


def test_a_guard_that_found_something_could_tell() -> None:
    queueing = GuardCount(id="queueing", ok=0, fail=0, warn=3, unknown=5)
    cap = GuardCount(id="power_cap", ok=0, fail=0, warn=0, unknown=8)
    assert doubts(measured(guards=(queueing, cap)))[0] == finding("doubts.guards_unknown", guards=["power_cap"])


def test_a_calibration_of_another_day_is_a_doubt() -> None:
    assert ids(measured(calibration_age_s=3 * 86_400.0)) == ["doubts.calibration_old"]
    assert ids(measured(calibration_age_s=600.0)) == []


def test_refused_blocks_are_measured_again_with_what_they_pair_with() -> None:
    run = measured(invalid=[refused(), refused("bf16"), refused("awq", 2, runs.BATCH)])
    assert doubts(run)[0] == finding("doubts.refused", n=3)
    chat, batch = measure_again(run)
    assert (chat.cell, chat.block, chat.arms) == (runs.CHAT, 1, ("bf16", "bf16__aa", "awq"))
    assert (batch.cell, batch.block, batch.arms) == (runs.BATCH, 2, ("bf16", "awq"))
    assert measure_again(runs.run()) == []
