"""The row of a tuple: the specification's columns first, only valid blocks in it, nothing invented."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.client.metrics import block_metrics, percentile
from quantbench.judge.summary import columns, tuple_row
from quantbench.records.block import (
    BlockContext,
    Bottleneck,
    Calibration,
    ClientFacts,
    Delta,
    GuardResult,
    ServerFacts,
    Telemetry,
)
from quantbench.records.cell import Cell
from quantbench.records.metric import E2E, METRICS, TTFT
from quantbench.records.pool import Quantile
from quantbench.records.request import RequestRecord
from request_records import block, request

SPEC = (
    "gpu_name, model, workload, concurrency, max_tokens, p50_ttft_ms, p95_ttft_ms, p50_e2e_ms, p95_e2e_ms, "
    "throughput_tok_s"
)


CELL = Cell.of("chat", 2, 10)
CLIENT = ClientFacts(cpu_share=0.2, loop_lag_p99_ms=1.5, coalesced_share=0.0, concurrency_held=0.99)
SERVER = ServerFacts(delta=Delta(prefix_cache_hits=0, preemptions=1))


def context(**over: Any) -> BlockContext:
    """A block's context; keys of `over` replace whole parts of it."""
    facts: dict[str, Any] = {
        "metrics": {}, "client": CLIENT, "server": SERVER, "telemetry": Telemetry(energy_j=80.0),
        "bottleneck": Bottleneck(part="engine"),
    }  # fmt: skip
    return runs.block("m", CELL, **facts | over)


def test_the_specified_columns_come_first() -> None:
    names = list(tuple_row("cpu", [(block(80, 2), context())]))
    assert names == [column.name for column in columns("interactive")]
    assert ", ".join(names[:10]) == SPEC
    assert names[10:13] == ["n", "failures", "n_used"]
    batch = list(tuple_row("cpu", [(block(80, 2), context(style="batch"))]))
    assert batch[10:12] == ["p50_latency_ms", "p95_latency_ms"]


def test_every_metric_and_each_limit_is_a_column() -> None:
    """A metric is added to the table only, and is in the CSV of both styles or of its own."""
    wanted = {
        name + limit for name, metric in METRICS.items() for limit in ("", *(("_lo", "_hi") if metric.limits else ()))
    }
    names = [column.name for column in columns("batch")]
    assert wanted <= set(names)
    assert len(names) == len(set(names))
    assert set(names) - {column.name for column in columns("interactive")} == {"p50_latency_ms", "p95_latency_ms"}


def test_blocks_are_pooled_and_throughput_is_tokens_over_time() -> None:
    fast, slow = block(40, 2, length=100), block(40, 2, length=300)
    row = tuple_row("cpu", [(fast, context()), (slow, context(client=ClientFacts(cpu_share=0.5)))])
    rates = [block_metrics(b, 2)["throughput_tok_s"] for b in (fast, slow)]
    assert (row["n"], row["blocks"], row["failures"], row["tokens_out"]) == (80, 2, 0, 800)
    assert row["throughput_tok_s"] == pytest.approx(2 / (1 / rates[0] + 1 / rates[1]))
    assert row["throughput_cv"] == pytest.approx(0.707, rel=0.01)
    assert row["p95_ttft_ms"] == 20  # n = 80 supports it, though no block does
    assert row["j_per_token"] == pytest.approx(0.2)
    assert row["client_cpu_share"] == 0.5
    assert (row["server_preemptions"], row["server_prefix_cache_hits"], row["bottleneck"]) == (2, 0, "engine")
    assert row["server_generation_tokens"] is None
    assert (row["valid"], row["reasons"]) == (True, "CI_NEEDS_3_BLOCKS;BOUND_NEEDS_STEP")


