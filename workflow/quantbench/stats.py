"""Statistics of two noisy serving benchmarks: percentiles, paired ratios, equivalence, drift, counts.

The unit of replication is the block (one run of a tuple), never the request: the requests of one block
share clocks, temperature and batch history. Nothing here returns NaN: what the data cannot support is None
with a reason code.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from quantbench.records.block import Percentile
from quantbench.records.codes import code

MIN_PAIRS = 3
# Fewest cells that share their scatter, and fewest pairs of one that takes part: below, no simulation bears it.
SHARING_CELLS, SHARING_PAIRS = 3, 4
# Fewest values that a percentile needs. 50: any; 95: below 72 all values can lie under the true quantile
# with more than 2.5 % probability (0.95**72 < 0.025), so it has no upper confidence limit; 99: ten
# values beyond the quantile, as the far tail of a closed loop is made of few events.
PERCENTILE_NEEDS = {50: 1, 95: 72, 99: 1000}
# A spread below this in log units (one part in 1e9) is a copy or a rounded value, not a measurement.
NO_SPREAD = 1e-9


@dataclass(frozen=True)
class RatioCI:
    """A ratio (variant / baseline) and its CI over `n` pairs.

    `sd_log` is the sd of one pair's log-ratio by its own pairs; `sd_shared`, where there is one, that of `shared`,
    which then made the interval and the p-value. `df`: degrees of freedom of the one that counts (below n - 1 where the
    first pairs decided how many were added, above it where cells share their scatter).
    """

    ratio: float | None
    low: float | None
    high: float | None
    n: int
    p_value: float | None
    sd_log: float | None
    reason: str | None = None
    df: float | None = None
    sd_shared: float | None = None

    @property
    def sd(self) -> float | None:
        """The sd of one pair's log-ratio that interval, p-value and equivalence rest on."""
        return self.sd_log if self.sd_shared is None else self.sd_shared


@dataclass(frozen=True)
class RankTrend:
    """Kendall's tau over `n` values in groups, and the one-sided p of a rise; None and 1 where nothing can be told."""

    tau: float | None
    p_value: float
    n: int


@dataclass(frozen=True)
class Drift:
    """Trend of a metric over the session: percent from the first to the last block, with its CI."""

    percent: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    reason: str | None = None


def percentile(values: Sequence[float], q: int, confidence: float | None = 0.95) -> Percentile:
    """The q-th percentile (linear interpolation) and its order-statistic CI (none asked: None); +inf is a failure.

    The CI is binomial and distribution-free (Conover, Practical Nonparametric Statistics, 3.2). Raises
    ValueError for NaN: a missing time is the caller's to leave out or to count as a failure.
    """
    x = np.asarray(values, dtype=float)
    n = int(x.size)
    if np.isnan(x).any():
        raise ValueError("percentile: NaN among the values")
    if n == 0:
        return Percentile(None, None, None, 0, code("no_values"))
    needs = PERCENTILE_NEEDS.get(q, 1)
    if n < needs:
        return Percentile(None, None, None, n, code("percentile_needs", q=q, n=needs))
    ordered = np.sort(x)
    value = _interpolated(ordered, q / 100)
    if value is None:
        return Percentile(None, None, None, n, code("falls_on_failure"))
    if confidence is None:
        return Percentile(value, None, None, n)
    below, above = order_limits(n, q / 100, confidence)
    low = _finite(float(ordered[below])) if below >= 0 else None
    high = _finite(float(ordered[above])) if above < n else None
    reason = None
    if low is None or high is None:
        smallest = math.ceil(math.log((1 - confidence) / 2) / math.log(max(q, 100 - q) / 100))
        reason = code("ci_needs_values", n=smallest) if n < smallest else code("ci_falls_on_failure")
    return Percentile(value, low, high, n, reason)


@lru_cache
def order_limits(n: int, p: float, confidence: float = 0.95) -> tuple[int, int]:
    """Indices of the order statistics (from 0) that enclose the p quantile of n values; -1 or n where there is none.

    The binomial quantiles of the same tails as in scipy.stats.quantile_test; here, because a block needs them, and
    loading scipy takes longer than all else between two blocks.
    """
    tail = (1 - confidence) / 2
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(n + 1)
    ]
    below = list(itertools.accumulate(map(math.exp, logs)))
    low = next((k for k, share in enumerate(below) if share >= tail), n)
    high = next((k for k, share in enumerate(below) if share >= 1 - tail), n)
    return low - 1, high


