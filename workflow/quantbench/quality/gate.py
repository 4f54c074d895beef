"""The gate: whether a variant's answers are good enough for a use, by one table of thresholds and their sources.

*fine*: a loss as large as the margin is excluded, of all items and, at twice that, of those that either side passes;
and nothing speaks against it.
*not acceptable*: a loss, hard failures or a distance of the likelihoods are shown. *insufficient evidence*: else.
Likelihoods can lower a word, never raise it: near the baseline they do not rank models by what they can do (arXiv
2606.19558).

What the baseline does otherwise when it is asked again is neither taken off nor set aside: chance loses as often as it
gains, and the paired test holds for that as it is. To set aside what flips would bend it: an answer that comes right
nine times in ten is mostly right twice before it is lost (docs/measurement.md has the simulation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from quantbench.quality.paired import LEVEL, Paired, needed, paired, smallest_loss
from quantbench.records.base import Record
from quantbench.records.finding import Finding, finding
from quantbench.records.quality import Item, QualityDetails, Side
from quantbench.records.suite import (
    PROMPTS,
    Answered,
    Estimate,
    GateStatus,
    GateUse,
    GateVerdict,
    Likelihood,
    Outcome,
    SuiteScore,
)
from quantbench.stats import holm

Measure = Literal["kl", "top1", "ppl_ratio"]


class Use(Record, frozen=True, kw_only=True):
    """A use and the classes of items that count for it (empty: all). strict: a person reads every answer."""

    use: GateUse
    classes: tuple[str, ...] = ()
    strict: bool = False


USES: Final = (
    Use(use="chat", strict=True),
    Use(use="batch"),
    Use(use="facts", classes=("fact", "lookup")),
    Use(use="reasoning", classes=("arithmetic", "reasoning")),
    Use(use="code", classes=("code",)),
    Use(use="structured", classes=("json", "extraction", "tool_call")),
    Use(use="summaries", classes=("summary",)),
    Use(use="languages", classes=("second_language", "languages")),
)


class Threshold(Record, frozen=True, kw_only=True):
    """A number that decides, and where it comes from."""

    value: float
    source: str


ALPHA: Final = Threshold(
    value=0.05,
    source="two-sided, after Holm's correction over the uses; a use of all items and another of the same are one test",
)
RELATIVE: Final = Threshold(
    value=3.0,
    source="llm-compressor's accuracy tests keep 90 to 95 % of the score; where a third of 550 items passes, the least"
    " that can be shown is about 13 % (SmolLM2-135M; its INT8 copy loses 6 %): a multiple below 3 never says yes there",
)
"""Times the margin, the loss among items that either side passes. Of all items a loss looks small where most fail."""


class Limit(Record, frozen=True, kw_only=True):
    """How far a measure of the likelihoods may be. strict, other: for a yes, by its whole interval; out: for a no.

    worse: on which side of a limit it is too far.
    """

    measure: Measure
    strict: float
    other: float
    out: float
    worse: Literal["above", "below"]
    source: str

    def beyond(self, estimate: Estimate, limit: float, *, surely: bool) -> bool:
        """Whether an estimate may be, or surely is, beyond a limit; without an interval its value counts."""
        far, near = self._ends(estimate)
        end = near if surely else far
        end = estimate.value if end is None else end
        return end > limit if self.worse == "above" else end < limit

    def end_beyond(self, estimate: Estimate, limit: float) -> float | None:
        """The end of the interval that is beyond a limit where the value itself is not; None where it is."""
        bare = Estimate(value=estimate.value, n=estimate.n)
        return None if self.beyond(bare, limit, surely=False) else self._ends(estimate)[0]

    def _ends(self, estimate: Estimate) -> tuple[float | None, float | None]:
        """The far and the near end of an interval."""
        return (estimate.high, estimate.low) if self.worse == "above" else (estimate.low, estimate.high)


LIMITS: Final = (
    Limit(
        measure="kl", strict=0.05, other=0.15, out=0.15, worse="above",
        source="0.049: a 27B in NVFP4 (llama.cpp PR 23572); 0.15: a 1.5B in 3 bits that breaks JSON (quantgap/results)",
    ),
    Limit(
        measure="top1", strict=0.92, other=0.85, out=0.85, worse="below",
        source="91.7 % and 82.5 %, of the same two",
    ),
    Limit(
        measure="ppl_ratio", strict=math.exp(0.05), other=math.exp(0.15), out=math.exp(0.15), worse="above",
        source="exp of the KL's limits: on text that the baseline wrote the logarithm of this ratio is the KL",
    ),
)  # fmt: skip


def least(margin: float) -> int:
    """How many items, none lost, exclude a loss of the margin (Clopper and Pearson): 59 for 5 %, 149 for 2 %."""
    return math.ceil(math.log(1 - LEVEL) / math.log1p(-margin))


def margin_of(use: GateUse, margins: Mapping[str, float]) -> float:
    """`quality.margins` of a use."""
    return margins.get(use, margins["default"])


def verdicts(scores: Sequence[SuiteScore], margins: Mapping[str, float]) -> tuple[GateVerdict, ...]:
    """The word per use on one variant, from all its suites.

    margins: `quality.margins`. Items of which a check was not run, or that reached the two models as other tokens,
    count on neither side.
    """
    items = [item for score in scores for item in _items(score)]
    likelihoods = [
        (score.likelihood, score.likelihood_floor) for score in scores if score.likelihood and score.likelihood.prompts
    ]
    evidence = [_evidence(use, margin_of(use.use, margins), items, likelihoods) for use in USES]
    lost, hard = (_corrected(evidence, of) for of in (lambda e: e.loss.p, lambda e: e.hard.p))
    return tuple(_verdict(e, lost[e.use.classes], hard[e.use.classes]) for e in evidence)


def prompts_suite(details: QualityDetails) -> SuiteScore:
    """The suite of `quality.prompts`, from what its scores hold."""
    flips = dict.fromkeys(details.floor.lost, False) | dict.fromkeys(details.floor.gained, True)
    return SuiteScore(
        suite=PROMPTS,
        kind="answers",
        version="",
        baseline=details.baseline,
        variant=details.variant,
        outcomes=tuple(_outcome(item, flips, asked_again=details.floor.measured) for item in details.details),
    )


def _outcome(item: Item, flips: Mapping[str, bool], *, asked_again: bool) -> Outcome:
    baseline = _answered(item, item.baseline)
    again = Answered(passed=flips.get(item.id, baseline.passed), hard=baseline.hard, tokens=baseline.tokens)
    return Outcome(
        id=item.id,
        kind=item.kind,
        baseline=baseline,
        variant=_answered(item, item.variant),
        again=(again,) if asked_again else (),
        same_input=item.same_input,
    )


def _answered(item: Item, side: Side) -> Answered:
    unknown = item.change == "not run" or any(check.ok is None for check in side.checks)
    return Answered(
        passed=None if unknown else side.passed,
        hard=tuple(check.type for check in side.failed if check.hard),
        tokens=side.tokens,
        cut=side.finish_reason == "length",
        in_thought=side.thought == "open",
    )


class _Item(NamedTuple):
    """An item with its name and cluster among all suites."""

    id: str
    cluster: str
    outcome: Outcome


def _items(score: SuiteScore) -> Iterator[_Item]:
    below = "" if score.suite == PROMPTS else f"{score.suite}/"
    for outcome in score.outcomes:
        yield _Item(f"{below}{outcome.id}", outcome.cluster and f"{below}{outcome.cluster}", outcome)


class _Evidence(NamedTuple):
    """What there is on a use. relative: the loss among items that either side passes; foreign: items left out, as they
    were other tokens; flips: share of items that the baseline itself does otherwise.
    """

    use: Use
    margin: float
    items: list[_Item]
    foreign: int
    passed: int
    loss: Paired
    relative: Paired
    hard: Paired
    floor: float | None
    hard_floor: float
    flips: float
    likelihoods: list[tuple[Likelihood, Likelihood | None]]


def _evidence(
    use: Use,
    margin: float,
    items: Sequence[_Item],
    likelihoods: list[tuple[Likelihood, Likelihood | None]],
) -> _Evidence:
    of_use = [item for item in items if not use.classes or item.outcome.kind in use.classes]
    known = [i for i in of_use if None not in (i.outcome.baseline.passed, i.outcome.variant.passed)]
    mine = [item for item in known if item.outcome.same_input]
    either = [item for item in mine if item.outcome.baseline.passed or item.outcome.variant.passed]
    return _Evidence(
        use=use,
        margin=margin,
        items=mine,
        foreign=len(known) - len(mine),
        passed=sum(bool(item.outcome.baseline.passed) for item in mine),
        loss=paired((item.cluster, _change(item, _fails)) for item in mine),
        relative=paired((item.cluster, _change(item, _fails)) for item in either),
        hard=paired((item.cluster, _change(item, _is_hard)) for item in mine),
        floor=_mean(_again(mine, _fails)),
        hard_floor=_mean(_again(mine, _is_hard)) or 0.0,
        flips=_mean(map(abs, _again(mine, _fails))) or 0.0,
        likelihoods=likelihoods,
    )


def _fails(answered: Answered) -> bool:
    return not answered.passed


def _is_hard(answered: Answered) -> bool:
    """Whether an answer is empty, garbled or a loop."""
    return bool(answered.hard)


def _change(item: _Item, fault: Callable[[Answered], bool]) -> int:
    """1: only the variant has the fault; -1: only the baseline."""
    return fault(item.outcome.variant) - fault(item.outcome.baseline)


def _again(items: Sequence[_Item], fault: Callable[[Answered], bool]) -> list[float]:
    """The same of the baseline's own repeats: the mean change, of each item that was asked again."""
    repeats = [(i.outcome.baseline, [a for a in i.outcome.again if a.passed is not None]) for i in items]
    return [sum(fault(a) - fault(first) for a in again) / len(again) for first, again in repeats if again]


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None


