"""Pairs of blocks: which are used, and whether they were measured side by side."""

from __future__ import annotations

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from quantbench.judge.pairing import interleaved, measure, pair_up
from quantbench.records.block import LaneFacts
from quantbench.records.comparison import InvalidBlock


def block(n, value=100.0, *, model="w4", lane=None, t=0.0, valid=True, reasons=(), **metrics):
    more = {"valid": valid, "reasons": reasons, "lane": LaneFacts(lane=lane)}
    return runs.block(model, number=n, started=t, metrics={"throughput_tok_s": value, **metrics}, **more)


@given(st.integers(2, 10), st.floats(1, 100))
def test_abba_is_interleaved_and_arm_by_arm_is_not(n, slot):
    places = [(2 * i, 2 * i + 1) if i % 2 == 0 else (2 * i + 1, 2 * i) for i in range(n)]
    assert interleaved([a * slot for a, _ in places], [b * slot for _, b in places])
    assert not interleaved([i * slot for i in range(n)], [(n + i) * slot for i in range(n)])


def test_a_pair_measured_on_different_days_is_not_interleaved_and_one_alone_proves_no_order():
    a, b = [0.0, 30.0, 86_400.0], [10.0, 20.0, 40.0]
    assert (interleaved(a, b), interleaved(a[:2], b[:2]), interleaved(a[:1], b[:1])) == (False, True, False)


def test_blocks_pair_by_number_and_invalid_ones_are_refused_with_their_reason():
    a = [block(1), block(2), block(3), block(4)]
    b = [block(3, 120.0), block(1, 110.0), block(2, valid=False, reasons=("failed_requests",)), block(7)]
    pairs = pair_up(a, b)
    assert [(x.block, y.block) for x, y in zip(pairs.a, pairs.b, strict=True)] == [(1, 1), (3, 3)]
    assert pairs.invalid == (InvalidBlock(model="w4", block=2, guards=("failed_requests",)),)
    assert pairs.unpaired == 2


def test_two_lanes_at_the_same_time_are_not_interleaved():
    times = [(0.0, 10.0), (30.0, 20.0), (40.0, 50.0)]

    def arms(*lanes):
        a, b = ([block(n, t=pair[i], lane=lanes[i]) for n, pair in enumerate(times)] for i in (0, 1))
        return pair_up(a, b)

    assert arms("gpu0", "gpu0").interleaved
    assert arms(None, None).interleaved
    apart = arms("gpu0", "gpu1")
    assert not apart.same_lane
    assert not apart.interleaved


def test_the_values_of_a_row_have_exactly_its_ratio():
    arms = ([block(i, v) for i, v in enumerate(values)] for values in ([90.0, 100, 120], [99.0, 130, 125]))
    found = measure(pair_up(*arms), "throughput_tok_s")
    assert found.b / found.a == pytest.approx(found.ci.ratio)


POOL = {("w4", runs.CHAT, n): {"ttft_ms": [50.0 + i for i in range(25)]} for n in range(4)}


@pytest.mark.parametrize(("pairs", "metric", "n", "remarks", "reason"), [
    # a block without the metric is left out; without a partner it is no missing metric
    (pair_up([block(i, j_per_token=None if i == 2 else 1.0 + i) for i in range(5)],
          [block(i, j_per_token=2.0 + i) for i in range(5)]), "j_per_token", 4, ("MISSING_IN_1_PAIRS",), None),
    (pair_up([block(1), block(2)], [block(3), block(4)]), "throughput_tok_s", 0, (), "NO_PAIRS"),
    (pair_up([block(1)], [block(1)]), "p50_tpot_ms", 0, (), "NOT_MEASURED"),
    # a p95 comes from blocks if all have one, else from the pool, else from nowhere
    (pair_up([block(i, p95_ttft_ms=70.0 + i) for i in range(4)],
          [block(i, p95_ttft_ms=60.0 + i * i) for i in range(4)]), "p95_ttft_ms", 4, (), None),
    (pair_up([block(i, p95_ttft_ms=None) for i in range(4)],
             [block(i, p95_ttft_ms=60.0) for i in range(4)], samples=POOL), "p95_ttft_ms", 4, ("P95_POOLED",), None),
    (pair_up(*[[block(i, p95_ttft_ms=None) for i in range(4)]] * 2), "p95_ttft_ms", 4, (), "P95_NEEDS_N72"),
])  # fmt: skip
def test_a_metric_comes_from_the_pairs_that_have_it(pairs, metric, n, remarks, reason):
    found = measure(pairs, metric)
    assert (found.ci.n, found.remarks, found.ci.reason) == (n, remarks, reason)
