"""The row of a tuple: the specification's columns first, only valid blocks in it, nothing invented."""

from __future__ import annotations

from typing import Any

import pytest
from quantbench.client.metrics import block_metrics
from quantbench.client.records import RequestRecord
from quantbench.judge.summary import tuple_row
from unit.test_metrics import block

SPEC = (
    "gpu_name, model, workload, concurrency, max_tokens, p50_ttft_ms, p95_ttft_ms, p50_e2e_ms, p95_e2e_ms, "
    "throughput_tok_s"
)
IDENTITY = {"gpu_name": "cpu", "model": "m", "workload": "chat", "concurrency": 2, "max_tokens": 10}


def context(**over: Any) -> dict[str, Any]:
    return {
        "client": {"cpu_share": 0.2, "loop_lag_p99_ms": 1.5, "coalesced_share": 0.0, "concurrency_held": 0.99},
        "server": {"delta": {"prefix_cache_hits": 0, "preemptions": 1}},
        "telemetry": {"energy_j": 80.0},
        "bottleneck": {"part": "engine"},
        "valid": True,
        "reasons": [],
        **over,
    }


def test_the_specified_columns_come_first() -> None:
    columns = list(tuple_row(IDENTITY, [(block(80, 2), context())]))
    assert ", ".join(columns[:10]) == SPEC
    assert columns[10:12] == ["n", "failures"]
    batch = list(tuple_row({**IDENTITY, "style": "batch"}, [(block(80, 2), context())]))
    assert batch[10:12] == ["p50_latency_ms", "p95_latency_ms"]


def test_blocks_are_pooled_and_throughput_is_tokens_over_time() -> None:
    fast, slow = block(40, 2, length=100), block(40, 2, length=300)
    row = tuple_row(IDENTITY, [(fast, context()), (slow, context(client={"cpu_share": 0.5}))])
    rates = [block_metrics(b, 2)["throughput_tok_s"] for b in (fast, slow)]
    assert (row["n"], row["blocks"], row["failures"], row["tokens_out"]) == (80, 2, 0, 800)
    assert row["throughput_tok_s"] == pytest.approx(2 / (1 / rates[0] + 1 / rates[1]))
    assert row["throughput_cv"] == pytest.approx(0.707, rel=0.01)
    assert row["p95_ttft_ms"] == 20  # n = 80 supports it, though no block does
    assert row["p50_ttft_ms_lo"] <= row["p50_ttft_ms"] <= row["p50_ttft_ms_hi"]
    assert row["j_per_token"] == pytest.approx(0.2)
    assert row["client_cpu_share"] == 0.5
    assert (row["server_preemptions"], row["server_prefix_cache_hits"], row["bottleneck"]) == (2, 0, "engine")
    assert row["server_generation_tokens"] is None
    assert (row["valid"], row["reasons"]) == (True, "")


def test_an_invalid_block_is_left_out_and_the_row_says_so() -> None:
    bad = context(valid=False, reasons=["THROTTLED"])
    row = tuple_row(IDENTITY, [(block(80, 2), context()), (block(80, 2, length=900, failed=3), bad)])
    assert (row["n"], row["blocks"], row["blocks_invalid"], row["p50_e2e_ms"]) == (80, 1, 1, 100)
    assert (row["valid"], row["reasons"], row["failures"]) == (False, "THROTTLED", 3)
    assert row["failure_reasons"] == "timeout:3"


def test_without_a_valid_block_the_numbers_are_shown_as_invalid() -> None:
    row = tuple_row(IDENTITY, [(block(80, 2, failed=8), context(valid=False, reasons=["failed_requests"]))])
    assert (row["valid"], row["blocks"], row["n"], row["failures"]) == (False, 0, 80, 8)
    assert row["reasons"] == "failed_requests;FAILURES_AT_P95"
    assert row["adj_p95_ttft_ms"] is None


def test_what_is_missing_is_none_with_a_reason() -> None:
    row = tuple_row(IDENTITY, [(block(2, 2), {})])
    assert row["p95_ttft_ms"] is None
    assert row["throughput_steady_tok_s"] is None
    assert row["throughput_cv"] is None
    assert row["j_per_token"] is None
    assert row["client_ttft_error_ms"] is None
    assert row["reasons"] == "CI_NEEDS_N6;P95_NEEDS_N72;STEADY_TOO_SHORT"


def test_energy_that_its_guard_doubts_is_blank_with_the_guard_as_the_reason() -> None:
    doubted = context(guards=[{"id": "energy_mismatch", "status": "warn", "detail": "…"}])
    row = tuple_row(IDENTITY, [(block(80, 2), context()), (block(80, 2), doubted)])
    assert (row["j_per_token"], row["valid"], row["reasons"]) == (None, True, "energy_mismatch")
    trusted = context(guards=[{"id": "energy_mismatch", "status": "ok", "detail": "…"}])
    assert tuple_row(IDENTITY, [(block(80, 2), trusted)])["j_per_token"] is not None


def test_nothing_at_all() -> None:
    for blocks in ([], [([RequestRecord(0, "p", reason="connect")], context(valid=False))]):
        row = tuple_row(IDENTITY, blocks)
        assert (row["valid"], row["throughput_tok_s"]) == (False, None)


def test_calibration_goes_into_the_row() -> None:
    calibration = {"ttft_error_p50_ms": 0.1, "e2e_error_p50_ms": 0.2, "limit_tok_s": 9000.0}
    row = tuple_row(IDENTITY, [(block(4, 2), context())], calibration)
    assert (row["client_ttft_error_ms"], row["client_e2e_error_ms"], row["client_limit_tok_s"]) == (0.1, 0.2, 9000.0)