def _special() -> Any:
    """scipy.special, loaded when it is first needed; scipy.stats, which has the same functions, takes a second more."""
    from scipy import special

    return special


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t."""
    return float(_special().stdtr(df, -t))


def _interpolated(ordered: np.ndarray, p: float) -> float | None:
    """numpy's default quantile, but None where it touches +inf (numpy would give NaN)."""
    position = p * (ordered.size - 1)
    below = int(position)
    share = position - below
    if share < 1e-12:
        return _finite(float(ordered[below]))
    return _finite(float(ordered[below] * (1 - share) + ordered[below + 1] * share))


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def paired_ratio(a: Sequence[float], b: Sequence[float], confidence: float = 0.95, first: int | None = None) -> RatioCI:
    """Ratio b/a of paired blocks: exp(mean d ± t(n-1) sd(d)/sqrt(n)) with d = ln(b/a).

    a: baseline, b: variant, same length, block by block, any unit above zero. p_value: two-sided, ratio = 1.
    first: the leading pairs that decided how many more to measure (see `spread`). Fewer than 3 pairs give the ratio
    alone. Raises ValueError on different lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"paired_ratio: {len(a)} baseline blocks and {len(b)} variant blocks")
    problem = _unusable(a) or _unusable(b)
    if problem:
        return RatioCI(None, None, None, len(a), None, None, problem)
    d = np.log(np.asarray(b, dtype=float)) - np.log(np.asarray(a, dtype=float))
    sd, df = spread(d, first, confidence=confidence) if d.size > 1 else (0.0, 0)
    return ratio_from_logs(float(d.mean()), sd, d.size, confidence, df)


def spread(
    logs: Sequence[float] | np.ndarray, first: int | None, centre: float | None = None, confidence: float = 0.95
) -> tuple[float, int]:
    """(sd, degrees of freedom) for the CI of the mean of n >= 2 logs: of all, or of the first alone, what is wider.

    Blocks are added where the first ones scatter, so a session whose scatter is underestimated stops early, and the t
    interval of all its blocks covers too little. The sd of the `first` blocks does not know how many followed: its
    interval is exact (Stein 1945). That of all is there for a machine that becomes noisier. centre: default the mean.
    """
    x = np.asarray(logs, dtype=float)
    stages = [x]
    if first is not None and max(first, MIN_PAIRS) < x.size:
        stages.append(x[: max(first, MIN_PAIRS)])
    spreads = [
        (math.sqrt(float(((y - (y.mean() if centre is None else centre)) ** 2).sum()) / (y.size - 1)), y.size - 1)
        for y in stages
    ]
    return max(spreads, key=lambda sd_df: sd_df[0] * t_quantile(0.5 + confidence / 2, sd_df[1]))


def _unusable(values: Sequence[float]) -> str | None:
    if len(values) == 0:
        return code("no_values")
    if not all(math.isfinite(v) for v in values):
        return code("not_finite")
    return None if all(v > 0 for v in values) else code("not_positive")


def shared(cis: Sequence[RatioCI], confidence: float = 0.95) -> list[RatioCI]:
    """Ratios of one metric and variant, cell by cell, whose scatters inform each other; in the given order.

    Moderated t (Smyth 2004, limma): the scatters of all cells give a prior s0² worth d0 degrees of freedom, and a
    cell's variance s² with d becomes (d0 s0² + d s²) / (d0 + d) with d0 + d. Three things keep it honest for the
    noisiest cell: it never lowers a variance; d0 counts no more than d; and it counts by the probability of a variance
    that large under the prior, as a cell that is noisier than its siblings tells the prior wrong. Below SHARING_CELLS
    cells with SHARING_PAIRS pairs each, and for a cell with fewer, nothing is shared.
    """
    sharing = [i for i, ci in enumerate(cis) if ci.sd_log is not None and (ci.df or 0) >= SHARING_PAIRS - 1]
    if len(sharing) < SHARING_CELLS:
        return list(cis)
    s2, d = (np.array([getattr(cis[i], name) for i in sharing], dtype=float) for name in ("sd_log", "df"))
    s2 = s2**2
    prior, worth = _prior(s2, d)
    worth = np.minimum(worth, d)
    worth = worth * _special().fdtrc(d, worth, s2 / prior)
    moderated = np.maximum(s2, (worth * prior + d * s2) / (worth + d))
    found = list(cis)
    for i, variance, df in zip(sharing, moderated, d + worth, strict=True):
        own = cis[i]
        ci = ratio_from_logs(math.log(own.ratio or 1), math.sqrt(variance), own.n, confidence, float(df))
        found[i] = replace(ci, sd_log=own.sd_log, sd_shared=math.sqrt(variance))
    return found


def _prior(s2: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """(s0², d0) of a scaled F that the variances follow, by the moments of their logs (Smyth 2004, section 6.2)."""
    special = _special()
    logs = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    excess = float(logs.var(ddof=1) - special.polygamma(1, d / 2).mean())
    if excess <= 1e-4:  # no more scatter of the scatters than chance gives
        return math.exp(float(logs.mean())), math.inf
    half = 0.5 + 1 / excess  # trigamma(half) = excess, by Newton's method
    for _ in range(50):
        trigamma = float(special.polygamma(1, half))
        half += trigamma * (1 - trigamma / excess) / float(special.polygamma(2, half))
    return math.exp(float(logs.mean() + special.digamma(half) - math.log(half))), 2 * half


def ratio_from_logs(mean: float, sd: float, n: int, confidence: float = 0.95, df: float | None = None) -> RatioCI:
    """Student-t CI and p-value of a ratio from the mean and sd of n log-ratios; df: of the sd, default n - 1."""
    ratio = math.exp(mean)
    if n < MIN_PAIRS:
        return RatioCI(ratio, None, None, n, None, None, code("test_needs_pairs", n=MIN_PAIRS))
    if sd < NO_SPREAD:
        return RatioCI(ratio, None, None, n, None, None, code("no_variation"))
    error, df = sd / math.sqrt(n), n - 1 if df is None else df
    half = t_quantile(0.5 + confidence / 2, df) * error
    p_value = 2 * t_tail(abs(mean) / error, df)
    return RatioCI(ratio, math.exp(mean - half), math.exp(mean + half), n, p_value, sd, df=df)


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t."""
    return float(_special().stdtrit(df, p))


