"""Paired blocks → ratio, CI and code per (variant, cell, metric); the A/A control. `report.verdict` says them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from quantbench.judge.decide import ALPHA, Candidate, blocks_more, correct, decide, is_coarse, likely
from quantbench.judge.drift import drift_of
from quantbench.judge.pairing import Block, BlockKey, Pairs, Samples, arms_of, measure, pair_up
from quantbench.judge.precision import MOST_BLOCKS, plan
from quantbench.records import codes
from quantbench.records.block import BlockContext
from quantbench.records.cell import AA_SUFFIX, Cell
from quantbench.records.comparison import Comparison, Control, ControlMetric, InvalidBlock, Primary, Verdict
from quantbench.records.metric import COMPARED
from quantbench.stats import half_width

Arms = Mapping[str, Sequence[Block]]


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
) -> Verdict:
    """The verdict on judged blocks of all arms (the A/A arm is `{baseline}__aa`), its words left blank.

    samples: request values per block for pooled p95s. pair_failures: {variant: failed guards of evaluate_pair}; such a
    variant gets no verdict. target: wanted half-width. planned_blocks, most_blocks: `blocks` and `refine.max_blocks` of
    the config; blocks beyond `blocks` came later.
    """
    cells = arms_of(contexts, samples or {})
    aa = control_of(cells, baseline, primary, margin, planned_blocks)
    rows: list[Comparison] = []
    for variant in _variants(contexts, baseline) if variants is None else variants:
        blockers = tuple((pair_failures or {}).get(variant, ()))
        family = _family(_pairs(cells, baseline, variant, planned_blocks), variant, primary, blockers, margin, aa)
        rows += [_comparison(candidate, gpu_name, baseline, most_blocks) for candidate in correct(family)]
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
    )


def _variants(contexts: Sequence[BlockContext], baseline: str) -> list[str]:
    arms = dict.fromkeys(context.arm for context in contexts)
    return [arm for arm in arms if arm not in (baseline, baseline + AA_SUFFIX)]


def _family(
    cells: Iterable[tuple[Cell, Pairs]],
    variant: str,
    primary: Primary,
    blockers: tuple[str, ...],
    margin: float,
    aa: Control,
) -> list[Candidate]:
    """All comparisons of one variant, uncorrected."""
    # What matters to the user, but never finer than the instrument resolves.
    margins = {metric: max(margin, aa.half_width(metric) or 0.0) for metric in COMPARED}
    return [
        Candidate(
            cell,
            variant,
            metric,
            measure(pairs, metric),
            margins[metric],
            pairs,
            blockers,
            primary=(cell, metric) == (primary.cell, primary.metric),
            coarse=is_coarse(margins[metric], margin),
        )
        for cell, pairs in cells
        for metric in COMPARED
    ]


def _pairs(
    cells: Mapping[Cell, Arms], baseline: str, variant: str, planned: int | None
) -> Iterable[tuple[Cell, Pairs]]:
    for cell, arms in cells.items():
        if baseline in arms and variant in arms:
            yield cell, pair_up(arms[baseline], arms[variant], (baseline, variant), planned)


def _on_disk(cells: Mapping[Cell, Arms]) -> dict[str, int]:
    """Blocks measured per cell, valid or not: the most that any arm has."""
    return {cell.key: max(map(len, arms.values())) for cell, arms in cells.items()}


def _comparison(candidate: Candidate, gpu_name: str, baseline: str, most_blocks: int) -> Comparison:
    """A comparison as it is kept; a refused one carries no figures."""
    code, pairs, measured = decide(candidate), candidate.pairs, candidate.measured
    ci, valid = measured.ci, code != "invalid"
    return Comparison(
        gpu_name=gpu_name,
        **candidate.cell.columns,
        baseline=baseline,
        variant=candidate.variant,
        metric=candidate.metric,
        baseline_value=measured.a if valid else None,
        variant_value=measured.b if valid else None,
        ratio=ci.ratio if valid else None,
        ci_low=ci.low if valid else None,
        ci_high=ci.high if valid else None,
        n_pairs=ci.n if valid else len(pairs),
        p_value=ci.p_value if valid else None,
        p_holm=candidate.p_difference if valid and not candidate.primary else None,
        margin=candidate.margin,
        code=code,
        primary=candidate.primary,
        interleaved=pairs.interleaved,
        valid=valid,
        reasons=tuple(_reasons(candidate, valid)),
        family=candidate.family,
        coarse=candidate.coarse,
        alike=valid and candidate.alike,
        likely=likely(candidate) if code == "undecided" else None,
        blocks_to_decide=blocks_more(candidate, most_blocks) if code == "undecided" else None,
        same_lane=pairs.same_lane,
        blockers=candidate.blockers,
        invalid_blocks=pairs.invalid,
    )


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


def control_of(
    cells: Mapping[Cell, Arms], baseline: str, primary: Primary, margin: float, planned: int | None = None
) -> Control:
    """The baseline against itself, in the primary cell or the first that has both arms.

    All metrics are one Holm family, so that a run is called untrustworthy by chance in at most 5 %.
    A difference that is proven smaller than the margin does not count.
    """
    again = baseline + AA_SUFFIX
    pairs_of = dict(_pairs(cells, baseline, again, planned))
    cell = primary.cell if primary.cell in pairs_of else next(iter(pairs_of), None)
    if cell is None:
        return Control(present=False)
    pairs = pairs_of[cell]
    family = [Candidate(cell, again, metric, measure(pairs, metric), margin, pairs) for metric in COMPARED]
    metrics = {candidate.metric: _control_metric(candidate) for candidate in correct(family)}
    return Control(present=True, cell=cell.key, interleaved=pairs.interleaved, metrics=metrics)


def _control_metric(candidate: Candidate) -> ControlMetric:
    ci, code = candidate.measured.ci, decide(candidate)
    tested = code not in ("invalid", "no_test")
    return ControlMetric(
        ratio=ci.ratio if code != "invalid" else None,
        ci_low=ci.low if tested else None,
        ci_high=ci.high if tested else None,
        n_pairs=ci.n,
        p_value=ci.p_value if tested else None,
        p_holm=candidate.p_difference,
        half_width=half_width(ci) if tested else None,
        different=code in ("better", "worse") if tested else None,
        code=code,
        reason=ci.reason,
    )