@pytest.mark.parametrize("time", ["ttft", "e2e", "tpot"])
def test_the_interval_of_a_percentile_is_that_of_its_blocks(time: str) -> None:
    """Sectioning by hand: t(2) = 4.303, deviations of the blocks' medians from the pooled one."""
    blocks = [(block(80, 2, length=length), context()) for length in (100, 110, 130)]
    row = tuple_row("cpu", blocks)
    medians = [block_metrics(records, 2)[f"p50_{time}_ms"] for records, _ in blocks]
    pooled = row[f"p50_{time}_ms"]
    sd = math.sqrt(sum(math.log(m / pooled) ** 2 for m in medians) / 2)
    if time == "ttft":  # all alike: a spread of nothing is no measurement
        assert (row["p50_ttft_ms_lo"], "NO_VARIATION" in row["reasons"]) == (None, True)
    else:
        half = 4.30265 * sd / math.sqrt(3)
        limits = (row[f"p50_{time}_ms_lo"], row[f"p50_{time}_ms_hi"])
        assert limits == pytest.approx((pooled * math.exp(-half), pooled * math.exp(half)))
        assert row[f"p95_{time}_ms_lo"] < row[f"p95_{time}_ms"] < row[f"p95_{time}_ms_hi"]


def test_short_or_few_blocks_have_no_interval_and_say_why() -> None:
    few = tuple_row("cpu", [(block(80, 2, length=n), context()) for n in (100, 110)])
    assert (few["p50_e2e_ms_lo"], few["reasons"]) == (None, "CI_NEEDS_3_BLOCKS;BOUND_NEEDS_STEP")
    short = tuple_row("cpu", [(block(40, 2, length=n), context()) for n in (100, 110, 120)])
    assert short["p95_e2e_ms"] is not None
    assert short["p95_e2e_ms_lo"] is None
    assert short["p50_e2e_ms_lo"] is not None
    assert "P95_CI_NEEDS_N72_PER_BLOCK" in short["reasons"]
    merged = [replace(r, reads=1, gaps_us=()) if r.index < 3 else r for r in block(80, 2)]  # for one block
    whole = tuple_row("cpu", [(b, context()) for b in (merged, *(block(80, 2, length=n) for n in (100, 110, 120)))])
    assert whole["p50_itl_ms"] is not None
    assert whole["p50_itl_ms_lo"] is None
    assert "ITL_NEEDS_SINGLE_TOKENS" in whole["reasons"]
    assert "P50_CI_NEEDS" not in whole["reasons"]


