"""The ratio of a tail percentile from short blocks, whose own tails are too short to have one.

Blocks of 25 requests have no 95th percentile, four of them together have one. The estimate is the ratio of
the pooled percentiles. Its CI must hold with few blocks, drift, and requests that move in step, so it is the
wider of two: *sectioning* (Asmussen & Glynn 2007, III.5; Nakayama 2014), the t interval from the block
percentiles around the pooled estimate, which sees what differs between blocks; and the order-statistic CIs
of both pooled samples, added in quadrature, which see a percentile that lies in a gap of the distribution.
Each alone falls far below 95 % on some distributions; tests/unit/judge/test_simulation.py shows the wider one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quantbench.records.codes import code
from quantbench.stats import MIN_PAIRS, PERCENTILE_NEEDS, RatioCI, percentile, ratio_from_logs, spread, t_quantile

# The simulation covers blocks from here on; shorter ones are refused.
MIN_BLOCK = 20


def pooled_ratio(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    q: int = 95,
    confidence: float = 0.95,
    first: int | None = None,
) -> RatioCI:
    """Ratio b/a of the pooled q-th percentiles with a CI over blocks.

    a, b: one sequence of request values per block (any unit above zero); block n of `a` pairs with block n of
    `b`. first: as for `stats.spread`. `sd_log` is the sd of one pair that a t interval of the same width would have.
    """
    if len(a) != len(b):
        raise ValueError(f"pooled_ratio: {len(a)} baseline blocks and {len(b)} variant blocks")
    k, needs = len(a), PERCENTILE_NEEDS.get(q, 1)
    pool_a, pool_b = ([x for block in arm for x in block] for arm in (a, b))
    if min(len(pool_a), len(pool_b)) < needs:
        return RatioCI(None, None, None, k, None, None, code("percentile_needs", q=q, n=needs))
    if not all(0 < x < math.inf for x in (*pool_a, *pool_b)):
        return RatioCI(None, None, None, k, None, None, code("not_positive"))
    mean = log_quantile(pool_b, q) - log_quantile(pool_a, q)
    if k < MIN_PAIRS:
        return RatioCI(math.exp(mean), None, None, k, None, None, code("test_needs_pairs", n=MIN_PAIRS))
    if min(len(block) for block in (*a, *b)) < MIN_BLOCK:
        return RatioCI(math.exp(mean), None, None, k, None, None, code("block_needs", n=MIN_BLOCK))
    sections = [log_quantile(y, q) - log_quantile(x, q) for x, y in zip(a, b, strict=True)]
    sd, df = spread(sections, first, mean, confidence)
    tail = order_half_width(pool_a, pool_b, q, confidence)
    if tail is None:
        return RatioCI(math.exp(mean), None, None, k, None, None, code("pooled_ci_needs_more", q=q))
    return ratio_from_logs(mean, max(sd, tail * math.sqrt(k) / t_quantile(0.5 + confidence / 2, df)), k, confidence, df)


def log_quantile(values: Sequence[float], q: int) -> float:
    """ln of the q-th percentile of positive values."""
    return math.log(float(np.quantile(np.asarray(values, dtype=float), q / 100)))


def order_half_width(a: Sequence[float], b: Sequence[float], q: int, confidence: float) -> float | None:
    """Larger side of the log-ratio's CI from the two order-statistic CIs, in quadrature."""
    low_a, mid_a, high_a = _log_limits(a, q, confidence)
    low_b, mid_b, high_b = _log_limits(b, q, confidence)
    if low_a is None or high_a is None or low_b is None or high_b is None:
        return None
    return max(math.hypot(mid_b - low_b, high_a - mid_a), math.hypot(high_b - mid_b, mid_a - low_a))


def _log_limits(values: Sequence[float], q: int, confidence: float) -> tuple[float | None, float, float | None]:
    limits = percentile(values, q, confidence)
    low, high = (None if x is None else math.log(x) for x in (limits.low, limits.high))
    return low, log_quantile(values, q), high
