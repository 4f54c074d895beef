"""Two arms compared: the rows of `comparison/{workload}.csv`, and `comparison/verdict.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from quantbench.records.base import Record, convert
from quantbench.records.cell import InCell
from quantbench.records.codes import parse

Code = Literal["better", "worse", "equivalent", "undecided", "described", "no_test", "invalid"]
DECIDED: tuple[Code, ...] = ("better", "worse", "equivalent")
LeftOpen = Literal["budget_spent", "most_blocks", "not_measured"]
"""budget_spent: no further round fits. most_blocks: the cell has as many as are allowed. not_measured: no more blocks
are to be had of it."""


class InvalidBlock(Record, frozen=True, kw_only=True):
    """A block that a comparison had to leave out: of which arm, its number, the guards that refused it."""

    model: str
    block: int
    guards: tuple[str, ...]


class RatioInterval:
    """What the interval of a ratio says, for records with these fields."""

    __slots__ = ()
    ci_low: float | None
    ci_high: float | None
    margin: float

    @property
    def has_ci(self) -> bool:
        """Whether there is an interval."""
        return self.ci_low is not None and self.ci_high is not None

    @property
    def excludes_one(self) -> bool:
        """Whether the row's own interval, before any correction, lies on one side of 1."""
        low, high = self.ci_low, self.ci_high
        return low is not None and high is not None and not low <= 1 <= high

    @property
    def within_margin(self) -> bool:
        """Whether the interval lies within the margin."""
        low, high, bound = self.ci_low, self.ci_high, 1 + self.margin
        return low is not None and high is not None and low > 1 / bound and high < bound


class Comparison(InCell, RatioInterval, frozen=True, kw_only=True):
    """One metric of one variant in one cell, set against the baseline.

    ratio is variant / baseline with its 95 % CI over n_pairs paired blocks, from `sd`, the standard deviation of one
    pair's log-ratio, known with `df` degrees of freedom. code "described": the metric has no test and no p-value.
    p_value: difference from 1, p_equivalence: ratio outside of the margin, both as they are; p_holm: p_value corrected
    in its family of `family` comparisons (None for the primary one, which is alone). margin: within it a difference
    does not matter; alike: the ratio is shown to lie within it. likely: what an undecided row's own interval suggests
    and the correction does not let stand. blocks_to_decide: further pairs that would decide an undecided row; None
    where none would. left_open: why an undecided row got no further blocks, where there was a budget for them.
    first: how many pairs of the plan keep their say in the interval, None where all pairs count alike.
    blockers: guards that refuse the comparison as a whole. invalid_blocks: the pairs it had to leave out; reasons has
    these too, as text for readers of the CSV. coarse: of older records only, whose margin followed the A/A control.
    """

    gpu_name: str
    baseline: str
    variant: str
    metric: str
    baseline_value: float | None
    variant_value: float | None
    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    n_pairs: int
    p_value: float | None
    p_holm: float | None
    margin: float
    code: Code
    words: str = ""
    primary: bool
    interleaved: bool
    valid: bool
    reasons: tuple[str, ...] = ()
    family: int = 1
    coarse: bool = False
    alike: bool = False
    likely: Literal["gain", "loss"] | None = None
    blocks_to_decide: int | None = None
    left_open: LeftOpen | None = None
    p_equivalence: float | None = None
    sd: float | None = None
    df: float | None = None
    same_lane: bool = True
    first: int | None = None
    blockers: tuple[str, ...] = ()
    invalid_blocks: tuple[InvalidBlock, ...] = ()

    @property
    def by_start(self) -> bool:
        """Whether the start of its servers is the unit of the interval: then more blocks do not narrow it."""
        return any(parse(reason).name == "start_is_unit" for reason in self.reasons)

    @property
    def decided(self) -> bool:
        """Whether there is an answer: better, worse or equivalent."""
        return self.code in DECIDED


COMPARISON_COLUMNS: tuple[str, ...] = (
    *("gpu_name", "workload", "baseline", "variant", "concurrency", "max_tokens", "metric"),
    *("baseline_value", "variant_value", "ratio", "ci_low", "ci_high", "n_pairs", "p_value", "p_holm", "margin"),
    *("code", "words", "primary", "interleaved", "valid", "reasons"),
)
"""Columns of comparison/{workload}.csv; verdict.json has the rest."""


class IsoComparison(Comparison, frozen=True, kw_only=True):
    """The same, each model with as many requests of `length` tokens in flight as its KV cache holds (`iso_memory`).

    concurrency is the variant's. baseline_fits, variant_fits: how many the servers' caches hold; None where not told.
    longest_request: tokens of the longest that was sent.
    """

    length: int
    longest_request: int | None
    baseline_concurrency: int
    baseline_fits: int | None
    variant_fits: int | None