failing = st.lists(st.tuples(st.integers(2, 60), st.integers(0, 20), st.integers(50, 400)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(failing)
def test_adjusted_percentiles_are_those_of_all_requests_with_failures_at_the_end(shape: list[Any]) -> None:
    """Blocks of (requests, failures, length); a block is valid if none failed, as the guard has it."""
    blocks = [
        (block(n, 2, length=length, failed=min(f, n)), context(valid=f == 0, reasons=("failed_requests",) * (f > 0)))
        for n, f, length in shape
    ]
    row = tuple_row("cpu", blocks)
    everyone = [record for records, _ in blocks for record in records]
    assert (row["n"], row["failures"]) == (len(everyone), sum(not r.ok for r in everyone))
    assert row["n_used"] <= row["n"] - row["failures"]
    for q in (50, 95):
        for time in (TTFT, E2E):
            adjusted = row[f"adj_p{q}_{time.name}_ms"]
            plain = percentile([r for r in everyone if r.ok], Quantile(time, q)).value
            if row["failures"] == 0:
                assert adjusted == row[f"p{q}_{time.name}_ms"] == plain
            elif adjusted is not None and plain is not None:
                assert adjusted >= plain * (1 - 1e-9)
            if row["failures"] > (1 - q / 100) * (row["n"] - 1) + 1:
                assert adjusted is None


def test_an_invalid_block_shows_in_the_adjusted_percentiles_and_counts_only() -> None:
    good = [(block(100, 2, length=n), context()) for n in (100, 110, 120)]
    bad = (block(100, 2, length=100, failed=40), context(valid=False, reasons=("failed_requests",)))
    clean, row = tuple_row("cpu", good), tuple_row("cpu", [*good, bad])
    assert row["p95_e2e_ms"] == clean["p95_e2e_ms"] == 120
    assert (clean["adj_p95_e2e_ms"], row["adj_p95_e2e_ms"], row["adj_p50_e2e_ms"]) == (120, None, 110)
    assert [row[name] for name in ("n", "failures", "n_used", "blocks", "blocks_invalid")] == [400, 40, 300, 3, 1]
    assert (row["valid"], row["failure_reasons"]) == (False, "timeout:40")
    assert row["reasons"].split(";")[0] == "failed_requests"
    assert "FAILURES_AT_P95" in row["reasons"]


def test_without_a_valid_block_the_numbers_are_shown_as_invalid() -> None:
    row = tuple_row("cpu", [(block(80, 2, failed=8), context(valid=False, reasons=("failed_requests",)))])
    assert [row[name] for name in ("valid", "blocks", "n", "failures", "n_used")] == [False, 0, 80, 8, 72]
    assert row["reasons"] == "failed_requests;CI_NEEDS_3_BLOCKS;FAILURES_AT_P95;BOUND_NEEDS_STEP"
    assert row["adj_p95_ttft_ms"] is None


def test_what_is_missing_is_none_with_a_reason() -> None:
    untold = [replace(r, prompt_tokens=None) for r in block(4, 2)]
    assert tuple_row("cpu", [(block(4, 2), context())])["tokens_in"] == 20
    assert tuple_row("cpu", [(block(4, 2), context()), (untold, context())])["tokens_in"] is None

    row = tuple_row("cpu", [(block(2, 2), context(client=ClientFacts(), server=ServerFacts(), telemetry=Telemetry()))])
    blank = ("p95_ttft_ms", "throughput_steady_tok_s", "throughput_cv", "j_per_token", "client_ttft_error_ms")
    assert [row[name] for name in blank] == [None] * 5
    assert row["reasons"] == "CI_NEEDS_3_BLOCKS;P95_NEEDS_N72;STEADY_TOO_SHORT;BOUND_NEEDS_STEP"
    at_once = [request(100 * i, 100 * i + 20, 100 * i + 65, lead=10, i=i) for i in range(4)]
    assert "TPOT_OF_TOO_FEW" in tuple_row("cpu", [(at_once, context())])["reasons"], "before what its limits lack"


def test_energy_that_its_guard_doubts_is_blank_with_the_guard_as_the_reason() -> None:
    doubted = context(guards=(GuardResult(id="energy_mismatch", status="warn"),))
    row = tuple_row("cpu", [(block(80, 2), context()), (block(80, 2), doubted)])
    assert (row["j_per_token"], row["valid"]) == (None, True)
    assert row["reasons"] == "CI_NEEDS_3_BLOCKS;energy_mismatch;BOUND_NEEDS_STEP"
    trusted = context(guards=(GuardResult(id="energy_mismatch", status="ok"),))
    assert tuple_row("cpu", [(block(80, 2), trusted)])["j_per_token"] is not None


@pytest.mark.fault(
    "A block is far from its siblings, and no guard finds a cause",
    "it stays valid and in the figures; the row (`BLOCK_n_FAR_FROM_SIBLINGS`) and the page of doubts name it",
)
def test_a_valid_block_far_from_the_others_stands_in_the_row_and_stays_in_its_figures() -> None:
    rates = (100.0, 101.0, 57.0)
    blocks = [(block(80, 2), context(block=n, metrics={"throughput_tok_s": x})) for n, x in enumerate(rates, start=1)]
    row = tuple_row("cpu", blocks)
    assert (row["valid"], row["blocks"], "BLOCK_3_FAR_FROM_SIBLINGS" in row["reasons"].split(";")) == (True, 3, True)


def test_calibration_goes_into_the_row_and_a_request_that_never_was_into_none() -> None:
    calibration = Calibration(concurrency=2, ttft_error_p50_ms=0.1, e2e_error_p50_ms=0.2, limit_tok_s=9000.0)
    row = tuple_row("cpu", [(block(4, 2), context())], calibration)
    assert (row["client_ttft_error_ms"], row["client_e2e_error_ms"], row["client_limit_tok_s"]) == (0.1, 0.2, 9000.0)
    row = tuple_row("cpu", [([RequestRecord(0, "p", reason="connect")], context(valid=False))])
    assert (row["valid"], row["throughput_tok_s"], row["duration_s"], row["n"]) == (False, None, None, 1)
