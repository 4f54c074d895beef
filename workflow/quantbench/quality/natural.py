"""How the answers of a pair end that are free to end: their lengths, what is cut, loops, empty and garbled ones.

Capacity is measured with answers of a fixed length, so a variant that talks longer looks equal there. The unit of every
interval is the cluster: items that share a passage or a template err together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace

from quantbench.quality.gate import prompts_suite
from quantbench.records.codes import code
from quantbench.records.natural import Natural, Rates
from quantbench.records.quality import QualityDetails
from quantbench.records.suite import PROMPTS, Answered, Estimate, Outcome, SuiteScore
from quantbench.stats import NO_SPREAD, share_limits, t_quantile

MIN_CLUSTERS: Final = 10
"""Fewest clusters that an interval rests on."""
TWO_SIDED: Final = 0.975
Holds = Callable[[Answered], bool]


def pooled(scores: Sequence[SuiteScore], details: QualityDetails | None) -> tuple[tuple[str, ...], list[Outcome]]:
    """(suites, items) of all suites whose answers are checked; where none has an item, the prompts of `details`.

    An item and a cluster are told from those of the same name in another suite.
    """
    answers = [score for score in scores if score.kind == "answers" and score.outcomes]
    if not answers and details:
        return (PROMPTS,), list(prompts_suite(details).outcomes)
    return tuple(score.suite for score in answers), [
        Outcome(
            id=f"{score.suite}/{item.id}",
            kind=item.kind,
            cluster=f"{score.suite}/{cluster_of(item)}",
            baseline=item.baseline,
            variant=item.variant,
            again=item.again,
            same_input=item.same_input,
        )
        for score in answers
        for item in score.outcomes
    ]


def of_run(
    baseline: str, scores: Iterable[SuiteScore], details: Iterable[QualityDetails]
) -> dict[str, tuple[Natural, list[Outcome]]]:
    """{variant: its natural answers, and the items that they are of} from all suites and quality prompts of a run."""
    by_variant: dict[str, list[SuiteScore]] = {}
    for score in scores:
        by_variant.setdefault(score.variant, []).append(score)
    prompts = {pair.variant: pair for pair in details}
    found = {}
    for variant in dict.fromkeys([*prompts, *by_variant]):
        suites, outcomes = pooled(by_variant.get(variant, []), prompts.get(variant))
        if outcomes:
            found[variant] = natural(outcomes, baseline=baseline, variant=variant, suites=suites), outcomes
    return found


def tokens(pairs: Iterable[Natural]) -> dict[str, float]:
    """{model: mean tokens of its answers}; the baseline's are those of the first pair that has them."""
    found: dict[str, float] = {}
    for pair in pairs:
        for model, length in ((pair.baseline, pair.baseline_tokens), (pair.variant, pair.variant_tokens)):
            if length:
                found.setdefault(model, length)
    return found


def cluster_of(item: Outcome) -> str:
    """What an item shares with others; its own id where it stands alone."""
    return item.cluster or item.id


