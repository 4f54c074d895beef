"""Reason codes: why a figure is blank, a block is not valid, a comparison has no verdict. Data, never English.

A code is an upper-case name, with the numbers that belong to it (`P95_NEEDS_N72`); ids of guards, which are in lower
case, stand beside codes in the `reasons` of a file. The sentences are in the catalogue of words, under the names here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

CODES: Final[Mapping[str, str]] = {
    # name in the catalogue of words: the code as it is written, with its numbers
    "percentile_needs": "P{q}_NEEDS_N{n}",
    "percentile_ci_needs": "P{q}_CI_NEEDS_N{n}_PER_BLOCK",
    "ci_needs_values": "CI_NEEDS_N{n}",
    "ci_needs_blocks": "CI_NEEDS_{n}_BLOCKS",
    "test_needs_pairs": "NEEDS_{n}_PAIRS",
    "test_needs_blocks": "NEEDS_{n}_BLOCKS",
    "trend_needs_blocks": "TREND_TEST_NEEDS_{n}_BLOCKS",
    "p95_pooled": "P95_POOLED",
    "pooled_ci_needs_more": "P{q}_CI_NEEDS_MORE_VALUES",
    "block_needs": "BLOCK_NEEDS_N{n}",
    "no_variation": "NO_VARIATION",
    "not_finite": "NOT_FINITE",
    "not_positive": "NOT_POSITIVE",
    "unpaired_blocks": "UNPAIRED_BLOCKS_{n}",
    "different_devices": "DIFFERENT_DEVICES",
    "time_of_too_few": "{time}_OF_TOO_FEW",
    "time_not_kept": "{time}_NOT_KEPT",
    "itl_needs_single_tokens": "ITL_NEEDS_SINGLE_TOKENS",
    "far_from_siblings": "BLOCK_{n}_FAR_FROM_SIBLINGS",
    "steady_too_short": "STEADY_TOO_SHORT",
    "failures_at": "FAILURES_AT_P{q}",
    "missing_in_pairs": "MISSING_IN_{n}_PAIRS",
    "not_measured": "NOT_MEASURED",
    "no_values": "NO_VALUES",
    "no_pairs": "NO_PAIRS",
    "falls_on_failure": "FALLS_ON_FAILURE",
    "ci_falls_on_failure": "CI_FALLS_ON_FAILURE",
    "invalid_cell": "INVALID",
    "no_throughput": "NO_THROUGHPUT",
    "no_price": "NO_PRICE",
    "own_interval": "OWN_INTERVAL",
    "ci_needs_clusters": "CI_NEEDS_{n}_CLUSTERS",
    "needs_items": "NEEDS_{n}_ITEMS",
    "needs_correct": "NEEDS_{n}_CORRECT",
    "other_input": "OTHER_INPUT_OF_{n}",
    "no_speed_ratio": "NO_SPEED_RATIO",
    "no_speed_interval": "NO_SPEED_INTERVAL",
    "bound_needs_step": "BOUND_NEEDS_STEP",
    "bound_needs_bandwidth": "BOUND_NEEDS_BANDWIDTH",
    "bound_needs_compute": "BOUND_NEEDS_COMPUTE",
    "bound_needs_utilisation": "BOUND_NEEDS_UTILISATION",
    "bound_needs_client": "BOUND_NEEDS_CLIENT",
    "bound_needs_tokens": "BOUND_NEEDS_TOKENS",
    "bound_of_drafts": "BOUND_OF_DRAFTS",
    "bound_above_peak": "BOUND_ABOVE_PEAK",
    "iso_other_fits": "{n}_IN_FLIGHT_{fits}_FIT",
    "iso_longer": "REQUESTS_OF_{n}_TOKENS",
    "iso_preempted": "{n}_PREEMPTIONS",
    "start_is_unit": "START_IS_UNIT_OF_{n}",
    "is_baseline": "IS_BASELINE",
    "start_spread_unknown": "START_SPREAD_UNKNOWN",
    "run_spread_given": "RUN_SPREAD_GIVEN",
    "starts_not_told": "STARTS_NOT_TOLD",
}


class Reason(NamedTuple):
    """A code taken apart: its name in `CODES` and its numbers. Of a guard: its id, and no numbers."""

    name: str
    values: dict[str, int | str]


def code(name: str, **values: Any) -> str:
    """The code as a file has it: code("percentile_needs", q=95, n=72) → "P95_NEEDS_N72"."""
    return CODES[name].format(**values)


def parse(text: str) -> Reason:
    """The inverse of `code`; what is no code is a name of its own (a guard's id)."""
    for name, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(text):
            return Reason(name, {k: int(v) if v.isdigit() else v for k, v in match.groupdict().items()})
    return Reason(text, {})


def is_guard(text: str) -> bool:
    """Whether an entry of `reasons` is the id of a guard, which refuses a block, and not a remark on one figure."""
    return not text.isupper()


def blanks_percentile(text: str) -> bool:
    """Whether a code leaves a percentile blank; others concern its interval or other figures."""
    return parse(text).name in ("percentile_needs", "falls_on_failure", "failures_at")


def _pattern(template: str) -> re.Pattern[str]:
    named = re.sub(
        r"\\\{(\w+)\\\}",
        lambda m: f"(?P<{m[1]}>" + (r"[A-Z_]+" if m[1] == "time" else r"\d+") + ")",
        re.escape(template),
    )
    return re.compile(named)


_PATTERNS: Final = {name: _pattern(template) for name, template in CODES.items()}
