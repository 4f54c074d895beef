from __future__ import annotations

import random
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.files import read_json
from quantbench.observe.telemetry import FIELDS, NO_NVML
from quantbench.report import measurement
from report_fixture import Scenario, contexts, facts

FEW = contexts(Scenario(workloads=("chat",), blocks=1, aa=False))


def test_order_is_told_by_the_clock() -> None:
    blocks = contexts(Scenario(aa=False, workloads=("chat",), blocks=4))
    random.Random(2).shuffle(blocks)
    order = measurement.summarize(blocks, {}, {}, [])["order"]
    assert order["example"] == "A B B A A B B A"
    assert order["letters"] == {"A": "bf16", "B": "awq"}
    assert order["interleaved"] == order["cells"] == 3
    apart = contexts(Scenario(aa=False, workloads=("chat",), blocks=4, interleaved=False))
    assert measurement.summarize(apart, {}, {}, [])["order"]["interleaved"] == 0


def test_share_of_lane_time() -> None:
    assert facts(Scenario()).measurement["share"]["share"] == pytest.approx(0.94)
    none = measurement.summarize([], {}, {"m": {"measured_s": None, "held_s": 5}}, [])
    assert none["share"] == {"measured_s": None, "held_s": None, "share": None}


def _block(start: float, duration: float, lane: str | None = "gpu0") -> dict[str, object]:
    return {"started_unix": start, "duration_s": duration, "lane": {"lane": lane} if lane else None}


def test_wall_time_counts_what_lies_between_the_leases() -> None:
    blocks = [_block(100, 20), _block(124, 20), _block(150, 20), _block(0, 5, "gpu1"), _block(7, 2, None)]
    first, second = measurement.wall_time(blocks)
    assert first == {"lane": "gpu0", "measured_s": 60, "wall_s": 70, "share": 60 / 70, "longest_pause_s": 6}
    assert second == {"lane": "gpu1", "measured_s": 5, "wall_s": 5, "share": 1, "longest_pause_s": None}
    assert measurement.wall_time([]) == []


def test_the_two_shares_of_the_kept_gpu_run_are_the_quoted_ones() -> None:
    """The leases of docs/reference/h100 are 92.3 % measured, its wall time 85.2 %; the READMEs quote both."""
    root = Path(__file__).parents[2]
    kept = root / "docs/reference/h100"
    [wall] = measurement.wall_time([read_json(path) for path in kept.glob("raw/**/b*.json")])
    leases = read_json(kept / "measurement.json")["share"]
    for page in (root / "README.md", kept / "README.md"):
        text = page.read_text()
        assert f"{100 * wall['share']:.1f} %" in text, page
        assert f"{100 * leases['share']:.1f} %" in text, page


def test_switch_times_of_the_kept_gpu_run_are_the_quoted_ones() -> None:
    kept = Path(__file__).parents[2] / "docs/reference/h100"
    lanes = [read_json(path)["lane"] for path in kept.glob("raw/**/b*.json")]
    woken = [lane["switch_s"] for lane in lanes if lane["action"] == "woken"]
    steps = read_json(kept / "kills.json")["steps"]
    alone = [step["switch_s"] for step in steps if step["what"] == "switch"]
    text = (kept / "README.md").read_text()
    for times in (woken, alone):
        told = f"{min(times):.3f} to {max(times):.3f} s, median {median(times):.3f} s"
        assert told in text, told


def test_invalid_blocks_are_listed_with_their_reasons() -> None:
    blocks = facts(Scenario(invalid=True)).measurement["blocks"]
    assert blocks["total"] - blocks["valid"] == len(blocks["invalid"]) == 4
    assert all(
        b["reasons"] == ["thermal_throttling"] and b["details"] == ["clock-event reasons: sw_thermal_slowdown"]
        for b in blocks["invalid"]
    )


def test_missing_telemetry_keeps_its_reason_and_counts_as_unknown() -> None:
    found = facts(Scenario(telemetry=False)).measurement
    assert found["telemetry_missing"] == dict.fromkeys(FIELDS, NO_NVML)
    throttling = next(g for g in found["guards"] if g["id"] == "thermal_throttling")
    assert throttling["unknown"] == found["blocks"]["total"]
    assert all(cell["power_w_mean"] is None for cell in found["cells"])


@given(st.sets(st.sampled_from(["client", "server", "telemetry", "lane", "bottleneck"])))
def test_a_context_may_lack_whole_parts(absent: set[str]) -> None:
    bare = [{key: None if key in absent else value for key, value in c.items()} for c in FEW]
    found = measurement.summarize(bare, {}, {}, [])
    assert found["blocks"]["total"] == len(FEW)


def test_the_age_of_the_calibration_is_that_of_the_oldest_at_the_last_block() -> None:
    last = max(c["started_unix"] for c in FEW)
    told = [{"concurrency": 1, "measured_unix": last - 50}, {"concurrency": 8, "measured_unix": last - 90}]
    assert measurement.summarize(FEW, {}, {}, told)["calibration_age_s"] == 90
    assert measurement.summarize(FEW, {}, {}, [*told, {"concurrency": 16}])["calibration_age_s"] is None
    assert measurement.summarize(FEW, {}, {}, [])["calibration_age_s"] is None
