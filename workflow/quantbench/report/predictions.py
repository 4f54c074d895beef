"""Predictions written before the run, beside what was measured and how they came out."""

from __future__ import annotations

from typing import Final

from quantbench.records.decision import PredictionScore, Score, VariantAnswer
from quantbench.records.run import Run
from quantbench.report.document import Section, table, text
from quantbench.report.say import Speech

TITLE: Final = "Predictions"
SCORES: Final[dict[Score, str]] = {
    "right": "prediction_page.right",
    "wrong": "prediction_page.wrong",
    "open": "prediction_page.open",
    "for you to judge": "prediction_page.judge",
    "no prediction": "prediction_page.unscored",
}


def section(run: Run, say: Speech) -> Section:
    """The questions that had a prediction, what was measured, and the scores."""
    asked = run.decision.predictions if run.decision else ()
    predicted = [question for question in asked if question.predicted is not None]
    if not predicted:
        return Section(TITLE, (text(say("prediction_page.none")),))
    everything = len(predicted) == len(asked)
    intro = say("prediction_page.all") if everything else say("prediction_page.some", n=len(predicted), of=len(asked))
    lines = [_line(run, say, question) for question in predicted]
    return Section(TITLE, (text(intro), table(["question", "prediction", "measured", "score"], lines, words=range(4))))


def _line(run: Run, say: Speech, question: PredictionScore) -> list[str]:
    """One question; what variants have in common is said once."""
    measured = {answer.variant: _measured(say, answer) for answer in question.answers}
    scores = {answer.variant: say(SCORES[answer.score]) for answer in question.answers}
    return [say(f"question.{question.id}"), str(question.predicted), _joined(run, measured), _joined(run, scores)]


def _measured(say: Speech, answer: VariantAnswer) -> str:
    return say.all(answer.measured, ", ")


def _joined(run: Run, by_variant: dict[str, str]) -> str:
    if len(set(by_variant.values())) == 1:
        return next(iter(by_variant.values()))
    return "; ".join(f"{run.label(variant)}: {words}" for variant, words in by_variant.items())
