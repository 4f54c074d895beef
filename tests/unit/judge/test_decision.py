from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runs
from made_outcomes import counted, suite
from quantbench.judge.decision import decide
from quantbench.records import base
from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison, Control, InvalidBlock
from quantbench.records.decision import Decision, MetricChange, UseDecision
from quantbench.records.finding import finding
from quantbench.records.run import Run

SOUND = {"awq": runs.quality()}
ANSWERS = {
    "ok": runs.quality(), "not shown": runs.quality(n=20), "not acceptable": runs.quality(lost=80),
}  # fmt: skip
"""Answers with which chat is that."""
REFUSED = tuple(InvalidBlock(model="awq", block=block, guards=("failed_requests",)) for block in (1, 2))


def chat(run: Run) -> UseDecision:
    return next(use for use in decide(run).uses if use.style == "interactive")


def of(*rows: Comparison, quality: dict[str, Any] | None = None, **verdict: Any) -> UseDecision:
    """The chat decision of a run with these comparisons."""
    return chat(runs.run(verdict=runs.verdict(rows, **verdict), quality=SOUND if quality is None else quality))


@pytest.mark.parametrize(("code", "quality", "action"), [
    ("better", "ok", "use"),
    ("better", "not shown", "check"),
    ("better", "not measured", "check"),
    ("better", "not acceptable", "keep"),
    ("undecided", "not acceptable", "keep"),
    ("worse", "ok", "keep"),
    ("equivalent", "ok", "keep"),
    ("undecided", "ok", "undecided"),
    ("no_test", "ok", "undecided"),
    ("invalid", "ok", "undecided"),
])  # fmt: skip
def test_quality_forbids_and_speed_alone_never_recommends(code: str, quality: str, action: str) -> None:
    compared = {} if quality == "not measured" else {"awq": ANSWERS[quality]}
    use = of(runs.comparison(code=code), quality=compared)
    assert use.action == action
    assert use.variant == ("awq" if action in ("use", "check") else None)
    [choice] = use.choices
    assert (choice.quality, choice.code, choice.cell) == (quality, code, runs.CHAT)
    assert compared or choice.quality_because == ()


def test_each_use_has_the_quality_that_it_needs() -> None:
    decision = decide(runs.run(quality={"awq": runs.quality(n=100)}))
    assert {use.style: use.action for use in decision.uses} == {"interactive": "check", "batch": "use"}
    words = {verdict.use: verdict.status for verdict in decision.gate["awq"]}
    assert (words["chat"], words["batch"], len(words)) == ("insufficient evidence", "fine", 8)
    narrow = runs.plan(quality_margins={"default": 0.01})
    [_, batch] = decide(runs.run(plan=narrow, quality={"awq": runs.quality(n=100)})).uses
    assert batch.action == "check", "the margin of the configuration"


def test_suites_count_beside_the_prompts_and_without_them() -> None:
    suites = {"awq": [suite(counted(300, lost=90), variant="awq")]}
    assert chat(runs.run(quality=SOUND)).action == "use"
    for quality in (SOUND, {}):
        decision = decide(runs.run(quality=quality, suites=suites))
        assert {use.action for use in decision.uses} == {"keep"}
        assert decision.gate["awq"][0].n == 300 + 200 * len(quality)
    assert decide(runs.run()).gate == {}


def test_a_use_without_a_workload_or_a_run_without_a_variant_has_no_decision() -> None:
    plan = runs.plan()
    alone = runs.run(plan=runs.but(plan, workloads={"chat": plan.workloads["chat"]}))
    assert [use.style for use in decide(alone).uses] == ["interactive"]
    assert decide(runs.run(plan=runs.plan(variants=()))).uses == ()


def test_an_untrusted_run_decides_nothing() -> None:
    run = runs.run(verdict=runs.verdict(trusted=False), quality=SOUND)
    decision = decide(run)
    assert not decision.trusted
    assert {(use.action, use.variant, use.confidence) for use in decision.uses} == {("undecided", None, "none")}
    assert decision.uses[0].confidence_because == (finding("confidence.control_differs"),)


