from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.report import measurement
from report_fixture import Scenario, _contexts, facts


def test_order_is_told_by_the_clock() -> None:
    contexts = _contexts(Scenario(aa=False, workloads=("chat",), blocks=4), random.Random(1))
    random.Random(2).shuffle(contexts)
    order = measurement.summarize(contexts, {}, {}, [])["order"]
    assert order["example"] == "A B B A A B B A"
    assert order["letters"] == {"A": "bf16", "B": "awq"}
    assert order["interleaved"] == order["cells"] == 3
    apart = _contexts(Scenario(aa=False, workloads=("chat",), blocks=4, interleaved=False), random.Random(1))
    assert measurement.summarize(apart, {}, {}, [])["order"]["interleaved"] == 0


def test_share_of_lane_time() -> None:
    assert facts(Scenario()).measurement["share"]["share"] == pytest.approx((600 + 601) / 1280)
    none = measurement.summarize([], {}, {"m": {"measured_s": None, "held_s": 5}}, [])
    assert none["share"] == {"measured_s": None, "held_s": None, "share": None}


def test_invalid_blocks_are_listed_with_their_reasons() -> None:
    blocks = facts(Scenario(invalid=True)).measurement["blocks"]
    assert blocks["total"] - blocks["valid"] == len(blocks["invalid"]) == 4
    assert all(
        b["reasons"] == ["thermal_throttling"] and b["details"] == ["SwThermalSlowdown"] for b in blocks["invalid"]
    )


def test_missing_telemetry_keeps_its_reason_and_counts_as_unknown() -> None:
    found = facts(Scenario(telemetry=False)).measurement
    assert found["telemetry_missing"] == {"power_w": "no NVML here", "energy_j": "no NVML here"}
    throttling = next(g for g in found["guards"] if g["id"] == "thermal_throttling")
    assert throttling["unknown"] == found["blocks"]["total"]
    assert all(cell["power_w_mean"] is None for cell in found["cells"])


@given(st.sets(st.sampled_from(["client", "server", "telemetry", "lane", "bottleneck"])))
def test_a_context_may_lack_whole_parts(absent: set[str]) -> None:
    contexts = _contexts(Scenario(workloads=("chat",), blocks=1, aa=False), random.Random(1))
    bare = [{key: None if key in absent else value for key, value in c.items()} for c in contexts]
    found = measurement.summarize(bare, {}, {}, [])
    assert found["blocks"]["total"] == len(contexts)
