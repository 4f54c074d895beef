"""A verdict in words, with its error bars. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from quantbench.stats import RatioCI
from quantbench.wording import METRICS, change, metric_name, number, percent, plural, reason_words

# Where the A/A control widens the margin beyond this, "equivalent" would call two models the same that nobody measured
# well enough to say so. A margin that the config itself sets wider is the user's own.
COARSE_MARGIN = 0.1
# (better, worse) by what the metric is
_THROUGHPUT = ("higher throughput", "lower throughput")
_ENERGY = ("less energy", "more energy")
_TIME = ("faster", "slower")
REASONS = {
    "NOT_MEASURED": "the metric was not measured",
    "NO_PAIRS": reason_words(["NO_PAIRS"]),
    "NO_VALUES": "there are no blocks to compare",
    "NOT_FINITE": "a block has an infinite value",
    "NOT_POSITIVE": "a block has a value that is not above zero",
    "NO_VARIATION": "all pairs have exactly the same ratio, so they are copies or rounded values",
    "P95_NEEDS_N72": "a 95th percentile needs 72 requests per arm",
    "P95_CI_NEEDS_MORE_VALUES": "the pooled requests are too few for a confidence interval of a 95th percentile",
    "BLOCK_NEEDS_N20": "a pooled percentile needs 20 requests in each block",
}
DIFFERENT_DEVICES = "the models ran on different devices: what differs between these is part of the result"
NOT_INTERLEAVED = "the blocks were not interleaved: drift is not excluded"


def higher_is_better(metric: str) -> bool:
    """Direction of a metric. Raises KeyError for one that is not known."""
    return METRICS[metric][2]


def direction(metric: str, better: bool) -> str:
    """ "faster", "lower throughput", "less energy"."""
    pair = _THROUGHPUT if higher_is_better(metric) else _ENERGY if metric == "j_per_token" else _TIME
    return pair[0] if better else pair[1]


def interval(ci: RatioCI) -> str:
    """The CI as signed changes: "−3.1 % to +2.0 %"."""
    return f"{change(ci.low)} to {change(ci.high)}" if ci.low is not None and ci.high is not None else ""


def difference(metric: str, code: str, ci: RatioCI) -> str:
    """ "faster by 12.3 % [10.1 %, 14.4 %]": the change of the metric's own value."""
    if ci.ratio is None or ci.low is None or ci.high is None:
        raise ValueError("difference: needs a ratio with its CI")
    sides = sorted((abs(ci.low - 1), abs(ci.high - 1)))
    amount = f"{percent(abs(ci.ratio - 1))} [{percent(sides[0])}, {percent(sides[1])}]"
    return f"{direction(metric, code == 'better')} by {amount}"


def equivalent(margin: float, ci: RatioCI) -> str:
    """ "equivalent within 2.0 %: +0.3 % [−0.5 % to +1.1 %]"."""
    ratio = change(ci.ratio) if ci.ratio is not None else ""
    return f"equivalent within {percent(margin)}: {ratio} [{interval(ci)}]"


def is_coarse(margin: float, wanted: float) -> bool:
    """Whether a margin was widened so far beyond the wanted one that nothing should be called equivalent within it."""
    return margin > max(COARSE_MARGIN, wanted)


def indistinct(margin: float, ci: RatioCI) -> str:
    """Within a margin that is too coarse to speak of equivalence."""
    return f"cannot be told apart: data allow {interval(ci)}, and the A/A control resolves ±{percent(margin)} only"


def undecided(ci: RatioCI, margin: float, more: int | None, corrected_for: int | None, most: int) -> str:
    """No difference shown: what the data allow, and how many blocks would settle it; above `most`, that many."""
    after = f" after correction for {corrected_for} comparisons" if corrected_for else ""
    blocks = (
        f"about {plural(more, 'more block')} would resolve {percent(margin)}"
        if more
        else f"more than {most} blocks in all would be needed to resolve {percent(margin)}: reduce the noise instead"
    )
    return f"no significant difference{after}: data allow {interval(ci)}; {blocks}"


def no_test(metric: str, a: float | None, b: float | None, ci: RatioCI) -> str:
    """The bare values, and why there is no test."""
    code = ci.reason or "NOT_MEASURED"
    why = REASONS.get(code, f"{plural(ci.n, 'pair')} of blocks, a test needs 3")
    if a is None or b is None:
        return f"no test possible: {why}"
    unit = METRICS[metric][1]
    return f"no test possible ({why}): {number(a)} against {number(b)} {unit}"


def invalid(reasons: Sequence[str]) -> str:
    """Why a comparison is refused."""
    return f"not valid: {'; '.join(reasons)}"


def control(present: bool, trusted: bool, tested: bool, different: Sequence[str], resolution: float | None) -> str:
    """The sentence on the A/A control."""
    if not present:
        return "no A/A control was measured: the resolution of the instrument is not known"
    if not trusted:
        names = ", ".join(metric_name(m) for m in different)
        return f"the A/A control differs from itself ({names}): this run is not to be trusted"
    if not tested:
        why = "too few blocks, or all alike"
        return f"the A/A control could not be tested ({why}): the resolution of the instrument is not known"
    size = f"; it resolves ±{percent(resolution)}" if resolution is not None else ""
    return f"the A/A control shows no difference of the baseline from itself{size}"