def test_use_goes_before_check_and_then_the_surer_gain_and_keep_needs_all_variants() -> None:
    plan = runs.plan(variants=("awq", "fp8"))
    rows = [runs.comparison(code="worse"), runs.comparison(variant="fp8", code="undecided")]
    assert chat(runs.run(plan=plan, verdict=runs.verdict(rows))).action == "undecided"
    rows = [runs.comparison(ratio=1.5), runs.comparison(variant="fp8", ratio=1.2)]
    one = {"awq": ANSWERS["not shown"], "fp8": runs.quality("fp8")}
    assert chat(runs.run(plan=plan, verdict=runs.verdict(rows), quality=one)).variant == "fp8"
    both = {name: runs.quality(name) for name in ("awq", "fp8")}
    assert chat(runs.run(plan=plan, verdict=runs.verdict(rows), quality=both)).variant == "awq"


def test_the_chosen_is_of_the_workload_that_decides() -> None:
    plan = runs.plan()
    long = Cell.of("long_chat", 16, 128)
    plan = runs.but(plan, workloads={"long_chat": plan.workloads["chat"], **plan.workloads})
    rows = [runs.comparison(long, ratio=1.1, code="undecided"), runs.comparison()]
    use = chat(runs.run(plan=plan, verdict=runs.verdict(rows), quality=SOUND))
    assert use.chosen is not None
    assert (use.action, use.chosen.workload) == ("use", "chat")


def test_latencies_that_got_worse_are_told_and_lower_the_confidence_in_chat() -> None:
    slow = runs.comparison(metric="p50_ttft_ms", code="worse", ratio=3.34)
    use = of(runs.comparison(), slow)
    assert use.action == "use"
    assert use.choices[0].got_worse == (MetricChange(metric="p50_ttft_ms", ratio=3.34),)
    assert use.confidence_because == (finding("confidence.latency_worse"),)
    batch = [runs.but(row, **runs.BATCH.columns) for row in (runs.comparison(), slow)]
    run = runs.run(verdict=runs.verdict(batch), quality=SOUND)
    [_, batch_use] = decide(run).uses
    assert (batch_use.confidence, len(batch_use.choices[0].got_worse)) == ("high", 1)


NOT_INTERLEAVED, OPEN = finding("confidence.not_interleaved"), finding("confidence.quality_open", status="not shown")


@pytest.mark.parametrize(("row", "verdict", "quality", "level", "because"), [
    ({}, {}, "ok", "high", []),
    ({"interleaved": False}, {}, "ok", "medium", [NOT_INTERLEAVED]),
    ({}, {"aa": Control(present=False)}, "ok", "medium", [finding("confidence.no_control")]),
    ({"invalid_blocks": REFUSED}, {}, "ok", "medium", [finding("confidence.blocks_refused", n=2)]),
    ({}, {}, "not shown", "medium", [OPEN]),
    ({"reasons": ("a note on block 3 of it",)}, {}, "ok", "high", []),
    ({"interleaved": False, "invalid_blocks": REFUSED[:1]}, {}, "not shown", "low",
     [NOT_INTERLEAVED, finding("confidence.blocks_refused", n=1), OPEN]),
    ({"code": "undecided"}, {}, "ok", "low", [finding("confidence.speed_not_decided")]),
])  # fmt: skip
def test_confidence(row: dict[str, Any], verdict: dict[str, Any], quality: str, level: str, because: list[Any]) -> None:
    use = of(runs.comparison(**row), quality={"awq": ANSWERS[quality]}, **verdict)
    assert (use.confidence, list(use.confidence_because)) == (level, because)


def test_a_decision_survives_its_file(tmp_path: Path) -> None:
    decision = decide(runs.run())
    base.write(tmp_path / "decision.json", decision)
    assert base.read(tmp_path / "decision.json", Decision) == decision
    assert len(decision.predictions) == 15
    assert decision.doubts