def judged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Items whose checks were all run on both sides: of the others nobody knows whether they pass."""
    return [item for item in outcomes if item.baseline.passed is not None and item.variant.passed is not None]


def natural(outcomes: Sequence[Outcome], *, baseline: str, variant: str, suites: Sequence[str] = ()) -> Natural:
    """Lengths and ends of the answers; blank where the sides were not asked the same, or nothing was."""
    items = judged(outcomes)
    names = [cluster_of(item) for item in items]
    found = Natural(
        variant=variant, baseline=baseline, suites=tuple(suites), items=len(items), clusters=len(set(names))
    )
    if reasons := _refused(items):
        return replace(found, reasons=reasons)
    groups = np.unique(names, return_inverse=True)[1]

    def rates(holds: Holds) -> Rates:
        return _rates([holds(item.baseline) for item in items], [holds(item.variant) for item in items], groups)

    ratio = _length_ratio(items, groups)
    reasons = (code("ci_needs_clusters", n=MIN_CLUSTERS),) if found.clusters < MIN_CLUSTERS else ()
    if not reasons and ratio and ratio.low is None:
        reasons = (code("no_variation"),)
    return replace(
        found,
        baseline_tokens=float(np.mean([item.baseline.tokens for item in items])),
        variant_tokens=float(np.mean([item.variant.tokens for item in items])),
        length_ratio=ratio,
        cut=rates(lambda side: side.cut),
        cut_in_thought=rates(_cut_in_thought),
        loops=rates(lambda side: "no_repetition" in side.hard),
        broken=rates(lambda side: not _cut_in_thought(side) and not {"not_empty", "not_garbled"}.isdisjoint(side.hard)),
        correct=rates(lambda side: bool(side.passed)),
        either=share([bool(item.variant.passed or item.baseline.passed) for item in items], groups),
        reasons=reasons,
    )


def _cut_in_thought(side: Answered) -> bool:
    return side.cut and side.in_thought


def _refused(items: Sequence[Outcome]) -> tuple[str, ...]:
    if not items:
        return (code("no_values"),)
    foreign = sum(not item.same_input for item in items)
    return (code("other_input", n=foreign),) if foreign else ()


def _length_ratio(items: Sequence[Outcome], groups: np.ndarray) -> Estimate | None:
    """exp of the mean log ratio over items with an answer on both sides, ± t(clusters - 1) standard errors.

    The standard error is that of a mean of clusters (Liang & Zeger 1986, with G / (G - 1)). Where an answer is cut, its
    length is a lower bound, and so the ratio lies nearer to 1 than it is.
    """
    both = [i for i, item in enumerate(items) if item.baseline.tokens and item.variant.tokens]
    if not both:
        return None
    logs = np.log([items[i].variant.tokens / items[i].baseline.tokens for i in both])
    own, mean = groups[both], float(logs.mean())
    clusters = len(np.unique(own))
    error = _error(logs, own)
    if clusters < MIN_CLUSTERS or error < NO_SPREAD:
        return Estimate(value=math.exp(mean), n=len(both))
    half = t_quantile(TWO_SIDED, clusters - 1) * error
    return Estimate(value=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), n=len(both))


def _error(values: np.ndarray, groups: np.ndarray) -> float:
    """Standard error of the mean of values that come in clusters; 0 for a single cluster."""
    sums = np.bincount(groups, weights=values - values.mean())
    sums = sums[np.unique(groups)]
    g = len(sums)
    return math.sqrt(g / (g - 1) * float((sums**2).sum())) / len(values) if g > 1 else 0.0


def _design_effect(values: np.ndarray, groups: np.ndarray) -> float:
    """How many times fewer items the clusters are worth (Kish 1965), at least 1."""
    alone = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    if alone < NO_SPREAD:
        return 1.0
    return max(1.0, (_error(values, groups) / alone) ** 2)


def _rates(baseline: Sequence[bool], variant: Sequence[bool], groups: np.ndarray) -> Rates:
    return Rates(
        baseline=share(baseline, groups),
        variant=share(variant, groups),
        difference=_difference(baseline, variant, groups),
    )


def share(holds: Sequence[bool], groups: np.ndarray) -> Estimate:
    """A share of items with its Clopper-Pearson interval, of as many items as the clusters are worth (Korn & Graubard
    1998); without an interval below MIN_CLUSTERS.
    """
    values = np.asarray(holds, dtype=float)
    n, value = len(values), float(values.mean())
    if len(np.unique(groups)) < MIN_CLUSTERS:
        return Estimate(value=value, n=n)
    worth = n / _design_effect(values, groups)
    low, high = share_limits(value * worth, worth)
    return Estimate(value=value, low=low, high=high, n=n)


def _difference(baseline: Sequence[bool], variant: Sequence[bool], groups: np.ndarray) -> Estimate:
    """Of two shares of the same items, variant - baseline, from the limits of what only one side has, put together by
    the recovery of variances (Zou & Donner 2008), of as many items as the clusters are worth.

    The one place where natural answers need a paired interval of proportions: one of quality/paired.py can stand here.
    """
    own = np.asarray(variant, dtype=float) - np.asarray(baseline, dtype=float)
    n, value = len(own), float(own.mean())
    if len(np.unique(groups)) < MIN_CLUSTERS:
        return Estimate(value=value, n=n)
    more, less = float((own > 0).mean()), float((own < 0).mean())
    worth = n / _design_effect(own, groups)
    (more_low, more_high), (less_low, less_high) = share_limits(more * worth, worth), share_limits(less * worth, worth)
    low = value - math.hypot(more - more_low, less_high - less)
    high = value + math.hypot(more_high - more, less - less_low)
    return Estimate(value=value, low=max(-1.0, low), high=min(1.0, high), n=n)
