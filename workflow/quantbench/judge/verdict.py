"""Paired blocks → ratio, CI and code per (variant, cell, metric); the A/A control. `report.verdict` says them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from quantbench.judge.drift import drift_of
from quantbench.judge.pairing import BlockKey, Estimate, Pairs, Samples, arms_of, measure, pair_up
from quantbench.judge.precision import MOST_BLOCKS, blocks_to_decide, plan
from quantbench.judge.starts import effects, widened
from quantbench.records import codes
from quantbench.records.block import BlockContext
from quantbench.records.cell import AA_SUFFIX, Cell
from quantbench.records.comparison import (
    Code,
    Comparison,
    Control,
    ControlMetric,
    InvalidBlock,
    Primary,
    StartEffect,
    Verdict,
)
from quantbench.records.metric import COMPARED, METRICS, PER_GPU, SPEED
from quantbench.records.two_runs import RunRow
from quantbench.stats import MIN_PAIRS, half_width, holm, shared, tost

Arms = Mapping[str, Sequence[BlockContext]]
ALPHA: Final = 0.05
TESTED: Final = (SPEED, PER_GPU, "p95_ttft_ms", "p95_e2e_ms")
"""Metrics that answer a reader's question, and the one that a run declares; the others are described by their interval.
Each is a family of its own per variant and workload."""


@dataclass(frozen=True)
class Candidate:
    """One metric of a variant in a cell before it is tested; blockers: why it is refused as a whole."""

    cell: Cell
    metric: str
    pairs: Pairs
    measured: Estimate
    margin: float
    blockers: tuple[str, ...] = ()
    primary: bool = False
    tested: bool = True

    @property
    def usable(self) -> bool:
        """Whether it may have a test."""
        return self.tested and not self.blockers and len(self.pairs) >= MIN_PAIRS


@dataclass(frozen=True)
class Test:
    """Both p-values of a comparison as they count, None where there is no test; family: corrected with how many.

    alone: that of equivalence before the correction.
    """

    difference: float | None
    equivalence: float | None
    family: int
    alone: float | None = None

    @property
    def alike(self) -> bool:
        """Whether the ratio is shown to lie within the margin."""
        return self.equivalence is not None and self.equivalence < ALPHA


def build_verdict(
    contexts: Sequence[BlockContext],
    *,
    baseline: str,
    primary: Primary,
    variants: Sequence[str] | None = None,
    margin: float = 0.02,
    samples: Mapping[BlockKey, Samples] | None = None,
    pair_failures: Mapping[str, Sequence[str]] | None = None,
    target: float | None = None,
    planned_blocks: int | None = None,
    most_blocks: int = MOST_BLOCKS,
    gpu_name: str = "",
    gpus: Mapping[str, int] | None = None,
    until_decided: bool = False,
    starts: int = 1,
) -> Verdict:
    """The verdict on judged blocks of all arms (the A/A arm is `{baseline}__aa`), its words left blank.

    samples: request values per block for pooled p95s. pair_failures: {variant: failed guards of evaluate_pair}; such a
    variant gets no verdict. target: wanted half-width. planned_blocks, most_blocks: `blocks` and `refine.max_blocks` of
    the config; blocks beyond `blocks` came later. If all of a cell's came by `rounds.next_round`, its pairs count
    alike; else by the width of the intervals, and the first ones keep their say (`stats.spread`). until_decided: blocks
    that do not tell how they came, of older results, came by rounds. gpus: how many serve each model (1 where not
    given); a variant that uses another number than the baseline is compared per GPU too. starts: how often the plan
    starts each server.
    """
    cells = arms_of(contexts)
    first = {cell: _first(arms, planned_blocks, until_decided) for cell, arms in cells.items()}
    aa = control_of(_pairs(cells, baseline, baseline + AA_SUFFIX, first, samples), primary, margin)
    rows: list[Comparison] = []
    differences: list[StartEffect] = []
    for variant in _variants(contexts, baseline) if variants is None else variants:
        blockers = tuple((pair_failures or {}).get(variant, ()))
        pairs = _pairs(cells, baseline, variant, first, samples)
        shares = ((gpus or {}).get(baseline, 1), (gpus or {}).get(variant, 1))
        candidates = _candidates(pairs, primary, blockers, margin, shares, starts)
        differences += effects(variant, pairs)
        names = {"gpu_name": gpu_name, "baseline": baseline, "variant": variant}
        rows += [_comparison(candidate, test, names, most_blocks) for candidate, test in tested(candidates, _question)]
    drifts = (drift_of(cell, arms.get(baseline, ())) for cell, arms in cells.items())
    return Verdict(
        baseline=baseline,
        primary=primary,
        margin=margin,
        confidence=1 - ALPHA,
        aa=aa,
        trusted=not aa.different,
        drift=tuple(row for row in drifts if row),
        rows=tuple(rows),
        precision=plan(rows, target, _on_disk(cells), planned_blocks, most_blocks),
        starts=tuple(differences),
    )


def _variants(contexts: Sequence[BlockContext], baseline: str) -> list[str]:
    arms = dict.fromkeys(context.arm for context in contexts)
    return [arm for arm in arms if arm not in (baseline, baseline + AA_SUFFIX)]


def _candidates(
    pairs_of: Mapping[Cell, Pairs],
    primary: Primary,
    blockers: tuple[str, ...],
    margin: float,
    gpus: tuple[int, int],
    starts: int,
) -> list[Candidate]:
    """All comparisons of one variant, uncorrected; the cells of a metric share what they tell of its scatter."""
    metrics = COMPARED if gpus[0] == gpus[1] else (*COMPARED, PER_GPU)
    measured = {metric: _sharing([measure(pairs, metric, gpus) for pairs in pairs_of.values()]) for metric in metrics}
    return [
        Candidate(
            cell,
            metric,
            pairs,
            widened(measured[metric][i], pairs, metric, starts),
            margin,
            blockers,
            primary=(cell, metric) == (primary.cell, primary.metric),
            tested=metric in (*TESTED, primary.metric),
        )
        for i, (cell, pairs) in enumerate(pairs_of.items())
        for metric in metrics
    ]


def apart(
    pairs_of: Mapping[Cell, Pairs],
    verdict: Verdict,
    blockers: tuple[str, ...],
    *,
    gpus: tuple[int, int],
    starts: int,
    names: Mapping[str, Any],
    most_blocks: int,
) -> list[Comparison]:
    """Comparisons of one variant beside a verdict: families of their own, none of them primary, with its margin."""
    candidates = _candidates(pairs_of, verdict.primary, blockers, verdict.margin, gpus, starts)
    alone = [replace(candidate, primary=False) for candidate in candidates]
    return [_comparison(candidate, test, names, most_blocks) for candidate, test in tested(alone, _question)]


def _sharing(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Estimates of one metric whose scatters inform each other; a pooled p95 has another kind of interval."""
    pooled = codes.code("p95_pooled")
    own = [i for i, estimate in enumerate(estimates) if pooled not in estimate.remarks]
    found = list(estimates)
    for i, ci in zip(own, shared([estimates[i].ci for i in own]), strict=True):
        found[i] = replace(found[i], ci=ci)
    return found


