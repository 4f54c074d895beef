"""How many blocks a precision needs, and which `extra_blocks` add them."""

from __future__ import annotations

import math

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from quantbench.judge.precision import blocks_to_decide, extra_blocks, next_round, plan
from quantbench.records.cell import Cell
from quantbench.records.comparison import Precision
from quantbench.stats import ratio_from_logs


def row(sd, n=6, cell=("chat", 8, 128), metric="throughput_tok_s"):
    ci = ratio_from_logs(0.01, sd, n)
    figures = {"ratio": ci.ratio, "ci_low": ci.low, "ci_high": ci.high, "n_pairs": n}
    return runs.comparison(Cell.of(*cell), metric, code="undecided", **figures)


def no_interval(reason, n=6, code="no_test", metric="throughput_tok_s"):
    return runs.comparison(Cell.of("chat", 8, 128), metric, ratio=None, code=code, n_pairs=n, reasons=(reason,))


def test_reached_missing_and_out_of_reach():
    assert plan([row(0.1)], None) == Precision(target=None, most_blocks=40), "nothing without a target"
    rows = [row(0.01), row(0.04, metric="p50_ttft_ms"), row(2.0, metric="p95_ttft_ms")]
    found = plan(rows, 0.02, {"chat/c8_t128": 6}, 6)
    assert [e.metric for e in found.reached] == ["throughput_tok_s"]
    assert [e.metric for e in found.missing] == ["p50_ttft_ms"]
    assert [e.metric for e in found.out_of_reach] == ["p95_ttft_ms"]
    more = found.missing[0].blocks_more
    assert found.extra_blocks == {"chat/c8_t128": more + more % 2}


@given(st.floats(0.003, 0.05), st.integers(3, 12))
def test_the_blocks_asked_for_would_reach_the_target_at_the_same_spread(sd, n):
    found = plan([row(sd, n)], 0.02, {"chat/c8_t128": n}, n)
    for entry in found.missing:
        ci = ratio_from_logs(0.0, sd, n + entry.blocks_more, df=n - 1)
        assert math.expm1((math.log(ci.high) - math.log(ci.low)) / 2) <= 0.02 * (1 + 1e-6)


def test_two_pairs_need_a_third_and_refused_comparisons_none():
    blocked = no_interval("tokenizer", code="invalid")
    found = plan([row(0.01, 2), blocked], 0.02, {"chat/c8_t128": 2}, 2)
    assert [e.blocks_more for e in found.missing] == [1]
    assert [(e.blocks_more, e.reasons) for e in found.refused] == [(None, ("tokenizer",))]


def test_blocks_that_are_refused_are_replaced_where_too_few_pairs_are_left():
    lost = no_interval("failed_requests (w8 block 2)", n=1, code="invalid")
    found = plan([lost], 0.02, {"chat/c8_t128": 4}, 4)
    assert found.extra_blocks == {"chat/c8_t128": 2}
    assert [e.blocks_more for e in found.refused] == [2]
    assert next_round([lost], 0.02, {"chat/c8_t128": 4}, 1e9, 60, most_blocks=6) == {"chat/c8_t128": 2}
    assert next_round([lost], 0.02, {"chat/c8_t128": 6}, 1e9, 60, most_blocks=6) == {}


def test_without_an_interval_more_blocks_are_no_help_and_what_is_not_measured_is_no_comparison():
    short, energy = no_interval("BLOCK_NEEDS_N20"), no_interval("NOT_MEASURED", n=0, metric="j_per_token")
    found = plan([row(0.001), short, energy], 0.02, {"chat/c8_t128": 6}, 6)
    assert [len(some) for some in (found.reached, found.untested, found.out_of_reach)] == [1, 1, 0]
    assert found.extra_blocks == {}
    assert blocks_to_decide(short) is None


@pytest.mark.parametrize(("most", "more"), [(40, {}), (80, {"chat/c8_t128": 44}), (49, {})])
def test_the_most_blocks_are_those_of_the_config(most, more):
    # ceil((2.571 * 0.054 / ln 1.02)²) = 50 blocks
    assert next_round([row(0.0544)], 0.02, {"chat/c8_t128": 6}, 1e9, 60, most_blocks=most) == more


def test_extra_blocks_count_from_the_planned_ones_and_keep_what_was_extended_before():
    assert extra_blocks({"a/c1_t1": 4}, {"a/c1_t1": 10}, 6) == {"a/c1_t1": 8}
    assert extra_blocks({"a/c1_t1": 4}, {}, 6) == {"a/c1_t1": 4}
    measured = {"a/c1_t1": 10, "b/c1_t1": 6, "c/c1_t1": 6}
    assert extra_blocks({"b/c1_t1": 2}, measured, 6) == {"a/c1_t1": 4, "b/c1_t1": 2}
    assert plan([row(0.001)], 0.02, {"chat/c8_t128": 10}, 6).extra_blocks == {}, "nothing to add"


def test_a_round_adds_all_that_is_needed_at_once_even_and_within_the_budget():
    rows = [row(0.03), row(0.02, cell=("chat", 1, 128)), row(0.001, cell=("chat", 16, 128))]
    measured = {"chat/c8_t128": 6, "chat/c1_t128": 6, "chat/c16_t128": 6}
    # ceil((2.571 * 0.03 / ln 1.02)²) = 16 and ceil((2.571 * 0.02 / ln 1.02)²) = 7 blocks, 6 are there
    assert next_round(rows, 0.02, measured, 1e9, 60) == {"chat/c8_t128": 10, "chat/c1_t128": 2}
    assert next_round(rows, 0.02, measured, 250, 60) == {"chat/c1_t128": 2, "chat/c8_t128": 2}
    assert next_round(rows, 0.02, measured, 30, 60) == {}
    assert next_round(rows, 0.5, measured, 1e9, 60) == {}
    # a cell has its most blocks; seconds per block may differ by cell
    assert next_round([row(0.04)], 0.02, {"chat/c8_t128": 40}, 1e9, 60) == {}
    assert next_round([row(0.04)], 0.02, {"chat/c8_t128": 38}, 1e9, 60) == {"chat/c8_t128": 2}
    assert next_round([row(0.03)], 0.02, {"chat/c8_t128": 6}, 125, {"chat/c8_t128": 60.0}) == {"chat/c8_t128": 2}