def _corrected(
    evidence: Sequence[_Evidence], of: Callable[[_Evidence], float | None]
) -> dict[tuple[str, ...], float | None]:
    """{classes: p after Holm's correction}: uses of the same items are one test."""
    each = {e.use.classes: of(e) for e in evidence}
    return dict(zip(each, holm(list(each.values())), strict=True))


def _verdict(e: _Evidence, p: float | None, p_hard: float | None) -> GateVerdict:
    low, high = e.loss.bounds or (None, None)
    against = [*_shown(e, p), *_hard(e, p_hard), *_likelihood(e, shown=True)]
    open_ = list(_open(e))
    status: GateStatus = "not acceptable" if against else "insufficient evidence" if open_ else "fine"
    differ = max(_discordance(e, e.loss), 1 / e.loss.n if e.loss.n else 0.0)
    return GateVerdict(
        use=e.use.use,
        status=status,
        n=e.loss.n,
        passed=e.passed,
        lost=tuple(item.id for item in e.items if _change(item, _fails) > 0),
        gained=tuple(item.id for item in e.items if _change(item, _fails) < 0),
        loss=e.loss.loss,
        low=low,
        high=high,
        margin=e.margin,
        p=p,
        relative=e.relative.loss,
        relative_high=e.relative.bounds[1] if e.relative.bounds else None,
        smallest_loss=smallest_loss(e.loss.effective, differ),
        needed=_needed(e) if status == "insufficient evidence" else None,
        floor=e.floor,
        new_hard=tuple(item.id for item in e.items if _change(item, _is_hard) > 0),
        because=tuple(against or open_ or [finding("gate.fine", **_counts(e))]),
    )