def beta_quantile(a: float, b: float, p: float) -> float:
    """Quantile of the beta distribution; all at 0 for a = 0, all at 1 for b = 0, as the limits of a share need it."""
    if a <= 0:
        return 0.0
    return float(_special().betaincinv(a, b, p)) if b > 0 else 1.0


def share_limits(count: float, n: float, tail: float = 0.025) -> tuple[float, float]:
    """Clopper-Pearson limits of the share count / n, which need not be whole numbers; tail: the chance beyond each."""
    return beta_quantile(count, n - count + 1, tail), beta_quantile(count + 1, n - count, 1 - tail)


def f_tail(ratio: float, above: int, below: int) -> float:
    """Probability of a ratio of two mean squares, of these degrees of freedom, at least as large (Fisher's F)."""
    return float(_special().fdtrc(above, below, ratio))


def half_width(low: float | None, high: float | None) -> float | None:
    """Half-width of a ratio's CI as a relative figure: 0.02 means about ±2 %. exp(log half-width) - 1."""
    return None if low is None or high is None else math.exp((math.log(high) - math.log(low)) / 2) - 1


def tost(ci: RatioCI, margin: float) -> float | None:
    """p-value of two one-sided t-tests (Schuirmann 1987): the ratio lies within 1/(1+m) … 1+m.

    p < 0.05 is the same as: the 90 % CI lies inside the margin. None where there is no CI.
    """
    if margin <= 0:
        raise ValueError("tost: the margin must be above zero")
    if ci.ratio is None or ci.sd is None or ci.df is None:
        return None
    mean, error, bound = math.log(ci.ratio), ci.sd / math.sqrt(ci.n), math.log1p(margin)
    return t_tail((bound - abs(mean)) / error, ci.df)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (Holm 1979) in the given order; a None stays None, uncounted."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(known):
        running = max(running, min(1.0, p * (len(known) - rank)))
        adjusted[i] = running
    return adjusted


