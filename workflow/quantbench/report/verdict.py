"""A comparison and the A/A control as sentences: the `words` of verdict.json and of the comparison CSVs."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from quantbench.judge.verdict import ALPHA
from quantbench.records import codes
from quantbench.records.comparison import Comparison, Control, Verdict
from quantbench.records.metric import METRICS
from quantbench.report.say import Speech

_NO_TEST: Final = (
    *("not_measured", "no_variation", "percentile_needs", "pooled_ci_needs_more", "test_needs_pairs"),
    *("block_needs", "no_pairs", "no_values", "not_finite", "not_positive"),
)
"""Reason codes that leave a comparison without a test."""


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
    if row.code == "described":
        return say("verdict.described", ratio=row.ratio, **interval)
    if row.code == "undecided":
        blocks = "; ".join(filter(None, [_blocks(say, row, most_blocks), _left_open(say, row, most_blocks)]))
        if row.p_value is not None and row.p_value < ALPHA:  # alone it would be significant
            return say("verdict.undecided_corrected", family=row.family, blocks=blocks, **interval)
        return say("verdict.undecided", blocks=blocks, **interval)
    if row.ratio is None or row.ci_low is None or row.ci_high is None:
        raise ValueError(f"{row.code}: a ratio with its CI is needed")
    least, most = sorted((abs(row.ci_low - 1), abs(row.ci_high - 1)))
    return say(
        "verdict.difference",
        form=f"{METRICS[row.metric].kind} {row.code}",
        by=abs(row.ratio - 1),
        least=least,
        most=most,
    )


def _blocks(say: Speech, row: Comparison, most_blocks: int) -> str:
    form = "more" if row.blocks_to_decide else "too_many"
    return say("verdict.blocks", form=form, blocks=row.blocks_to_decide, most=most_blocks, margin=row.margin)


def _left_open(say: Speech, row: Comparison, most_blocks: int) -> str:
    return say("verdict.left_open", form=row.left_open, most=most_blocks) if row.left_open else ""


def _no_test(say: Speech, row: Comparison) -> str:
    """The bare values, and why there is no test."""
    reasons = [reason for reason in row.reasons if codes.parse(reason).name in _NO_TEST]
    why = say.reasons(reasons[:1]) or [say("verdict.few_pairs", n=row.n_pairs)]
    values = {"baseline": row.baseline_value, "variant": row.variant_value, "unit": METRICS[row.metric].unit}
    known = row.baseline_value is not None and row.variant_value is not None
    return say("verdict.no_test", why=why[0], **(values if known else {}))


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
