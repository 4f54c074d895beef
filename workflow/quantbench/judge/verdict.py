"""Paired blocks → ratio, CI, code and words per (variant, cell, metric); the A/A control; drift. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quantbench.config.configuration import AA_SUFFIX
from quantbench.judge import verdict_words as words
from quantbench.judge.decide import ALPHA, Row, blocks_more, correct, decide
from quantbench.judge.guard_facts import LIMITS
from quantbench.judge.pairing import BlockKey, Cell, Pairs, Samples, arms_of, measure, pair_up
from quantbench.judge.precision import MOST_BLOCKS, plan
from quantbench.stats import drift, half_width

Json = dict[str, Any]

METRICS = (
    "throughput_tok_s",
    "p50_ttft_ms",
    "p95_ttft_ms",
    "p50_e2e_ms",
    "p95_e2e_ms",
    "p50_tpot_ms",
    "j_per_token",
)


def build_verdict(
    contexts: Sequence[Mapping[str, Any]],
    *,
    baseline: str,
    primary: Mapping[str, Any],
    variants: Sequence[str] | None = None,
    margin: float = 0.02,
    samples: Mapping[BlockKey, Samples] | None = None,
    pair_failures: Mapping[str, Sequence[str]] | None = None,
    target: float | None = None,
    planned_blocks: int | None = None,
    most_blocks: int = MOST_BLOCKS,
    gpu_name: str = "",
) -> Json:
    """`comparison/verdict.json` from the block contexts of all arms (the A/A arm is `{baseline}__aa`).

    primary: {workload, concurrency, max_tokens, metric}. samples: request values per block for pooled p95s.
    pair_failures: {variant: failed guards of evaluate_pair}; such a variant gets no verdict. target: wanted half-width.
    planned_blocks, most_blocks: `blocks` and `refine.max_blocks` of the config; blocks beyond `blocks` came later.
    """
    cells = arms_of(contexts, samples or {})
    aa = aa_summary(cells, baseline, primary, margin, planned_blocks)
    rows: list[Json] = []
    for variant in _variants(contexts, baseline) if variants is None else variants:
        blockers = tuple((pair_failures or {}).get(variant, ()))
        family = _family(_pairs(cells, baseline, variant, planned_blocks), variant, primary, blockers, margin, aa)
        rows += [_written(row, gpu_name, baseline, most_blocks) for row in correct(family)]
    return {
        "baseline": baseline,
        "primary": dict(primary),
        "margin": margin,
        "confidence": 1 - ALPHA,
        "aa": aa,
        "trusted": not any(aa.get(m, {}).get("different") for m in METRICS),
        "words": aa["words"],
        "drift": _drifts(cells, baseline),
        "rows": rows,
        "precision": plan(rows, target, _on_disk(cells), planned_blocks, most_blocks),
    }


def _variants(contexts: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    models = dict.fromkeys(str(c["model"]) for c in contexts)
    return [m for m in models if m not in (baseline, baseline + AA_SUFFIX)]


def _family(
    found: Iterable[tuple[Cell, Pairs]],
    variant: str,
    primary: Mapping[str, Any],
    blockers: tuple[str, ...],
    margin: float,
    aa: Json,
) -> list[Row]:
    """All comparisons of one variant, uncorrected."""
    # What matters to the user, but never finer than the instrument resolves.
    margins = {m: max(margin, aa.get(m, {}).get("half_width") or 0.0) for m in METRICS}
    return [
        Row(
            *(cell, variant, m, measure(pairs, m), margins[m], pairs, blockers, _is(cell, m, primary)),
            coarse=words.is_coarse(margins[m], margin),
        )
        for cell, pairs in found
        for m in METRICS
    ]


def _pairs(
    cells: Mapping[Cell, Mapping[str, Any]], baseline: str, variant: str, planned: int | None
) -> Iterable[tuple[Cell, Pairs]]:
    for cell, arms in cells.items():
        if baseline in arms and variant in arms:
            yield cell, pair_up(arms[baseline], arms[variant], (baseline, variant), planned)


def _on_disk(cells: Mapping[Cell, Mapping[str, Sequence[Any]]]) -> dict[str, int]:
    """Blocks measured per cell, valid or not: the most that any arm has."""
    return {f"{w}/c{c}_t{t}": max(map(len, arms.values())) for (w, c, t), arms in cells.items()}


def _is(cell: Cell, metric: str, primary: Mapping[str, Any]) -> bool:
    declared = (primary["workload"], primary["concurrency"], primary["max_tokens"], primary["metric"])
    return (*cell, metric) == declared


def _sentence(row: Row, code: str, most_blocks: int) -> str:
    ci, measured = row.measured.ci, row.measured
    if code == "invalid":
        return words.invalid([*row.blockers, *row.pairs.refused])
    if code == "no_test":
        return words.no_test(row.metric, measured.a, measured.b, ci)
    if code == "equivalent":
        text = words.equivalent(row.margin, ci)
    elif code == "undecided" and row.alike:
        text = words.indistinct(row.margin, ci)
    elif code == "undecided":
        significant_alone = ci.p_value is not None and ci.p_value < ALPHA
        corrected_for = row.family if significant_alone else None
        text = words.undecided(ci, row.margin, blocks_more(row, most_blocks), corrected_for, most_blocks)
    else:
        text = words.difference(row.metric, code, ci)
    if not row.pairs.same_lane:
        return f"{text}; {words.DIFFERENT_DEVICES}"
    return text if row.pairs.interleaved else f"{text}; {words.NOT_INTERLEAVED}"


def _written(row: Row, gpu_name: str, baseline: str, most_blocks: int) -> Json:
    """A row as in the comparison CSV; a refused comparison carries no figures."""
    code = decide(row)
    ci, told = row.measured.ci, code != "invalid"
    remarks = [*row.blockers, *row.pairs.refused]
    if told:  # what a refused comparison would have been says nothing
        remarks += [*row.measured.remarks, *([ci.reason] if ci.reason else [])]
    remarks += [] if row.pairs.same_lane else ["DIFFERENT_DEVICES"]
    remarks += [f"UNPAIRED_BLOCKS_{row.pairs.unpaired}"] if row.pairs.unpaired else []
    return {
        "gpu_name": gpu_name,
        "workload": row.cell[0],
        "baseline": baseline,
        "variant": row.variant,
        "concurrency": row.cell[1],
        "max_tokens": row.cell[2],
        "metric": row.metric,
        "baseline_value": row.measured.a if told else None,
        "variant_value": row.measured.b if told else None,
        "ratio": ci.ratio if told else None,
        "ci_low": ci.low if told else None,
        "ci_high": ci.high if told else None,
        "n_pairs": ci.n if told else len(row.pairs),
        "p_value": ci.p_value if told else None,
        "p_holm": row.p_difference if told and not row.primary else None,
        "margin": row.margin,
        "code": code,
        "words": _sentence(row, code, most_blocks),
        "primary": row.primary,
        "interleaved": row.pairs.interleaved,
        "valid": told,
        "reasons": remarks,
    }


def aa_summary(
    cells: Mapping[Cell, Mapping[str, Any]],
    baseline: str,
    primary: Mapping[str, Any],
    margin: float,
    planned: int | None = None,
) -> Json:
    """The baseline against itself: {present, cell, words, metric: {ratio, ci_low, ci_high, different, half_width, …}}.

    All metrics are one Holm family, so that a run is called untrustworthy by chance in at most 5 %.
    `different` is None where there is no test. A difference that is proven smaller than the margin does not count.
    """
    found = dict(_pairs(cells, baseline, baseline + AA_SUFFIX, planned))
    wanted = (primary["workload"], primary["concurrency"], primary["max_tokens"])
    cell = wanted if wanted in found else next(iter(found), None)
    if cell is None:
        return {"present": False, "cell": None, "words": words.control(False, True, False, (), None)}
    pairs = found[cell]
    family = [Row(cell, baseline + AA_SUFFIX, m, measure(pairs, m), margin, pairs, (), False) for m in METRICS]
    summary = {row.metric: _aa_metric(row) for row in correct(family)}
    different = [m for m, entry in summary.items() if entry["different"]]
    tested = any(entry["different"] is not None for entry in summary.values())
    resolution = summary.get(str(primary["metric"]), {}).get("half_width")
    text = words.control(True, not different, tested, different, resolution)
    name = f"{cell[0]}/c{cell[1]}_t{cell[2]}"
    return {"present": True, "cell": name, "interleaved": pairs.interleaved, "words": text, **summary}


def _aa_metric(row: Row) -> Json:
    ci, code = row.measured.ci, decide(row)
    told = code not in ("invalid", "no_test")
    return {
        "ratio": ci.ratio if code != "invalid" else None,
        "ci_low": ci.low if told else None,
        "ci_high": ci.high if told else None,
        "n_pairs": ci.n,
        "p_value": ci.p_value if told else None,
        "p_holm": row.p_difference,
        "half_width": half_width(ci) if told else None,
        "different": code in ("better", "worse") if told else None,
        "code": code,
        "reason": ci.reason,
    }


def _drifts(cells: Mapping[Cell, Mapping[str, Any]], baseline: str) -> list[Json]:
    return [found for cell, arms in cells.items() if (found := drift_of(cell, arms.get(baseline, ())))]


def drift_of(cell: Cell, blocks: Sequence[Any], metric: str = "throughput_tok_s") -> Json | None:
    """Trend of the baseline's own blocks over the session; flagged above 2 % with p < 0.05."""
    used = [(b.started_unix, float(b.metrics[metric] or 0)) for b in blocks if b.valid and b.metrics.get(metric)]
    if not used:
        return None
    found = drift([t for t, _ in used], [v for _, v in used])
    flagged = None
    if found.percent is not None and found.p_value is not None:
        flagged = abs(found.percent) > LIMITS["drift_pct"] and found.p_value < ALPHA
    return {
        "workload": cell[0],
        "concurrency": cell[1],
        "max_tokens": cell[2],
        "metric": metric,
        "percent": found.percent,
        "ci_low_pct": found.low,
        "ci_high_pct": found.high,
        "p_value": found.p_value,
        "n": found.n,
        "flagged": flagged,
        "reason": found.reason,
    }
