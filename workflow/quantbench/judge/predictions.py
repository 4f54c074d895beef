"""Predictions written before the run, scored against what was measured.

A question that the data answer is scored right, wrong or open; the others stand beside the evidence for a person.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from quantbench.judge.impact import helps, why_not
from quantbench.records.base import Number
from quantbench.records.comparison import DECIDED, Comparison
from quantbench.records.decision import PredictionScore, Score, VariantAnswer
from quantbench.records.finding import Finding, finding
from quantbench.records.metric import METRICS, SPEED, Style
from quantbench.records.quality import QualityDetails
from quantbench.records.run import Run

TOLERANCE_POINTS: Final = 10
OF_SPEED: Final = frozenset(
    {"ttft_single", "helps_more_at", "p95", "biggest_change", "batch_gain_over_chat", "batch_p95_blowup"}
)
"""Questions that a run does not answer whose A/A control failed."""
NAMED_PROMPTS: Final = 3
_SAME: Final[dict[str | None, str]] = {"equivalent": "same", "better": "better", "worse": "worse"}
_SYNONYMS: Final = {"improve": "better", "degrade": "worse", "similar": "same", "equal": "same"}
_KINDS: Final = {"throughput_tok_s": "throughput", "p50_ttft_ms": "ttft", "p50_e2e_ms": "e2e"}

Answer = str | Number | None


@dataclass(frozen=True)
class Evidence:
    """What the data say to one question for one variant, and the answer in the prediction's own terms."""

    findings: tuple[Finding, ...]
    answer: Answer = None


@dataclass(frozen=True)
class Question:
    """One of the "before" questions; its text is in words.yaml, group `question`.

    choices: the accepted answers, empty for numbers and free text.
    """

    id: str
    measure: Callable[[Run, str], Evidence]
    choices: tuple[str, ...] = ()


def scores(run: Run) -> list[PredictionScore]:
    """Every question, with what was predicted and, per variant, what was measured and how the prediction came out."""
    return [_score_of(run, question) for question in QUESTIONS]


def _score_of(run: Run, question: Question) -> PredictionScore:
    predicted = run.plan.predictions.get(question.id)
    answers = []
    for variant in run.variants:
        measured = question.measure(run, variant)
        answer = None if question.id in OF_SPEED and not run.trusted else measured.answer
        outcome = score(question, predicted, answer)
        answers.append(VariantAnswer(variant=variant, answer=answer, measured=measured.findings, score=outcome))
    return PredictionScore(id=question.id, predicted=predicted, answers=tuple(answers))


def score(question: Question, predicted: Answer, answer: Answer) -> Score:
    """How a prediction came out; a figure in percent is right within TOLERANCE_POINTS."""
    if predicted is None:
        return "no prediction"
    if answer is None:
        return "open" if question.choices or not isinstance(predicted, str) else "for you to judge"
    if not isinstance(answer, str):
        if isinstance(predicted, str):
            return "for you to judge"
        close = TOLERANCE_POINTS if question.id.endswith("_pct") else 0
        return "right" if abs(predicted - answer) <= close else "wrong"
    words = str(predicted).strip().lower()
    words = _SYNONYMS.get(words, words)
    if question.choices and words not in question.choices:
        return "for you to judge"
    return "right" if words == answer else "wrong"


def prompts_lost(details: QualityDetails) -> Finding:
    """How many prompts a variant lost, with their names where these are few."""
    lost, n = details.worse, details.passed.baseline
    if not lost:
        return finding("predictions.lost", lost=0, n=n)
    if len(lost) <= NAMED_PROMPTS:
        return finding("predictions.lost_named", lost=len(lost), n=n, prompts=list(lost))
    first = list(lost[: NAMED_PROMPTS - 1])
    return finding("predictions.lost_more", lost=len(lost), n=n, prompts=first, more=len(lost) - len(first))


def _vram(run: Run, variant: str) -> Evidence:
    row = run.memory_of(variant)
    weights, whole, files = row.weights_reduction_pct, row.vram_delta_reduction_pct, row.checkpoint_reduction_pct
    findings = (
        finding("predictions.weights", reduction=weights),
        finding("predictions.whole_server", reduction=whole),
        finding("predictions.checkpoint", reduction=files),
    )
    known = tuple(item for item in findings if item.values["reduction"] is not None)
    return Evidence(known or (finding("predictions.not_measured"),), weights)


