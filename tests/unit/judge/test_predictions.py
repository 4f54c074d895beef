from __future__ import annotations

from typing import Any

import pytest
import runs
from quantbench.judge import impact
from quantbench.judge import predictions as p
from quantbench.records.cell import Cell
from quantbench.records.decision import VariantAnswer
from quantbench.records.finding import finding
from quantbench.records.quality import ClassCount
from quantbench.records.run import Run
from quantbench.report.say import Speech, catalogue

LOW = Cell.of("chat", 1, 128)


def lost(*names: str) -> Any:
    details = runs.quality()
    return runs.but(details, worse=names)


def answer(question: str, run: Run | None = None, predicted: Any = None) -> VariantAnswer:
    """What is scored for one question of a run with awq alone."""
    run = run or runs.run()
    plan = runs.but(run.plan, predictions={question: predicted})
    everything = p.scores(runs.run(**{**vars(run), "plan": plan}))
    [score] = [score for score in everything if score.id == question]
    assert score.predicted == predicted
    [found] = score.answers
    return found


def rows(*found: Any, **parts: Any) -> Run:
    return runs.run(verdict=runs.verdict(found), **parts)


@pytest.mark.parametrize(("question", "predicted", "expected"), [
    ("vram_reduction_pct", 55, "right"),
    ("vram_reduction_pct", 71, "wrong"),
    ("vram_reduction_pct", "a lot", "for you to judge"),
    ("ttft_single", "improve", "wrong"),
    ("ttft_single", "similar", "right"),
    ("p95", "same", "right"),
    ("p95", "worse", "wrong"),
    ("p95", "no idea", "for you to judge"),
    ("biggest_change", "throughput", "right"),
    ("biggest_change", "ttft", "wrong"),
    ("batch_p95_blowup", "no", "right"),
    ("batch_gain_over_chat", "more", "open"),
    ("helps_more_at", 8, "open"),
    ("startup", "slower download", "for you to judge"),
    ("startup", None, "no prediction"),
])  # fmt: skip
def test_scores(question: str, predicted: Any, expected: str) -> None:
    assert answer(question, predicted=predicted).score == expected


def test_every_question_of_the_specification_has_words_and_an_answer_even_without_data() -> None:
    bare = runs.run(verdict=runs.verdict([]), memory=[], ready={}, measurement=runs.measurement())
    assert len(p.QUESTIONS) == 15
    assert {f"question.{question.id}" for question in p.QUESTIONS} <= set(catalogue())
    for run in (bare, runs.run(impact=impact.impact_rows(runs.run()), quality={"awq": lost("a")})):
        for score in p.scores(run):
            assert all(Speech.of(run)(told) for told in score.answers[0].measured)
            assert score.answers[0].measured


def test_a_run_that_is_not_trusted_answers_no_question_of_speed() -> None:
    run = runs.run(verdict=runs.verdict(trusted=False))
    assert answer("p95", run, "same").score == "open"
    assert answer("p95", run, "same").measured
    assert answer("vram_reduction_pct", run, 60).score == "right"


def test_a_concurrency_is_answered_only_if_the_intervals_say_so() -> None:
    low, high = runs.comparison(LOW, ratio=1.5), runs.comparison(ratio=1.2)
    clear = answer("helps_more_at", rows(low, high), 1)
    assert (clear.score, clear.measured) == ("right", (finding("predictions.helps_most", ratio=1.5, cell=LOW.key),))
    close = answer("helps_more_at", rows(low, runs.but(high, ci_high=1.48)), 1)
    assert (close.answer, close.measured[0].id) == (None, "predictions.helps_most_overlapping")
    harm = answer("helps_more_at", rows(runs.but(low, ratio=0.9), runs.but(high, ratio=0.8)))
    assert harm.measured == (finding("predictions.no_gain", ratio=0.9, cell=LOW.key),)
    assert answer("helps_more_at", rows(high)).measured == (finding("predictions.one_concurrency"),)


