from __future__ import annotations

from dataclasses import replace

import pytest
from quantbench.report import predictions as p
from report_fixture import Scenario, facts

FAST = facts(Scenario(variants=("awq", "fp8")))


def _scores(**predicted: object) -> dict[str, str]:
    found = replace(FAST, config=FAST.config | {"predictions": predicted})
    (table,) = [part for part in p.section(found).parts if part.kind == "table"]
    by_text = {question.text: question.id for question in p.QUESTIONS}
    return {by_text[row[0]]: row[3] for row in table.rows}


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("vram_reduction_pct", 60, "AWQ 4-bit: right; FP8 (online): wrong"),
        ("ttft_single", "improve", p.OPEN),
        ("p95", "better", "right"),
        ("p95", "worse", "wrong"),
        ("biggest_change", "ttft", "wrong"),
        ("batch_gain_over_chat", "more", "AWQ 4-bit: wrong; FP8 (online): right"),
        ("batch_p95_blowup", "no", "right"),
        ("startup", "slower download", p.FOR_YOU),
        ("p95", "no idea", p.FOR_YOU),
    ],
)
def test_scores(question: str, answer: object, expected: str) -> None:
    assert _scores(**{question: answer})[question] == expected


def test_a_question_without_a_prediction_still_shows_what_was_measured() -> None:
    assert set(_scores().values()) == {"no prediction"}
    (table,) = [part for part in p.section(FAST).parts if part.kind == "table"]
    assert all(row[2] for row in table.rows)


def test_every_question_of_the_specification_has_an_answer_even_without_data() -> None:
    bare = facts(Scenario(blocks=1, aa=False, quality=False, memory=False, workloads=("chat",), p95=False))
    assert len(p.QUESTIONS) == 15
    for question in p.QUESTIONS:
        assert question.measure(bare, "awq").words


def test_a_concurrency_is_right_only_if_the_intervals_say_so() -> None:
    question = next(q for q in p.QUESTIONS if q.id == "helps_more_at")
    assert p.score(question, 8, p.Measured("", 8)) == "right"
    assert p.score(question, 8, p.Measured("", 16)) == "wrong"
    assert p.score(question, 8, p.Measured("overlap")) == p.OPEN
