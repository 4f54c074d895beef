from __future__ import annotations

import pytest
from quantbench.report import impact, tables
from report_fixture import Scenario, facts


def test_memory_reduction_and_reasons() -> None:
    found = facts(Scenario(variants=("awq",)))
    base, awq = found.memory
    assert base["weights_reduction_pct"] == 0
    assert awq["weights_reduction_pct"] == pytest.approx((1 - 1.1 / 2.98) * 100, abs=0.001)
    assert awq["non_torch_gib"] is None
    assert "non_torch_gib: not found: looked for" in awq["missing"]
    assert "NVML" in awq["sources"]


def test_memory_of_a_model_without_a_record_is_blank_with_its_reason() -> None:
    rows = tables.memory_rows({"a": "A", "b": "B"}, "a", {"a": {"memory": {"weights_gib": 2.0}, "vram": None}}, {})
    assert rows[1]["weights_gib"] is None
    assert rows[1]["missing"] == "all: no ready.json for this model"
    assert list(rows[0]) == list(rows[1])


def test_impact_takes_the_specified_cells_and_says_which_gains_more() -> None:
    awq, fp8 = facts(Scenario(variants=("awq", "fp8"))).impact
    assert (awq["chat_concurrency"], awq["batch_concurrency"]) == (16, 32)
    assert awq["helps_more"] == "chat"
    assert "weight-only" in awq["hypothesis"]
    assert fp8["helps_more"] == "batch"
    assert "front end" in fp8["hypothesis"], "what limits the chat cell comes before any theory"
    assert awq["quotient_ci_low"] < awq["quotient"] < awq["quotient_ci_high"] < 1
    assert set(awq) <= set(impact.COLUMNS)


def test_impact_without_batch_or_without_error_bars_claims_nothing() -> None:
    (alone,) = facts(Scenario(workloads=("chat",))).impact
    assert alone["reason"] == "batch: no such workload"
    assert alone["hypothesis"] is None
    (untested,) = facts(Scenario(blocks=2)).impact
    assert untested["helps_more"] == "unknown"
    assert "nothing needs a cause" in untested["hypothesis"]
