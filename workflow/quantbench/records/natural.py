"""Natural answers: how long the answers of a pair are that end by themselves, and how they end."""

from __future__ import annotations

from quantbench.records.base import Record
from quantbench.records.suite import Estimate


class Rates(Record, frozen=True, kw_only=True):
    """The share of answers of which something holds, on both sides; difference: variant - baseline."""

    baseline: Estimate
    variant: Estimate
    difference: Estimate


class Natural(Record, frozen=True, kw_only=True):
    """The answers of a pair to the same items. items: those whose checks were all run on both sides; clusters: groups
    of them that share a passage or a template, the unit of all intervals.

    suites: where the items are from. baseline_tokens, variant_tokens: mean length. length_ratio: variant / baseline,
    geometric mean over items. cut: ran into max_tokens; cut_in_thought: did so before the thought ended; loops: end in
    a loop; broken: empty or garbled, and not cut in a thought; correct: pass all their checks; either: items that
    one of both passes. reasons: why a figure or an interval is blank.
    """

    variant: str
    baseline: str
    suites: tuple[str, ...] = ()
    items: int
    clusters: int
    baseline_tokens: float | None = None
    variant_tokens: float | None = None
    length_ratio: Estimate | None = None
    cut: Rates | None = None
    cut_in_thought: Rates | None = None
    loops: Rates | None = None
    broken: Rates | None = None
    correct: Rates | None = None
    either: Estimate | None = None
    reasons: tuple[str, ...] = ()
