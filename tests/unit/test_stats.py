"""Statistics against textbook values, independent formulas, and inputs that must give a reason instead of a number."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench import stats
from quantbench.stats import RatioCI, paired_ratio, percentile


def width(ci):
    return stats.half_width(ci.low, ci.high)


positive = st.floats(0.01, 1e6)
factors = st.floats(-0.2, 0.2)


@pytest.mark.parametrize(("values", "q", "value", "has_ci", "reason"), [
    ([], 50, None, False, "NO_VALUES"),
    ([3.0, 1.0, 2.0], 50, 2.0, False, "CI_NEEDS_N6"),
    (range(6), 50, 2.5, True, None),
    (range(71), 95, None, False, "P95_NEEDS_N72"),
    (range(72), 95, 67.45, True, None),
    (range(999), 99, None, False, "P99_NEEDS_N1000"),
    (range(1000), 99, 989.01, True, None),
    ([*range(100), *[math.inf] * 20], 50, 59.5, True, None),  # a failure is +inf
    ([*range(100), *[math.inf] * 20], 95, None, False, "FALLS_ON_FAILURE"),
    ([*range(100), *[math.inf] * 3], 95, 96.9, False, "CI_FALLS_ON_FAILURE"),
    ([math.inf] * 3, 50, None, False, "FALLS_ON_FAILURE"),
])  # fmt: skip
def test_a_percentile_and_its_ci_or_the_reason_why_not(values, q, value, has_ci, reason):
    found = percentile(values, q)
    assert (found.value, found.n, found.reason) == (value and pytest.approx(value), len(values), reason)
    assert (found.high is not None) == has_ci
    if has_ci:
        assert found.low < found.value < found.high


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        percentile([1.0, math.nan], 50)


@given(st.lists(st.floats(0, 1e6) | st.just(math.inf), max_size=200), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_finite_or_blank_with_a_reason(values, q):
    found = percentile(values, q)
    for x in (found.value, found.low, found.high):
        assert x is None or math.isfinite(x)
    assert (found.value is None or found.low is None or found.high is None) == (found.reason is not None)
    if found.low is not None:
        assert found.low <= found.value * (1 + 1e-12)


@pytest.mark.parametrize(("q", "n"), [(50, 25), (95, 100)])
def test_the_order_statistic_ci_covers_95_percent(q, n):
    rng = np.random.default_rng(1)
    hits = 0
    truth = -math.log(1 - q / 100)
    for _ in range(300):
        found = percentile(rng.exponential(size=n), q)
        hits += found.low <= truth <= found.high
    assert hits / 300 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)


def test_paired_ratio_is_the_t_interval_of_the_log_ratios():
    a, b = [100.0, 110.0, 90.0, 105.0], [120.0, 130.0, 111.0, 124.0]
    d = np.log(np.array(b) / np.array(a))
    half = 3.182446305 * d.std(ddof=1) / 2
    found = paired_ratio(a, b)
    assert found.ratio == pytest.approx(math.exp(d.mean()))
    assert (found.low, found.high) == pytest.approx((math.exp(d.mean() - half), math.exp(d.mean() + half)))
    assert (found.n, found.reason) == (4, None)
    assert 0 < found.p_value < 0.001


@given(st.lists(st.tuples(positive, factors), min_size=3, max_size=12), st.floats(0.1, 10))
def test_exchanging_the_arms_inverts_the_ratio_and_the_unit_does_not_matter(pairs, unit):
    a, b = [x for x, _ in pairs], [x * math.exp(f) for x, f in pairs]
    ab, ba, scaled = paired_ratio(a, b), paired_ratio(b, a), paired_ratio([x * unit for x in a], [x * unit for x in b])
    assert ab.ratio * ba.ratio == pytest.approx(1)
    assert ab.ratio == pytest.approx(scaled.ratio)
    assert ab.reason == ba.reason
    if ab.reason is None:
        assert ab.low * ba.high == pytest.approx(1)
        assert ab.p_value == pytest.approx(ba.p_value)
        assert abs(ab.p_value - 0.05) < 1e-6 or (ab.p_value < 0.05) == (not ab.low <= 1 <= ab.high)


@pytest.mark.parametrize(("a", "b", "ratio", "reason"), [
    ([], [], None, "NO_VALUES"),
    ([1.0, 2.0, 0.0], [1.0, 2.0, 3.0], None, "NOT_POSITIVE"),
    ([1.0, 2.0, 3.0], [1.0, -2.0, 3.0], None, "NOT_POSITIVE"),
    ([1.0, 2.0, 3.0], [1.0, math.inf, 3.0], None, "NOT_FINITE"),
    ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0], None, "NOT_FINITE"),
    ([100, 100], [121, 121], 1.21, "NEEDS_3_PAIRS"),
    ([1, 2, 3], [1, 2, 3], 1.0, "NO_VARIATION"),  # copies are not measurements
])  # fmt: skip
def test_pairs_without_an_interval_give_a_reason(a, b, ratio, reason):
    found = paired_ratio(a, b)
    assert found == RatioCI(ratio and pytest.approx(ratio), None, None, len(a), None, None, reason)


logs = st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=20)


@given(logs, st.integers(3, 19))
def test_added_pairs_never_make_the_interval_narrower_than_the_first_ones_allow(d, first):
    """Stein's interval: the mean of all, with the sd and the degrees of freedom of the first."""
    sd = float(np.std(d[:first], ddof=1))
    a, b = [1.0] * len(d), np.exp(d)
    staged, plain = paired_ratio(a, b, first=first), paired_ratio(a, b)
    assert staged.ratio == plain.ratio
    if plain.reason is None:
        assert width(staged) >= width(plain) * (1 - 1e-9)
    if first >= len(d):
        assert staged == plain
    elif sd > 1e-6:
        stein = stats.ratio_from_logs(float(np.mean(d)), sd, len(d), df=first - 1)
        assert width(staged) >= width(stein) * (1 - 1e-9)
        wider = max(stein, plain, key=lambda ci: width(ci) or 0)
        assert (staged.low, staged.high) == pytest.approx((wider.low, wider.high))