def _discordance(e: _Evidence, outcome: Paired) -> float:
    """Share of items that differ: as found, but at least as many as the baseline itself does otherwise."""
    return max(outcome.discordance or 0.0, e.flips)


def _counts(e: _Evidence) -> dict[str, int]:
    return {"lost": e.loss.lost, "gained": e.loss.gained, "n": e.loss.n}


def _shown(e: _Evidence, p: float | None) -> Iterator[Finding]:
    """A loss that is shown and matters: significant and, beyond the floor, above the margin; or, where the correction
    over the uses takes the significance away, above it by its lower bound.
    """
    if e.loss.p is None or e.loss.p >= ALPHA.value or e.loss.lost < e.loss.gained:
        return
    floor = max(0.0, e.floor or 0.0)
    both = ((e.loss, e.margin), (e.relative, RELATIVE.value * e.margin))
    if p is not None and p < ALPHA.value and any((x.loss or 0.0) - floor > margin for x, margin in both):
        yield finding("gate.loss", **_counts(e), p=p)
    elif any(x.bounds and x.bounds[0] - floor > margin for x, margin in both):
        yield finding("gate.loss_beyond", **_counts(e))


def _hard(e: _Evidence, p: float | None) -> Iterator[Finding]:
    """Significantly more empty, garbled or looping answers, and more than the baseline has when it is asked again."""
    if p is not None and p < ALPHA.value and (e.hard.loss or 0.0) > max(0.0, e.hard_floor):
        yield finding("gate.hard", new=e.hard.lost, fewer=e.hard.gained, n=e.hard.n, p=p)