def _row(row: Comparison | None) -> Finding:
    """A comparison in short."""
    if row is None:
        return finding("predictions.not_compared")
    values = {"metric": row.metric, "cell": row.cell.key, "code": row.code, "ratio": row.ratio}
    if row.code == "invalid" or row.ratio is None:
        return finding("predictions.row_not_compared", **values)
    if not row.has_ci:
        return finding("predictions.row_untested", **values)
    ends = {"ci_low": row.ci_low, "ci_high": row.ci_high}
    if row.code == "described":
        return finding("predictions.row_own", **values | ends | {"code": _change_of(row) or "undecided"})
    return finding("predictions.row", **values, **ends)


def _of_row(row: Comparison | None) -> Evidence:
    return Evidence((_row(row),), _SAME.get(_change_of(row)) if row else None)


def _change_of(row: Comparison) -> str | None:
    """What a comparison says of a change; one without a test by its own interval: it was asked before the run."""
    if row.code != "described" or row.ratio is None:
        return row.code
    if row.within_margin:
        return "equivalent"
    if not row.excludes_one:
        return None
    return "better" if METRICS[row.metric].is_better(row.ratio) else "worse"


def _rows(run: Run, variant: str, style: Style, metric: str) -> list[Comparison]:
    return [row for workload in run.workloads(style) for row in run.compared(workload, variant, metric)]


def _ttft_single(run: Run, variant: str) -> Evidence:
    rows = _rows(run, variant, "interactive", "p50_ttft_ms")
    return _of_row(min(rows, key=lambda row: row.concurrency, default=None))


def _startup(run: Run, variant: str) -> Evidence:
    own, base = run.startup_of(variant).total_s, run.startup_of(run.baseline).total_s
    if own is None or base is None:
        return Evidence((finding("predictions.not_measured"),))
    return Evidence((finding("predictions.startup", own=own, base=base),))


def _helps_more_at(run: Run, variant: str) -> Evidence:
    names = run.workloads("interactive")[:1]
    throughput = [row for name in names for row in run.compared(name, variant, SPEED)]
    rows = [run.speed_row(variant, row.cell) or row for row in throughput]
    by_ratio = sorted(((row.ratio, row) for row in rows if row.ratio is not None), key=lambda entry: -entry[0])
    if len({row.concurrency for _, row in by_ratio}) < 2:
        return Evidence((finding("predictions.one_concurrency"),))
    (ratio, top), *rest = by_ratio
    if ratio <= 1:
        return Evidence((finding("predictions.no_gain", ratio=ratio, cell=top.cell.key),))
    low = top.ci_low
    clear = low is not None and all(row.ci_high is not None and row.ci_high < low for _, row in rest)
    if not clear:
        return Evidence((finding("predictions.helps_most_overlapping", ratio=ratio, cell=top.cell.key),))
    return Evidence((finding("predictions.helps_most", ratio=ratio, cell=top.cell.key),), top.concurrency)


def _tail(run: Run, variant: str, style: Style) -> Evidence:
    """p95 E2E at the highest concurrency of a style that has it."""
    rows = [row for row in _rows(run, variant, style, "p95_e2e_ms") if row.ratio is not None]
    if not rows:
        return Evidence((finding("predictions.no_p95"),))
    return _of_row(max(rows, key=lambda row: row.concurrency))


def _batch_p95(run: Run, variant: str) -> Evidence:
    measured = _tail(run, variant, "batch")
    answers: dict[Answer, str] = {"worse": "yes", "better": "no", "same": "no"}
    return Evidence(measured.findings, answers.get(measured.answer))


def _biggest(run: Run, variant: str) -> Evidence:
    cell = run.plan.primary.cell
    rows = [(metric, run.row(variant, cell, metric)) for metric in _KINDS]
    ratios = {metric: row.ratio for metric, row in rows if row and row.ratio is not None}
    if not ratios:
        return Evidence((finding("predictions.not_compared"),))
    largest = max(ratios, key=lambda metric: abs(math.log(ratios[metric])))
    shown = any(row and metric == largest and _change_of(row) in ("better", "worse") for metric, row in rows)
    findings = tuple(finding("predictions.factor", metric=metric, ratio=ratio) for metric, ratio in ratios.items())
    return Evidence(findings, _KINDS[largest] if shown else None)