def test_unequal_lengths_are_an_error():
    with pytest.raises(ValueError, match="2 baseline"):
        paired_ratio([1, 2], [1, 2, 3])


@given(st.floats(-0.1, 0.1), st.floats(0.001, 0.1), st.integers(3, 20), st.floats(0.005, 0.2))
def test_tost_says_equivalent_exactly_where_the_90_percent_ci_is_inside(mean, sd, n, margin):
    ci = stats.ratio_from_logs(mean, sd, n)
    inner = stats.ratio_from_logs(mean, sd, n, 0.90)
    inside = 1 / (1 + margin) < inner.low and inner.high < 1 + margin
    p = stats.tost(ci, margin)
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == inside


def test_tost_needs_a_margin_and_an_interval():
    with pytest.raises(ValueError, match="margin"):
        stats.tost(paired_ratio([1, 2, 3], [1, 2, 4]), 0)
    assert stats.tost(paired_ratio([1], [2]), 0.02) is None


def test_holm_against_a_worked_example():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, None, 0.02]) == pytest.approx([0.5, None, 0.04])
    assert stats.holm([]) == []


@given(st.lists(st.none() | st.floats(0, 1), max_size=20))
def test_holm_keeps_order_and_never_lowers(ps):
    adjusted = stats.holm(ps)
    known = [(p, q) for p, q in zip(ps, adjusted, strict=True) if p is not None]
    assert all(q >= p and q <= 1 for p, q in known)
    assert all(q is None for p, q in zip(ps, adjusted, strict=True) if p is None)
    in_order = sorted(known)
    assert [q for _, q in in_order] == sorted(q for _, q in known)


@given(st.floats(0.001, 0.05), st.floats(0.005, 0.1), st.integers(3, 12))
def test_blocks_needed_is_the_smallest_n_that_is_narrow_enough_for_the_sd_of_the_first(sd, margin, first):
    first_width = width(stats.ratio_from_logs(0.0, sd, first))
    n = stats.blocks_needed(first, first_width, margin, cap=10**6)
    assert width(stats.ratio_from_logs(0.0, sd, max(n, 3), df=first - 1)) <= margin * (1 + 1e-6)
    if n > 3:
        assert width(stats.ratio_from_logs(0.0, sd, n - 1, df=first - 1)) > margin * (1 - 1e-6)


def test_blocks_beyond_the_cap_are_not_promised():
    assert stats.blocks_needed(6, 0.5, 0.01, cap=50) is None
    assert width(RatioCI(1.0, None, None, 2, None, None, "NEEDS_3_PAIRS")) is None


def test_drift_finds_a_planted_trend_and_not_noise():
    seconds = [60.0 * i for i in range(10)]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.002, 10)
    trend = stats.drift(seconds, [100 * math.exp(0.05 * i / 9 + noise[i]) for i in range(10)])
    assert trend.percent == pytest.approx(5, abs=0.7)
    assert trend.low < trend.percent < trend.high
    assert trend.p_value < 0.01
    flat = stats.drift(seconds, [100 * math.exp(x) for x in noise])
    assert abs(flat.percent) < 0.5
    assert flat.p_value > 0.05


@pytest.mark.parametrize(
    ("seconds", "values", "reason"),
    [
        ([], [], "NO_VALUES"),
        ([0, 1], [1, 2], "NEEDS_3_BLOCKS"),
        ([5, 5, 5], [1, 2, 3], "NEEDS_3_BLOCKS"),
        ([0, 1, 2], [1, 0, 3], "NOT_POSITIVE"),
        ([0, 1, 2, 3], [1, 2, 3, 4], "TREND_TEST_NEEDS_5_BLOCKS"),
        ([0, 1, 2, 3, 4], [1, 1, 1, 1, 1], "NO_VARIATION"),
    ],
)
def test_drift_without_support_has_no_test(seconds, values, reason):
    found = stats.drift(seconds, values)
    assert (found.p_value, found.reason) == (None, reason)


@settings(max_examples=300, deadline=None)
@given(n=st.integers(1, 3000), q=st.sampled_from([5, 50, 90, 95, 99]), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_order_limits_are_scipys(n: int, q: int, confidence: float) -> None:
    low, high = stats.order_limits(n, q / 100, confidence)
    limits = scipy.stats.quantile_test(np.arange(float(n)), p=q / 100).confidence_interval(confidence)
    assert (low if low >= 0 else None, high if high < n else None) == tuple(
        None if math.isnan(limit) else int(limit) for limit in limits
    )


def test_measuring_a_block_does_not_load_scipy() -> None:
    code = (
        "import sys; from quantbench import block; from quantbench.judge import guards; print('scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