ISO_COLUMNS: tuple[str, ...] = (
    *("gpu_name", "workload", "baseline", "variant", "length", "max_tokens"),
    *("baseline_concurrency", "concurrency", "baseline_fits", "variant_fits", "longest_request"),
    *COMPARISON_COLUMNS[COMPARISON_COLUMNS.index("metric") :],
)
"""Columns of comparison/iso_memory.csv."""


class Primary(InCell, frozen=True, kw_only=True):
    """The comparison that was declared to decide, before anything was measured."""

    metric: str


class ControlMetric(Record, frozen=True, kw_only=True):
    """One metric of the A/A control; `different` is None where there is no test."""

    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    n_pairs: int
    p_value: float | None
    p_holm: float | None
    half_width: float | None
    different: bool | None
    code: Code
    reason: str | None = None


class Control:
    """The A/A control: the baseline against itself. On disk the metrics stand beside the other keys."""

    def __init__(
        self,
        *,
        present: bool,
        cell: str | None = None,
        interleaved: bool | None = None,
        words: str = "",
        metrics: Mapping[str, ControlMetric] | None = None,
    ) -> None:
        self.present, self.cell, self.interleaved, self.words = present, cell, interleaved, words
        self.metrics = dict(metrics or {})

    @property
    def different(self) -> list[str]:
        """Metrics in which the baseline differs from itself."""
        return [name for name, entry in self.metrics.items() if entry.different]

    @property
    def tested(self) -> bool:
        """Whether any metric could be tested."""
        return any(entry.different is not None for entry in self.metrics.values())

    def half_width(self, metric: str) -> float | None:
        """What the control resolves in one metric, as a relative figure."""
        entry = self.metrics.get(metric)
        return entry.half_width if entry else None

    def with_words(self, words: str) -> Control:
        """The same with its sentence."""
        return Control(
            present=self.present, cell=self.cell, interleaved=self.interleaved, words=words, metrics=self.metrics
        )

    def as_json(self) -> dict[str, Any]:
        """As it stands in verdict.json."""
        head: dict[str, Any] = {"present": self.present, "cell": self.cell}
        if self.present:
            head["interleaved"] = self.interleaved
        return {**head, "words": self.words, **{name: entry.as_dict() for name, entry in self.metrics.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Control:
        """The inverse of `as_json`."""
        head = ("present", "cell", "interleaved", "words")
        if "present" not in value:
            raise msgspec.ValidationError("Object missing required field `present`")
        metrics = {name: convert(entry, ControlMetric) for name, entry in value.items() if name not in head}
        return cls(**{key: value[key] for key in head if key in value}, metrics=metrics)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Control) and self.as_json() == other.as_json()

    __hash__ = None  # type: ignore[assignment]


class DriftRow(InCell, frozen=True, kw_only=True):
    """Trend of the baseline's own valid blocks over the session, in percent; flagged: it is shown and it matters."""

    metric: str
    percent: float | None
    ci_low_pct: float | None
    ci_high_pct: float | None
    p_value: float | None
    n: int
    flagged: bool | None
    reason: str | None = None


class StartEffect(InCell, frozen=True, kw_only=True):
    """What differs between the starts of the servers in one metric of a variant: paired log-ratios as a one-way layout.

    starts: groups of pairs that share no server. difference: by how much the largest mean ratio of a start exceeds the
    smallest. between, within: components of the variance of a log-ratio, the first unbiased and so below 0 at times;
    None where there is one start, or one pair of each. p_holm: of the F test, over the cells; differs: p_holm < 0.05.
    """

    variant: str
    metric: str
    starts: int
    n_pairs: int
    difference: float | None = None
    between: float | None = None
    within: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    differs: bool = False


class PrecisionEntry(Record, frozen=True, kw_only=True):
    """One comparison's half-width and what it lacks: blocks_more further blocks reach the target (0: reached)."""

    cell: str
    variant: str
    metric: str
    half_width: float | None
    blocks_more: int | None
    reasons: tuple[str, ...] = ()


class Precision(Record, frozen=True, kw_only=True):
    """Which comparisons are as precise as the config's `precision`; extra_blocks: the config key that adds blocks."""

    target: float | None
    most_blocks: int
    reached: tuple[PrecisionEntry, ...] = ()
    missing: tuple[PrecisionEntry, ...] = ()
    out_of_reach: tuple[PrecisionEntry, ...] = ()
    untested: tuple[PrecisionEntry, ...] = ()
    refused: tuple[PrecisionEntry, ...] = ()
    extra_blocks: dict[str, int] = {}


class Verdict(Record, frozen=True, kw_only=True):
    """`comparison/verdict.json`; trusted: the baseline does not differ from itself."""

    baseline: str
    primary: Primary
    margin: float
    confidence: float
    aa: Control
    trusted: bool
    words: str = ""
    drift: tuple[DriftRow, ...]
    rows: tuple[Comparison, ...]
    precision: Precision
    iso_memory: tuple[IsoComparison, ...] = ()
    starts: tuple[StartEffect, ...] = ()