def _question(candidate: Candidate) -> tuple[str, str]:
    """Of which family a comparison of one variant is: its workload and metric."""
    return candidate.cell.workload, candidate.metric


def _first(arms: Arms, planned: int | None, until_decided: bool) -> int | None:
    """`planned` where the first blocks of a cell keep their say, None where all count alike.

    How its further blocks came decides, and not what the command of today is for.
    """
    beyond = [block.beyond for blocks in arms.values() for block in blocks if block.block > (planned or 0)]
    alike = all(how == "round" or (how is None and until_decided) for how in beyond)
    return None if alike else planned


def _pairs(
    cells: Mapping[Cell, Arms],
    baseline: str,
    variant: str,
    first: Mapping[Cell, int | None],
    samples: Mapping[BlockKey, Samples] | None,
) -> dict[Cell, Pairs]:
    return {
        cell: pair_up(arms[baseline], arms[variant], first[cell], samples)
        for cell, arms in cells.items()
        if baseline in arms and variant in arms
    }


def _on_disk(cells: Mapping[Cell, Arms]) -> dict[str, int]:
    """Blocks measured per cell, valid or not: the most that any arm has."""
    return {cell.key: max(map(len, arms.values())) for cell, arms in cells.items()}


def tested(candidates: Sequence[Candidate], family_of: Callable[[Candidate], Hashable]) -> list[tuple[Candidate, Test]]:
    """Candidates with their two tests: difference from 1 (Student's t) and equivalence within the margin (TOST).

    The declared primary is tested at 5 %; all others are corrected with Holm's method within their family, each
    test on its own.
    """
    raw = [c.measured.ci.p_value if c.usable else None for c in candidates]
    same = [tost(c.measured.ci, c.margin) if c.usable else None for c in candidates]
    tests = corrected(raw, same, [None if c.primary else (family_of(c),) for c in candidates])
    return list(zip(candidates, tests, strict=True))


def corrected(
    difference: Sequence[float | None], equivalence: Sequence[float | None], families: Sequence[Hashable | None]
) -> list[Test]:
    """Both p-values of each comparison, Holm-corrected within its family; None as a family: it is alone."""
    tests = [Test(p, q, 1, q) for p, q in zip(difference, equivalence, strict=True)]
    members_of: dict[Hashable, list[int]] = {}
    for i, family in enumerate(families):
        if family is not None:
            members_of.setdefault(family, []).append(i)
    for members in members_of.values():
        held = [holm([ps[i] for i in members]) for ps in (difference, equivalence)]
        size = sum(p is not None for p in held[0])
        for i, p, q in zip(members, *held, strict=True):
            tests[i] = Test(p, q, size, equivalence[i])
    return tests


