"""Metrics: every formula against hand-made records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.client.concurrency import concurrency_held, in_flight, steady_window
from quantbench.client.metrics import block_metrics, percentile, percentile_table
from quantbench.records.block import Percentile
from quantbench.records.metric import (
    BLOCK_METRICS,
    COMPARED,
    E2E,
    ITL,
    METRICS,
    TTFT,
    chunk_gap_ms,
    e2e_ms,
    focus,
    quantiles,
    tokens_within,
    tpot_ms,
    ttft_ms,
)
from quantbench.records.pool import Quantile
from quantbench.records.request import RequestRecord, Window
from request_records import MS, block, request

QUICK = settings(max_examples=80, deadline=None)


def reasons(records: list[RequestRecord]) -> set[str]:
    """Why percentiles of a block are blank."""
    each = (percentile(records, of) for metric, of in quantiles() if metric.block)
    return {str(found.reason) for found in each if found.value is None}


def test_a_block_has_the_metrics_of_the_table() -> None:
    figures = block_metrics(block(4, 2), 2)
    assert list(figures) == [name for name, metric in METRICS.items() if metric.block]
    assert set(figures) == BLOCK_METRICS
    assert all(metric.unit and metric.formula for metric in METRICS.values())


def test_what_is_compared_or_shown_is_a_metric_with_words_and_a_direction() -> None:
    for name in {*COMPARED, *focus("interactive"), *focus("batch")}:
        assert METRICS[name].words
        assert METRICS[name].better in ("higher", "lower")
    assert METRICS["throughput_tok_s"].is_better(1.1)
    assert METRICS["p95_ttft_ms"].is_better(0.9)


def test_times_of_one_request() -> None:
    r = request(10, 30, 75, tokens=10, lead=1)
    assert (ttft_ms(r), e2e_ms(r), tpot_ms(r), chunk_gap_ms(r)) == (20, 65, 5, 5)
    assert tpot_ms(request(10, 30, 75, tokens=10, lead=4)) == pytest.approx(45 / 6)
    assert tpot_ms(request(10, 30, 30, tokens=10, lead=10)) is None


@QUICK
@given(first=st.integers(1, 10**6), rest=st.integers(1, 10**6), tokens=st.integers(2, 500), lead=st.integers(1, 499))
def test_e2e_is_ttft_plus_decode(first: int, rest: int, tokens: int, lead: int) -> None:
    lead = min(lead, tokens - 1)
    r = request(0, first, first + rest, tokens=tokens, lead=lead)
    tpot = tpot_ms(r)
    assert tpot is not None
    assert e2e_ms(r) == pytest.approx(first + (tokens - lead) * tpot)


def test_a_whole_block() -> None:
    m = block_metrics(block(8, 2), 2, energy_j=160.0)
    assert (m["n"], m["failures"], m["tokens_in"], m["tokens_out"], m["chunks"]) == (8, 0, 40, 80, 80)
    assert m["duration_s"] == pytest.approx(0.404)
    assert m["throughput_tok_s"] == pytest.approx(80 / 0.404)
    assert m["request_rate_s"] == pytest.approx(8 / 0.404)
    assert m["throughput_steady_tok_s"] == pytest.approx(m["throughput_tok_s"], rel=0.01)
    assert (m["p50_ttft_ms"], m["p50_e2e_ms"], m["j_per_token"]) == (20, 100, 2)
    assert m["p95_ttft_ms"] is None
    assert "P95_NEEDS_N72" in reasons(block(8, 2))


def test_a_time_that_few_requests_have_is_no_figure_of_the_block() -> None:
    in_one_read = [request(0, 20, 20, lead=10, i=i) for i in range(3)]
    few = block_metrics([*block(27, 3), *in_one_read[:3]], 3)  # 27 of 30 have a TPOT
    assert (few["p50_tpot_ms"], few["p50_chunk_gap_ms"]) == (pytest.approx(80 / 9), pytest.approx(80 / 9))
    fewer = [*block(24, 3), *in_one_read]
    assert block_metrics(fewer, 3)["p50_tpot_ms"] is None
    assert block_metrics(fewer, 3)["p50_chunk_gap_ms"] is None
    assert {"TPOT_OF_TOO_FEW", "CHUNK_GAP_OF_TOO_FEW"} <= reasons(fewer)
    assert block_metrics(fewer, 3)["p50_ttft_ms"] == 20


def test_tokens_in_are_known_only_if_each_request_has_them() -> None:
    records = block(4, 2)
    assert block_metrics([*records[1:], replace(records[0], prompt_tokens=None)], 2)["tokens_in"] is None
    assert block_metrics([*records[1:], replace(records[0], prompt_tokens=None, ok=False)], 2)["tokens_in"] == 15


def test_p95_from_72_requests_on() -> None:
    assert block_metrics(block(70, 2), 2)["p95_ttft_ms"] is None
    assert block_metrics(block(72, 2), 2)["p95_ttft_ms"] == 20
    assert reasons(block(72, 2)) == set()


def test_failures_count_as_infinite_where_they_are_adjusted_for() -> None:
    m = block_metrics(block(100, 2, failed=10), 2)
    assert (m["failures"], m["tokens_out"]) == (10, 900)
    assert (m["p95_ttft_ms"], m["adj_p95_ttft_ms"], m["adj_p50_ttft_ms"]) == (20, None, 20)
    assert "FAILURES_AT_P95" in reasons(block(100, 2, failed=10))
    assert percentile(block(100, 2, failed=10), Quantile(TTFT, 95, adjusted=True)).n == 100
    assert block_metrics(block(100, 2, failed=1), 2)["adj_p95_ttft_ms"] == 20


def test_every_percentile_of_a_block_has_its_n_and_order_statistic_interval() -> None:
    records = [request(0, 20 + i, 65 + 2 * i, i=i) for i in range(100)]
    table, plain = percentile_table(records), block_metrics(records, 2)
    assert list(table) == [name for name, metric in METRICS.items() if metric.limits]
    for name, found in table.items():
        assert found.value == plain[name]
        assert found.reason is None
        how = METRICS[name].how
        if isinstance(how, Quantile) and how.time.independent:
            assert found.n == 100
            assert (found.low or 0) < (found.value or 0) < (found.high or 0)
        else:
            assert (found.low, found.high) == (None, None)
    # The 40th and the 61st of 100 values: the binomial 95 % interval of a median (Conover, 3.2).
    assert (table["p50_ttft_ms"].low, table["p50_ttft_ms"].high) == (59, 80)
    few = percentile_table(records[:5])
    assert (few["p50_tpot_ms"].low, few["p50_tpot_ms"].reason) == (None, "CI_NEEDS_N6")
    assert few["p95_tpot_ms"] == Percentile(value=None, low=None, high=None, n=5, reason="P95_NEEDS_N72")
    assert percentile(records, Quantile(E2E, 50)).low is None, "limits are costly, and not asked for"


def streams(gaps: Sequence[Sequence[int]], shared: int = 0) -> list[RequestRecord]:
    """Requests with these gaps in µs, each token in a read of its own but for `shared` more of the first request."""
    each = [replace(request(i=i, tokens=len(g) + 1), gaps_us=tuple(g)) for i, g in enumerate(gaps)]
    return [replace(each[0], completion_tokens=len(gaps[0]) + 1 + shared), *each[1:]]


def test_inter_token_latency_is_over_the_gaps_of_all_requests_together() -> None:
    """Failed requests have no part in it."""
    records = streams([[1000 + 10 * k for k in range(38)] + [50_000] for _ in range(5)])
    gaps = sorted(gap / 1000 for r in records for gap in r.gaps_us or ())
    figures, table = block_metrics(records, 1), percentile_table(records)
    assert figures["p50_itl_ms"] == gaps[97] == 1.19
    assert figures["p95_itl_ms"] == pytest.approx(float(np.quantile(gaps, 0.95)))
    assert table["p95_itl_ms"] == Percentile(value=figures["p95_itl_ms"], low=None, high=None, n=195)
    failed = [*records, replace(records[0], ok=False, gaps_us=(9_000_000,) * 500)]
    assert block_metrics(failed, 1)["p95_itl_ms"] == figures["p95_itl_ms"]


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (streams([[1000] * 98, [1000] * 99], shared=1), None),  # 1 of 200 tokens
        (streams([[1000] * 98, [1000] * 98], shared=2), None),  # 2 of 200
        (streams([[1000] * 98, [1000] * 97], shared=3), "ITL_NEEDS_SINGLE_TOKENS"),  # 3 of 200
        (streams([[1000] * 103, [1000] * 99], shared=-4), "ITL_NEEDS_SINGLE_TOKENS"),  # cut anew on the way
        ([replace(r, gaps_us=None) for r in streams([[1000] * 99])], "ITL_NOT_KEPT"),
        (streams([[]] * 9), "ITL_OF_TOO_FEW"),  # a single token has no gap
    ],
)
def test_inter_token_latency_needs_tokens_in_reads_of_their_own(
    records: list[RequestRecord], reason: str | None
) -> None:
    records = [replace(r, reads=len(r.gaps_us or ()) + 1) for r in records]
    assert percentile(records, Quantile(ITL, 50)).reason == reason
    assert (block_metrics(records, 1)["p50_itl_ms"] is None) == (reason is not None)


def test_empty_and_hopeless_blocks_say_nothing() -> None:
    for records in ([], block(4, 2, failed=4), [RequestRecord(0, "p", reason="connect")]):
        m = block_metrics(records, 2)
        assert all(m[name] is None for name in m if name.startswith(("p50", "p95", "adj")))
        assert m["throughput_tok_s"] in (None, 0)
        assert m["n"] == len(records)


def test_the_steady_window_cuts_ramp_and_drain() -> None:
    spans = [(0, 100), (10, 110), (100, 200), (110, 210), (200, 300), (210, 310)]
    assert steady_window(spans, 2) == Window(10, 300)
    assert concurrency_held(spans, 2) == 1.0
    assert steady_window(spans[:2], 2) is None  # one wave is only ramp and drain
    assert steady_window(spans, 3) is None
    assert concurrency_held(spans, 3) == pytest.approx(600 / 930)
    assert concurrency_held([], 3) is None


spans_strategy = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(1, 300)).map(lambda p: (p[0], p[0] + p[1])), max_size=40
)


@QUICK
@given(spans_strategy)
def test_the_sweep_line_agrees_with_counting(spans: list[tuple[int, int]]) -> None:
    steps = in_flight(spans)
    assert [t for t, _ in steps] == sorted({t for span in spans for t in span})
    for when, level in steps:
        assert level == sum(s <= when < e for s, e in spans)
    held = concurrency_held(spans, 4)
    assert held is None or held > 0


@QUICK
@given(spans_strategy, st.integers(1, 6))
def test_a_steady_window_begins_and_ends_at_full_concurrency(spans: list[tuple[int, int]], c: int) -> None:
    window = steady_window(spans, c)
    if window is not None:
        assert sum(s <= window.start < e for s, e in spans) >= 0.95 * c
        assert sum(s < window.end <= e for s, e in spans) >= 0.95 * c


@QUICK
@given(
    first=st.integers(1, 100),
    rest=st.integers(0, 100),
    tokens=st.integers(1, 50),
    lead=st.integers(1, 50),
    edges=st.lists(st.integers(0, 250), min_size=1, max_size=5, unique=True),
)
def test_tokens_are_credited_once_whatever_the_windows(
    first: int, rest: int, tokens: int, lead: int, edges: list[int]
) -> None:
    r = request(0, first, first + rest, tokens=tokens, lead=min(lead, tokens))
    marks = [-1, *(int((e + 0.5) * MS) for e in sorted(edges)), 10**12]
    shares = [tokens_within(r, Window(a, b)) for a, b in pairwise(marks)]
    assert sum(shares) == pytest.approx(tokens)
    assert all(s >= 0 for s in shares)