def _batch_gain(run: Run, variant: str) -> Evidence:
    row = next((row for row in run.impact if row.variant == variant), None)
    if row is None:
        return Evidence((finding("predictions.not_compared"),))
    if row.quotient is None:
        return Evidence(tuple(why_not(row)))
    answer = {"batch": "more", "chat": "less"}.get(row.helps_more)
    return Evidence((finding("predictions.quotient", quotient=row.quotient, helps=finding(helps(row))),), answer)


def _breaks_first(run: Run, variant: str) -> Evidence:
    if variant not in run.quality:
        return Evidence((finding("predictions.no_answers"),))
    losses = {entry.kind: entry.baseline - entry.variant for entry in run.quality[variant].classes}
    most = max(losses.values(), default=0)
    if most <= 0:
        return Evidence((finding("predictions.no_class_lost"),))
    worst = [kind for kind, lost in losses.items() if lost == most]
    findings = tuple(finding("predictions.class_lost", kind=kind, lost=most) for kind in worst)
    return Evidence(findings, worst[0] if len(worst) == 1 else None)


def _summaries(run: Run, variant: str) -> Evidence:
    classes = run.quality[variant].classes if variant in run.quality else ()
    entry = next((entry for entry in classes if entry.kind == "summary"), None)
    if entry is None:
        return Evidence((finding("predictions.no_summary"),))
    findings = (finding("predictions.summaries", own=entry.variant, base=entry.baseline),)
    return Evidence(findings, "yes" if entry.variant < entry.baseline else "no")


def _quality(run: Run, variant: str) -> Evidence:
    details = run.quality.get(variant)
    return Evidence((prompts_lost(details) if details else finding("predictions.no_answers"),))


def _failure_modes(run: Run, variant: str) -> Evidence:
    if variant not in run.quality:
        return Evidence((finding("predictions.no_answers"),))
    worse = [item for item in run.quality[variant].details if item.change == "worse"]
    kinds = list(dict.fromkeys(check.type for item in worse for check in item.variant.failed))
    return Evidence(
        (finding("predictions.failed_checks", kinds=kinds) if kinds else finding("predictions.no_failure"),)
    )


def _saving(run: Run, variant: str) -> Evidence:
    findings = []
    for workload in run.workloads():
        cell = run.deciding_cell(workload)
        row, saved = run.speed_row(variant, cell), run.saving(variant, cell)
        if saved and saved.saving_pct is not None:
            ratio, decided = 1 - saved.saving_pct / 100, saved.code in DECIDED
        elif row and row.ratio:
            ratio, decided = 1 / row.ratio, row.decided
        else:
            continue
        said = "predictions.saving" if decided else "predictions.saving_not_shown"
        findings.append(finding(said, workload=workload, ratio=ratio))
    return Evidence(tuple(findings) or (finding("predictions.no_cost"),))


_CHANGE = ("better", "same", "worse")
QUESTIONS: Final = (
    Question("vram_reduction_pct", _vram),
    Question("ttft_single", _ttft_single, _CHANGE),
    Question("startup", _startup),
    Question("helps_more_at", _helps_more_at),
    Question("p95", lambda run, variant: _tail(run, variant, "interactive"), _CHANGE),
    Question("biggest_change", _biggest, ("throughput", "ttft", "e2e")),
    Question("breaks_first", _breaks_first),
    Question("ship_unchecked", _quality),
    Question("failure_modes", _failure_modes),
    Question("batch_gain_over_chat", _batch_gain, ("more", "same", "less")),
    Question("summary_quality_loss", _summaries, ("yes", "no")),
    Question("batch_p95_blowup", _batch_p95, ("yes", "no")),
    Question("business_win", _saving),
    Question("refuse_when", _quality),
    Question("utilisation", lambda run, variant: Evidence((finding("predictions.utilisation"),))),
)
"""The questions of the specification's "before" lists, in its order."""