def blocks_needed(n: int, width: float, margin: float, cap: int = 1000) -> int | None:
    """Paired blocks, all together, whose CI half-width is `margin` if that of the first n is `width`; None above `cap`.

    Half-widths are relative (0.02 is ±2 %). The interval keeps the sd and the t of the first blocks (see `spread`), so
    it narrows with sqrt(n) exactly, and one addition of blocks suffices unless the later ones scatter much more.
    """
    # The last digits of a width must not ask for a block more.
    need = math.ceil(n * (math.log1p(width) / math.log1p(margin)) ** 2 - 1e-9)
    return need if need <= cap else None


def drift(seconds: Sequence[float], values: Sequence[float], confidence: float = 0.95) -> Drift:
    """Theil-Sen slope of ln(value) over time, as percent over the session; p from Kendall's tau.

    Below 5 points Kendall's test cannot reach p < 0.05, so the trend is given without CI and p.
    """
    n = len(values)
    problem = _unusable(values)
    if problem:
        return Drift(None, None, None, None, n, problem)
    span = max(seconds) - min(seconds)
    if n < MIN_PAIRS or span <= 0:
        return Drift(None, None, None, None, n, code("test_needs_blocks", n=MIN_PAIRS))
    from scipy import stats  # here, as it takes a second to load

    logs = np.log(np.asarray(values, dtype=float))
    slope, _, low, high = stats.theilslopes(logs, np.asarray(seconds, dtype=float), alpha=confidence)
    percent = 100 * math.expm1(float(slope) * span)
    if n < 5:
        return Drift(percent, None, None, None, n, code("trend_needs_blocks", n=5))
    p_value = float(stats.kendalltau(seconds, logs).pvalue)
    if math.isnan(p_value):
        return Drift(percent, None, None, None, n, code("no_variation"))
    return Drift(percent, 100 * math.expm1(float(low) * span), 100 * math.expm1(float(high) * span), p_value, n)


def rank_trend(groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> RankTrend:
    """Does y rise with x within groups of (xs, ys)? Ranks are compared within a group only, so groups may differ.

    The stratified Kendall test (Hirsch, Slack & Smith 1982, "seasonal Kendall"): the sum of the groups' S against the
    normal distribution with the sum of their variances, ties and a continuity correction included. For independent
    blocks it holds its level from three values a group on (tests/unit/judge/test_scatter.py). tau is tau-b.
    """
    total, variance, most, n = 0.0, 0.0, 0.0, 0
    for xs, ys in groups:
        x, y = (np.sign(np.subtract.outer(v, v)) for v in (np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)))
        total += float((x * y).sum()) / 2
        variance += _kendall_variance(xs, ys)
        most += math.sqrt(float((x != 0).sum()) * float((y != 0).sum())) / 2
        n += len(xs)
    if not most or not variance:
        return RankTrend(None, 1.0, n)
    z = (total - 1) / math.sqrt(variance)
    return RankTrend(total / most, math.erfc(z / math.sqrt(2)) / 2, n)


def _kendall_variance(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of Kendall's S where x and y have nothing to do with each other (Kendall 1970, ch. 4)."""
    n = len(xs)
    (x2, x3, x5), (y2, y3, y5) = map(_ties, (xs, ys))
    own = (n * (n - 1) * (2 * n + 5) - x5 - y5) / 18
    more = x2 * y2 / (2 * n * (n - 1)) if n > 1 else 0.0
    return own + more + (x3 * y3 / (9 * n * (n - 1) * (n - 2)) if n > 2 else 0.0)


def _ties(values: Sequence[float]) -> tuple[int, int, int]:
    """Sums over groups of t equal values: t(t - 1), t(t - 1)(t - 2), t(t - 1)(2t + 5)."""
    counts = Counter(values).values()
    pairs = [t * (t - 1) for t in counts]
    return (
        sum(pairs),
        sum(p * (t - 2) for p, t in zip(pairs, counts, strict=True)),
        sum(p * (2 * t + 5) for p, t in zip(pairs, counts, strict=True)),
    )