def test_a_comparison_is_told_in_short() -> None:
    def ttft(**changes: Any) -> str:
        run = rows(runs.comparison(LOW, "p50_ttft_ms", **changes), runs.comparison(metric="p50_ttft_ms", ratio=9.0))
        [told] = answer("ttft_single", run).measured
        return Speech.of(run)(told)

    undecided = {"ratio": 1.031, "ci_low": 0.98, "ci_high": 1.085, "code": "undecided"}
    assert ttft(**undecided) == "p50 TTFT +3.1 % [−2.0 %, +8.5 %] at c=1, undecided"
    assert "not tested" in ttft(ratio=1.1, ci_low=None, ci_high=None, code="no_test")
    assert ttft(ratio=None, code="invalid") == "p50 TTFT not compared"


def test_the_biggest_change_is_one_that_is_shown() -> None:
    gain = runs.comparison(ratio=1.2)
    noise = runs.comparison(metric="p50_ttft_ms", ratio=3.0, code="undecided")
    found = answer("biggest_change", rows(gain, noise), "ttft")
    assert (found.answer, found.score) == (None, "open")
    assert [told.values["ratio"] for told in found.measured] == [1.2, 3.0]


def test_the_gain_in_batch_is_the_quotient_of_the_impact_table() -> None:
    run = rows(runs.comparison(ratio=1.2), runs.comparison(runs.BATCH, ratio=1.5))
    run = rows(*run.verdict.rows, impact=impact.impact_rows(run))
    found = answer("batch_gain_over_chat", run, "more")
    assert (found.answer, found.score) == ("more", "right")
    assert found.measured[0].values["helps"] == finding("impact.gains_more_batch")
    alone = rows(runs.comparison())
    alone = rows(*alone.verdict.rows, impact=impact.impact_rows(alone))
    assert answer("batch_gain_over_chat", alone).measured == (finding("impact.no_comparison", side="batch"),)


def test_p95_is_that_of_the_highest_concurrency_that_has_one() -> None:
    low = runs.comparison(LOW, "p95_e2e_ms", code="worse", ratio=1.3)
    gone = runs.comparison(metric="p95_e2e_ms", code="no_test", ratio=None)
    assert answer("p95", rows(low, gone)).answer == "worse"
    assert answer("batch_p95_blowup", rows(low)).measured == (finding("predictions.no_p95"),)
    batch = runs.comparison(runs.BATCH, "p95_e2e_ms", code="worse", ratio=1.3)
    assert answer("batch_p95_blowup", rows(batch), "yes").score == "right"


def test_the_class_that_breaks_first_has_lost_most() -> None:
    def classes(**losses: int) -> Run:
        entries = [ClassCount(kind=kind, prompts=9, baseline=9, variant=9 - n) for kind, n in losses.items()]
        return runs.run(quality={"awq": runs.quality(classes=tuple(entries))})

    found = answer("breaks_first", classes(code=2, summary=1), "code")
    assert (found.score, found.measured) == ("right", (finding("predictions.class_lost", kind="code", lost=2),))
    assert answer("breaks_first", classes(code=1, summary=1)).answer is None
    assert answer("breaks_first", classes(code=0)).measured == (finding("predictions.no_class_lost"),)
    assert answer("summary_quality_loss", classes(summary=1), "yes").score == "right"
    assert answer("summary_quality_loss", classes(code=1), "yes").score == "open"


def test_lost_prompts_are_named_where_they_are_few() -> None:
    assert p.prompts_lost(lost()) == finding("predictions.lost", lost=0, n=200)
    assert p.prompts_lost(lost("a", "b", "c")).values["prompts"] == ["a", "b", "c"]
    assert p.prompts_lost(lost(*"abcd")) == finding("predictions.lost_more", lost=4, n=200, prompts=["a", "b"], more=2)


def test_a_saving_that_is_not_shown_says_so() -> None:
    run = rows(runs.comparison(ratio=1.25), runs.comparison(runs.BATCH, ratio=0.8, code="undecided"))
    assert answer("business_win", run).measured == (
        finding("predictions.saving", workload="chat", ratio=0.8),
        finding("predictions.saving_not_shown", workload="batch_summarize", ratio=1.25),
    )
    assert answer("business_win", rows()).measured == (finding("predictions.no_cost"),)
