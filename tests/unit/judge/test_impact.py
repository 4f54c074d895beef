from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import runs
from quantbench.judge import impact
from quantbench.records.finding import finding
from quantbench.records.run import Run
from quantbench.records.server import Quantization
from quantbench.records.tables import ImpactRow
from quantbench.report.say import Speech, catalogue


def sides(chat: Any = 1.2, batch: Any = 1.2, code: str = "better", **parts: Any) -> Run:
    """A run with these throughput ratios (±2 %); None: not compared."""
    ratios = {runs.CHAT: chat, runs.BATCH: batch}
    rows = [runs.comparison(cell, ratio=ratio, code=code) for cell, ratio in ratios.items() if ratio is not None]
    return runs.run(verdict=runs.verdict(rows), **parts)


def only(run: Run) -> ImpactRow:
    [row] = impact.impact_rows(run)
    return row


def labelled(label: str) -> dict[str, Any]:
    return {"ready": {"awq": runs.ready("awq", quantization=Quantization(claimed="x", label=label))}}


def test_the_quotient_adds_the_log_half_widths_in_quadrature() -> None:
    row = only(sides(chat=1.5, batch=1.2))
    assert row.quotient == pytest.approx(1.2 / 1.5)
    half = math.sqrt(2) * math.log(1.02 / 0.98) / 2
    assert row.quotient_ci_low == pytest.approx(1.2 / 1.5 * math.exp(-half))
    assert row.quotient_ci_high == pytest.approx(1.2 / 1.5 * math.exp(half))
    assert (row.side("chat"), row.side("batch"), row.helps_more) == (runs.CHAT, runs.BATCH, "chat")


def test_chat_and_batch_are_taken_at_the_specified_cells_or_the_nearest() -> None:
    plan = runs.plan()
    few = runs.but(plan.workloads["batch_summarize"], cells=((8, 256), (64, 256), (64, 128)))
    row = only(runs.run(plan=runs.but(plan, workloads={**plan.workloads, "batch_summarize": few})))
    assert (row.chat_concurrency, row.batch_concurrency, row.batch_max_tokens) == (16, 64, 128)


@pytest.mark.parametrize(
    ("run", "hypothesis", "helps"),
    [
        (sides(1.2, 1.2), "impact.not_told_apart", "impact.no_difference"),
        (sides(0.8, 0.9, "worse"), "impact.no_gain", "impact.loses_less_batch"),
        (sides(0.9, 0.8, "worse"), "impact.no_gain", "impact.loses_less_chat"),
        (sides(1.0, 1.2, "undecided"), "impact.no_gain", "impact.ratio_higher_batch"),
        (sides(1.2, 1.0, "undecided"), "impact.no_gain", "impact.ratio_higher_chat"),
        (sides(1.5, 1.2, **labelled("W4A16")), "impact.chat_memory_bound_weight_only", "impact.gains_more_chat"),
        (sides(1.5, 1.2, **labelled("W8A8")), "impact.chat_memory_bound", "impact.gains_more_chat"),
        (sides(1.5, 1.2), "impact.chat_memory_bound", "impact.gains_more_chat"),
        (sides(1.2, 1.5, **labelled("FP8")), "impact.batch_compute_bound", "impact.gains_more_batch"),
        (sides(1.2, 1.5, **labelled("W4A16")), "impact.batch_room", "impact.gains_more_batch"),
    ],
)
def test_hypotheses(run: Run, hypothesis: str, helps: str) -> None:
    row = only(run)
    assert (row.hypothesis, impact.helps(row)) == (hypothesis, helps)


def test_what_limits_a_cell_comes_before_any_theory_and_without_error_bars_nothing_is_claimed() -> None:
    for part, loser in itertools.product(("client", "front_end"), ("chat", "batch")):
        cell, ratios = (runs.CHAT, (1.2, 1.5)) if loser == "chat" else (runs.BATCH, (1.5, 1.2))
        measured = runs.measurement(cells=(runs.cell_use("awq", cell, bottleneck=part),))
        row = only(sides(*ratios, measurement=measured, **labelled("W4A16")))
        assert row.hypothesis == f"impact.{part}_limits_{loser}"
    rows = [runs.comparison(cell, code="no_test", ci_low=None, ci_high=None) for cell in (runs.CHAT, runs.BATCH)]
    row = only(runs.run(verdict=runs.verdict(rows)))
    assert (row.quotient, row.quotient_ci_low, row.helps_more) == (1.0, None, "unknown")
    assert (row.hypothesis, impact.helps(row)) == ("impact.unknown", "impact.too_few_blocks")


def test_a_missing_side_is_named() -> None:
    plan = runs.plan()
    chat_only = runs.but(plan, workloads={"chat": plan.workloads["chat"]})
    row = only(sides(batch=None, plan=chat_only))
    assert impact.why_not(row) == [finding("impact.no_workload", side="batch")]
    assert (row.quotient, row.hypothesis, row.chat_ratio) == (None, None, 1.2)
    refused = runs.verdict([runs.comparison(), runs.comparison(runs.BATCH, valid=False, code="invalid")])
    run = runs.run(verdict=refused)
    row = only(run)
    assert impact.why_not(row) == [finding("impact.no_comparison", side="batch")]
    assert impact.evidence(run, row) == []
    assert impact.why_not(only(sides())) == []


def test_evidence_is_what_bears_on_the_difference() -> None:
    measured = runs.measurement(cells=(runs.cell_use("awq", runs.CHAT, bottleneck="front_end", preemptions=5),))
    run = sides(1.2, 1.5, measurement=measured, capacity=[runs.capacity("awq", runs.CHAT)])
    chat, batch, weights = impact.evidence(run, only(run))
    assert chat.values["seen"] == [
        finding("impact.bottleneck", part="front_end"),
        finding("impact.lengths", tokens=3.0),
        finding("impact.preemptions", n=5),
    ]
    assert batch.values["seen"] == [finding("impact.bottleneck", part="unknown")]
    assert weights == finding("impact.weights", smaller=0.6)


def test_every_hypothesis_and_reading_has_a_sentence() -> None:
    rows = [only(run) for run in (sides(), sides(1.2, 1.5), sides(0.8, 0.9, "worse"))]
    assert all(row.hypothesis and Speech()(row.hypothesis) and Speech()(impact.helps(row)) for row in rows)
    assert {*impact.LIMITS.values(), *impact.HELPS.values()} <= set(catalogue())
    run = sides(1.2, 1.5)
    lengths = "bottleneck: engine and 3.00 prompt tokens per output token"
    said = Speech.of(run).all(impact.evidence(run, only(run)), "; ")
    assert said == f"chat ({lengths}); batch ({lengths}); weights smaller by 60.0 %"
    words = Speech().all(impact.why_not(only(runs.run(verdict=runs.verdict([])))), "; ")
    assert words == "chat: no valid comparison in its cell; batch: no valid comparison in its cell"
