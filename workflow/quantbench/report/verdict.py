"""A comparison and the A/A control as sentences: the `words` of verdict.json and of the comparison CSVs."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from quantbench.judge.verdict import ALPHA
from quantbench.records import codes
from quantbench.records.comparison import Comparison, Control, Verdict
from quantbench.records.finding import Finding, finding
from quantbench.records.metric import METRICS
from quantbench.report.say import Speech

_DIFFERENCE: Final = {
    ("throughput", "better"): "verdict.throughput_better",
    ("throughput", "worse"): "verdict.throughput_worse",
    ("time", "better"): "verdict.time_better",
    ("time", "worse"): "verdict.time_worse",
    ("energy", "better"): "verdict.energy_better",
    ("energy", "worse"): "verdict.energy_worse",
}
_NO_TEST: Final = {
    # name of a reason code: why there is no test
    "not_measured": "verdict.not_measured",
    "no_variation": "verdict.no_variation",
    "percentile_needs": "verdict.percentile_needs",
    "pooled_ci_needs_more": "verdict.pooled_ci_needs_more",
    "block_needs": "code.block_needs",
    "no_pairs": "code.no_pairs",
    "no_values": "code.no_values",
    "not_finite": "code.not_finite",
    "not_positive": "code.not_positive",
}


def worded(say: Speech, verdict: Verdict) -> Verdict:
    """The verdict with all its words."""
    most = verdict.precision.most_blocks
    words = control_words(say, verdict.aa, verdict.primary.metric)
    rows = tuple(replace(row, words=row_words(say, row, most)) for row in verdict.rows)
    return replace(verdict, rows=rows, aa=verdict.aa.with_words(words), words=words)


def row_words(say: Speech, row: Comparison, most_blocks: int) -> str:
    """One comparison with its error bars, and what is to be known of how it was measured."""
    words = bare_words(say, row, most_blocks)
    if row.code in ("invalid", "no_test"):
        return words
    if not row.same_lane:
        return say("verdict.different_devices", verdict=words)
    return words if row.interleaved else say("verdict.not_interleaved", verdict=words)


def bare_words(say: Speech, row: Comparison, most_blocks: int) -> str:
    """One comparison with its error bars, without remarks that many rows share."""
    interval = {"low": row.ci_low, "high": row.ci_high, "margin": row.margin}
    if row.code == "invalid":
        refused = [entry for entry in row.reasons if codes.is_guard(entry)]
        return say("verdict.not_valid", why="; ".join(refused))
    if row.code == "no_test":
        return _no_test(say, row)
    if row.code == "equivalent":
        return say("verdict.equivalent", ratio=row.ratio, **interval)
    if row.code == "undecided" and row.alike:
        return say("verdict.indistinct", **interval)
    if row.code == "undecided":
        blocks = _blocks(row, most_blocks)
        if row.p_value is not None and row.p_value < ALPHA:  # alone it would be significant
            return say("verdict.undecided_corrected", family=row.family, blocks=blocks, **interval)
        return say("verdict.undecided", blocks=blocks, **interval)
    if row.ratio is None or row.ci_low is None or row.ci_high is None:
        raise ValueError(f"{row.code}: a ratio with its CI is needed")
    least, most = sorted((abs(row.ci_low - 1), abs(row.ci_high - 1)))
    return say(_DIFFERENCE[METRICS[row.metric].kind, row.code], by=abs(row.ratio - 1), least=least, most=most)


def _blocks(row: Comparison, most_blocks: int) -> Finding:
    if row.blocks_to_decide:
        return finding("verdict.more_blocks", n=row.blocks_to_decide, margin=row.margin)
    return finding("verdict.too_many_blocks", most=most_blocks, margin=row.margin)


def _no_test(say: Speech, row: Comparison) -> str:
    """The bare values, and why there is no test."""
    reasons = [reason for reason in map(codes.parse, row.reasons) if reason.name in _NO_TEST]
    why = finding("verdict.few_pairs", n=row.n_pairs)
    if reasons:
        why = finding(_NO_TEST[reasons[0].name], **reasons[0].values)
    if row.baseline_value is None or row.variant_value is None:
        return say("verdict.no_test", why=why)
    values = {"baseline": row.baseline_value, "variant": row.variant_value, "unit": METRICS[row.metric].unit}
    return say("verdict.no_test_values", why=why, **values)


def control_words(say: Speech, control: Control, primary_metric: str) -> str:
    """What the A/A control shows."""
    if not control.present:
        return say("verdict.no_control")
    if control.different:
        return say("verdict.control_differs", metrics=control.different)
    if not control.tested:
        return say("verdict.control_untested")
    size = control.half_width(primary_metric)
    return say("verdict.control_agrees") if size is None else say("verdict.control_resolves", size=size)
