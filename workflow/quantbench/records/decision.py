"""What to do, as data: `decision.json`. The pages only say it."""

from __future__ import annotations

from typing import Literal

from quantbench.records.base import Number, Record
from quantbench.records.cell import Cell
from quantbench.records.comparison import Code
from quantbench.records.finding import Finding
from quantbench.records.metric import Style
from quantbench.records.suite import GateVerdict

Action = Literal["use", "check", "keep", "undecided"]
Confidence = Literal["high", "medium", "low", "none"]
QualityStatus = Literal["ok", "not acceptable", "not shown", "not measured"]
"""The gate's word on the use (ok: fine, not shown: insufficient evidence), by the names that this file has for it."""
Score = Literal["right", "wrong", "open", "for you to judge", "no prediction"]


class MetricChange(Record, frozen=True, kw_only=True):
    """A metric of the deciding cell that got worse, with its ratio."""

    metric: str
    ratio: float


class Choice(Record, frozen=True, kw_only=True):
    """One variant for one use, by the throughput of its deciding cell and the quality for that use.

    use: worth it. check: faster, and its answers are to be looked at first. keep: no gain, or answers not acceptable.
    metric, code, ratio, ci_low, ci_high: the deciding comparison (code None: there is none).
    """

    style: Style
    workload: str
    variant: str
    concurrency: int | None
    max_tokens: int | None
    action: Action
    metric: str = "throughput_tok_s"
    code: Code | None
    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    got_worse: tuple[MetricChange, ...] = ()
    quality: QualityStatus
    quality_because: tuple[Finding, ...] = ()

    @property
    def cell(self) -> Cell | None:
        """The deciding cell."""
        if self.concurrency is None or self.max_tokens is None:
            return None
        return Cell.of(self.workload, self.concurrency, self.max_tokens)


class UseDecision(Record, frozen=True, kw_only=True):
    """One use (chat: interactive workloads; batch): what to do, with which variant, and how sure that is.

    workload: of the choice that decides, where the style has several.
    """

    style: Style
    action: Action
    variant: str | None
    workload: str | None = None
    confidence: Confidence
    confidence_because: tuple[Finding, ...] = ()
    choices: tuple[Choice, ...]

    @property
    def chosen(self) -> Choice | None:
        """The choice that the action is about; None where no variant is named."""
        return next((c for c in self.choices if (c.variant, c.workload) == (self.variant, self.workload)), None)


class VariantAnswer(Record, frozen=True, kw_only=True):
    """What the data say to a question for one variant: the answer in the prediction's own terms, and as a finding."""

    variant: str
    answer: str | Number | None = None
    measured: tuple[Finding, ...] = ()
    score: Score


class PredictionScore(Record, frozen=True, kw_only=True):
    """A question of the "before" lists, what was predicted, and how that came out."""

    id: str
    predicted: str | Number | None = None
    answers: tuple[VariantAnswer, ...] = ()


class Decision(Record, frozen=True, kw_only=True):
    """`decision.json`. trusted: the A/A control found no difference of the baseline from itself.

    gate: {variant: the gate's word per use}, of variants whose answers were compared. left_out: models that do not fit,
    with the arithmetic, and what stands in for the declared baseline.
    """

    gpu: str
    gpu_name: str
    baseline: str
    variants: tuple[str, ...]
    trusted: bool
    uses: tuple[UseDecision, ...]
    gate: dict[str, tuple[GateVerdict, ...]] = {}
    left_out: tuple[Finding, ...] = ()
    doubts: tuple[Finding, ...] = ()
    predictions: tuple[PredictionScore, ...] = ()