def decide(candidate: Candidate, test: Test) -> Code:
    """The code of a tested comparison."""
    ratio = candidate.measured.ci.ratio
    if candidate.blockers or (candidate.pairs.invalid and len(candidate.pairs) < MIN_PAIRS):
        return "invalid"
    if not candidate.tested and candidate.measured.ci.low is not None:
        return "described"
    if test.difference is None or test.equivalence is None or ratio is None:
        return "no_test"
    if test.alike:
        return "equivalent"
    if test.difference < ALPHA:
        return "better" if METRICS[candidate.metric].is_better(ratio) else "worse"
    return "undecided"


def likely(row: Comparison | RunRow) -> Literal["gain", "loss"] | None:
    """What the own CI of an undecided comparison suggests, where it excludes 1 but the corrected test does not.

    A CI within the margin suggests neither: if there is a difference, it is one that does not matter.
    """
    if row.ratio is None or not row.excludes_one or row.within_margin:
        return None
    return "gain" if METRICS[row.metric].is_better(row.ratio) else "loss"


def _comparison(candidate: Candidate, test: Test, names: Mapping[str, Any], most_blocks: int) -> Comparison:
    """A comparison as it is kept; a refused one carries no figures."""
    code, pairs, measured = decide(candidate, test), candidate.pairs, candidate.measured
    ci, valid = measured.ci, code != "invalid"
    first = pairs.first(block.block for block in pairs.a)
    row = Comparison(
        **names,
        **candidate.cell.columns,
        metric=candidate.metric,
        baseline_value=measured.a if valid else None,
        variant_value=measured.b if valid else None,
        ratio=ci.ratio if valid else None,
        ci_low=ci.low if valid else None,
        ci_high=ci.high if valid else None,
        n_pairs=ci.n if valid else len(pairs),
        p_value=ci.p_value if valid and candidate.tested else None,
        p_holm=test.difference if valid and not candidate.primary else None,
        margin=candidate.margin,
        code=code,
        primary=candidate.primary,
        interleaved=pairs.interleaved,
        valid=valid,
        reasons=tuple(_reasons(candidate, valid)),
        family=test.family,
        alike=valid and test.alike,
        p_equivalence=test.alone if valid else None,
        sd=ci.sd if valid else None,
        df=ci.df if valid else None,
        same_lane=pairs.same_lane,
        first=None if first == len(pairs) else first,
        blockers=candidate.blockers,
        invalid_blocks=pairs.invalid,
    )
    if code != "undecided":
        return row
    return msgspec.structs.replace(row, likely=likely(row), blocks_to_decide=blocks_to_decide(row, most_blocks))


def _reasons(candidate: Candidate, valid: bool) -> Iterable[str]:
    """Guards, refused blocks as readers of the CSV know them, and codes."""
    measured, pairs = candidate.measured, candidate.pairs
    yield from candidate.blockers
    yield from map(_refusal, pairs.invalid)
    if valid:  # what a refused comparison would have been says nothing
        yield from measured.remarks
        if measured.ci.reason:
            yield measured.ci.reason
    if not pairs.same_lane:
        yield codes.code("different_devices")
    if pairs.unpaired:
        yield codes.code("unpaired_blocks", n=pairs.unpaired)


def _refusal(block: InvalidBlock) -> str:
    return f"{', '.join(block.guards) or 'invalid'} ({block.model} block {block.block})"


def control_of(pairs_of: Mapping[Cell, Pairs], primary: Primary, margin: float) -> Control:
    """The baseline against itself, in the primary cell or the first that has both arms.

    All metrics are one Holm family, so that a run is called untrustworthy by chance in at most 5 %.
    A difference that is proven smaller than the margin does not count.
    """
    cell = primary.cell if primary.cell in pairs_of else next(iter(pairs_of), None)
    if cell is None:
        return Control(present=False)
    pairs = pairs_of[cell]
    family = [Candidate(cell, metric, pairs, measure(pairs, metric), margin) for metric in COMPARED]
    metrics = {
        candidate.metric: _control_metric(candidate, test) for candidate, test in tested(family, lambda one: one.cell)
    }
    return Control(present=True, cell=cell.key, interleaved=pairs.interleaved, metrics=metrics)


def _control_metric(candidate: Candidate, test: Test) -> ControlMetric:
    ci, code = candidate.measured.ci, decide(candidate, test)
    is_tested = code not in ("invalid", "no_test")
    return ControlMetric(
        ratio=ci.ratio if code != "invalid" else None,
        ci_low=ci.low if is_tested else None,
        ci_high=ci.high if is_tested else None,
        n_pairs=ci.n,
        p_value=ci.p_value if is_tested else None,
        p_holm=test.difference,
        half_width=half_width(ci.low, ci.high) if is_tested else None,
        different=code in ("better", "worse") if is_tested else None,
        code=code,
        reason=ci.reason,
    )