def _likelihood(e: _Evidence, *, shown: bool) -> Iterator[Finding]:
    """What of the likelihoods forbids a yes or, `shown`, asks for a no; never where the floor is as far."""
    for likelihood, floor in e.likelihoods:
        for limit in LIMITS:
            at = limit.out if shown else limit.strict if e.use.strict else limit.other
            estimate: Estimate = getattr(likelihood, limit.measure)
            itself: Estimate | None = getattr(floor, limit.measure) if floor else None
            if itself and limit.beyond(itself, at, surely=False):
                continue
            if limit.beyond(estimate, at, surely=shown):
                end = limit.end_beyond(estimate, at)
                yield finding("gate.likelihood", form=limit.measure, value=estimate.value, end=end, limit=at)
                break  # one is enough to say


def _open(e: _Evidence) -> Iterator[Finding]:
    """What a yes lacks."""
    if not e.items:
        yield finding("gate.no_items")
        return
    if e.foreign:
        yield finding("gate.other_tokens", n=e.foreign)
    items, passed = least(e.margin), least(RELATIVE.value * e.margin)
    if e.loss.n < items or e.passed < passed:
        yield finding("gate.few", n=e.loss.n, passed=e.passed, least=items, least_passed=passed)
    elif not _within(e.loss, e.margin):
        yield finding("gate.not_excluded", high=e.loss.bounds and e.loss.bounds[1], margin=e.margin)
    elif not _within(e.relative, RELATIVE.value * e.margin):
        bounds = e.relative.bounds
        yield finding("gate.relative", high=bounds and bounds[1], margin=RELATIVE.value * e.margin)
    elif e.use.strict and not _within(e.hard, e.margin):
        yield finding("gate.hard_open", new=e.hard.lost, fewer=e.hard.gained, n=e.hard.n, margin=e.margin)
    yield from _likelihood(e, shown=False)


def _within(outcome: Paired, margin: float) -> bool:
    return outcome.bounds is not None and outcome.bounds[1] < margin


def _needed(e: _Evidence) -> int | None:
    """Items of the use that would decide all that is open; None where no number would, or more is in the way."""
    if not e.passed or e.foreign or any(_likelihood(e, shown=False)):
        return None
    relative = RELATIVE.value * e.margin
    counts: list[int | None] = [least(e.margin), math.ceil(least(relative) * e.loss.n / e.passed)]
    wanted = [(e.loss, e.margin), (e.relative, relative), *([(e.hard, e.margin)] if e.use.strict else [])]
    for outcome, margin in wanted:
        if not _within(outcome, margin):
            more = needed(outcome, margin, _discordance(e, outcome))
            counts.append(None if more is None else math.ceil(more * e.loss.n / outcome.n))
    return None if None in counts else max(e.loss.n + 1, *(count for count in counts if count is not None))
