"""The pooled 95th percentile: what it needs, and that it behaves like a ratio. Coverage: test_simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from quantbench.judge.pooled import pooled_ratio


def blocks(k, m, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [(scale * rng.lognormal(0, 0.1, m)).tolist() for _ in range(k)]


def test_four_blocks_of_25_support_a_p95_ratio():
    a, b = blocks(4, 25), blocks(4, 25, 1.3, seed=1)
    found = pooled_ratio(a, b)
    assert found.reason is None
    assert found.ratio == pytest.approx(np.quantile(np.concatenate(b), 0.95) / np.quantile(np.concatenate(a), 0.95))
    assert found.low < 1.3 < found.high
    assert found.p_value < 0.05
    swapped = pooled_ratio(b, a)
    assert (found.ratio * swapped.ratio, found.low * swapped.high) == pytest.approx((1, 1))


def test_blocks_that_were_added_do_not_narrow_it_below_the_scatter_of_the_first():
    a, b = blocks(8, 40), blocks(8, 40, 1.3, seed=1)
    staged, plain = pooled_ratio(a, b, first=3), pooled_ratio(a, b)
    assert staged.ratio == plain.ratio
    assert (staged.df, plain.df) == (2, 7)
    assert staged.high / staged.low > plain.high / plain.low


@pytest.mark.parametrize(
    ("k", "m", "reason"),
    [(0, 0, "P95_NEEDS_N72"), (4, 17, "P95_NEEDS_N72"), (2, 40, "NEEDS_3_PAIRS"), (5, 15, "BLOCK_NEEDS_N20")],
)
def test_what_is_too_little_has_no_interval(k, m, reason):
    found = pooled_ratio(blocks(k, m), blocks(k, m, seed=1))
    assert (found.low, found.high, found.p_value, found.reason) == (None, None, None, reason)


def test_values_without_a_log_and_unpaired_blocks_are_refused():
    bad = blocks(4, 25)
    bad[0][0] = math.inf
    assert pooled_ratio(bad, blocks(4, 25)).reason == "NOT_POSITIVE"
    with pytest.raises(ValueError, match="3 variant"):
        pooled_ratio(blocks(4, 25), blocks(3, 25))
