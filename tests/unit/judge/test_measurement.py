from __future__ import annotations

import random
from pathlib import Path
from statistics import median

import pytest
import runs
from quantbench.judge import measurement
from quantbench.records import base
from quantbench.records.block import (
    BlockContext,
    Bottleneck,
    Calibration,
    ClientFacts,
    Delta,
    GuardResult,
    Incident,
    LaneFacts,
    Peak,
    ServerFacts,
    Telemetry,
)
from quantbench.records.measurement import Gap, GuardCount, Measurement, Share, Wall
from quantbench.records.server import Event, Session

ROOT = Path(__file__).parents[3]
KEPT = ROOT / "docs/reference/h100"


def summary(blocks: list[BlockContext], *models: str) -> Measurement:
    return measurement.summarize(blocks, {model: runs.ready(model) for model in models}, {}, [])


def kept_blocks() -> list[BlockContext]:
    return [base.read(path, BlockContext) for path in KEPT.glob("raw/**/b*.json")]


def test_order_is_told_by_the_clock() -> None:
    arms = ["bf16", "awq", "awq", "bf16"]
    blocks = [runs.block(arm, number=1 + i // 2, started=25.0 * i) for i, arm in enumerate(arms)]
    alone = runs.block("bf16", runs.BATCH, started=200.0)
    random.Random(2).shuffle(blocks)
    order = summary([alone, *blocks], "bf16", "awq").order
    assert (order.cells, order.example) == (1, "A B B A")
    assert order.letters == {"A": "bf16", "B": "awq"}


def test_share_of_lane_time() -> None:
    def session(measured: float | None, held: float | None) -> Session:
        return Session(
            model="m", mode="sleep", events=(Event(t=1, event="woken"),) * 2, measured_s=measured, held_s=held
        )

    sessions = {"a": session(600, 640), "b": session(601, 640), "c": session(None, 5)}
    found = measurement.summarize([], {}, sessions, [])
    assert found.share.share == pytest.approx((600 + 601) / 1280)
    assert found.sessions["a"].events == {"woken": 2}
    none = measurement.summarize([], {}, {"c": sessions["c"]}, [])
    assert none.share == Share(measured_s=None, held_s=None, share=None)


def on_lane(start: float, duration: float, lane: str | None = "gpu0") -> BlockContext:
    return runs.block(started_unix=start, duration_s=duration, lane=LaneFacts(lane=lane))


def test_wall_time_counts_what_lies_between_the_leases() -> None:
    blocks = [on_lane(100, 20), on_lane(124, 20), on_lane(150, 20), on_lane(0, 5, "gpu1"), on_lane(7, 2, None)]
    first, second = measurement.wall_time(blocks)
    assert first == Wall(lane="gpu0", measured_s=60, wall_s=70, share=60 / 70, longest_pause_s=6, beside=0.0)
    assert second == Wall(lane="gpu1", measured_s=5, wall_s=5, share=1, longest_pause_s=None, beside=0.0)
    assert measurement.wall_time([]) == ()
    # a clock that was set makes no share
    [lane] = measurement.wall_time([on_lane(start, 20.0) for start in (100.0, 125.0, 110.0)])
    assert (lane.share, lane.longest_pause_s) == (None, None)


def test_of_two_lanes_it_is_said_how_much_was_measured_while_the_other_was_busy() -> None:
    blocks = [on_lane(0, 20), on_lane(20, 20), on_lane(10, 15, "gpu1"), on_lane(100, 5, "gpu1")]
    first, second = measurement.wall_time(blocks)
    assert (first.beside, second.beside) == (15 / 40, 15 / 20)
    third = measurement.wall_time([*blocks, on_lane(12, 100, "gpu2")])
    assert [lane.beside for lane in third] == [30 / 40, 1.0, pytest.approx((28 + 5) / 100)], "no moment counts twice"
    [alone] = measurement.wall_time(blocks[:2])
    assert alone.beside is None


def test_shares_and_switch_times_of_the_kept_gpu_run_are_the_quoted_ones() -> None:
    blocks, text = kept_blocks(), (KEPT / "README.md").read_text()
    leases = base.parse((KEPT / "measurement.json").read_bytes(), dict, "measurement.json")["share"]
    steps = base.parse((KEPT / "kills.json").read_bytes(), dict, "kills.json")["steps"]
    [wall] = measurement.wall_time(blocks)
    assert wall.share is not None
    for share in (wall.share, leases["share"]):
        assert f"{100 * share:.1f} %" in text
    woken = [b.lane.switch_s for b in blocks if b.lane.action == "woken" and b.lane.switch_s is not None]
    for times in (woken, [step["switch_s"] for step in steps if step["what"] == "switch"]):
        assert f"{min(times):.3f} to {max(times):.3f} s, median {median(times):.3f} s" in text
    lane = summary(blocks).lane
    assert (lane.switches, lane.switch_s_median) == (len(woken), median(woken))


def test_invalid_blocks_are_listed_with_their_reasons() -> None:
    failed = GuardResult(id="thermal_throttling", status="fail", detail="SwThermalSlowdown")
    sound = GuardResult(id="prefix_cache", status="ok", detail="0 hits")
    refused = runs.block("awq", number=2, valid=False, reasons=(failed.id,), guards=(failed, sound))
    found = summary([runs.block(guards=(sound,)), refused])
    assert (found.blocks.total, found.blocks.valid, found.blocks.cells) == (2, 1, 2)
    [entry] = found.blocks.invalid
    assert (entry.model, entry.cell, entry.block) == ("awq", runs.CHAT, 2)
    assert (entry.reasons, entry.details) == (("thermal_throttling",), ("SwThermalSlowdown",))
    assert found.guards[1] == GuardCount(id=failed.id, ok=0, fail=1, warn=0, unknown=0, details=("SwThermalSlowdown",))


def test_telemetry_that_one_block_misses_is_not_missing_in_all() -> None:
    blind = Telemetry(missing={"power_w_mean": "no NVML here"})
    seen = Telemetry(power_w_mean=61.0)
    some = summary([runs.block(telemetry=seen), runs.block(number=2, telemetry=blind)])
    assert (some.telemetry_missing, some.cells[0].power_w_mean) == ({}, 61.0)
    assert some.telemetry_gaps == {"power_w_mean": Gap(blocks=1, reason="no NVML here")}
    none = summary([runs.block(telemetry=blind), runs.block(number=2, telemetry=blind)])
    assert (none.telemetry_missing, none.telemetry_gaps) == ({"power_w_mean": "no NVML here"}, {})
    assert none.cells[0].power_w_mean is None


def test_a_cell_names_what_limited_most_of_its_blocks() -> None:
    engine = Bottleneck(part="engine", sentence="The engine limits.")
    client = Bottleneck(part="client", sentence="The client limits.")
    server = ServerFacts(
        delta=Delta(preemptions=2), peak=Peak(kv_usage=0.5), incidents=(Incident(id="jit", line="compiled"),)
    )
    blocks = [runs.block(number=i, bottleneck=part, server=server) for i, part in enumerate((client, engine, engine))]
    found = summary(blocks)
    [cell] = found.cells
    assert (cell.bottleneck, cell.bottleneck_blocks, cell.bottleneck_sentence) == ("engine", 2, "The engine limits.")
    assert (cell.blocks, cell.preemptions, cell.kv_usage_peak) == (3, 6, 0.5)
    assert (found.server.preemptions, found.server.client_tokens) == (6, 6000)
    assert found.server.incidents == {"jit": 3}


def test_what_no_file_tells_is_none_and_not_zero() -> None:
    found = summary([runs.block()])
    assert found.server.preemptions is None
    assert found.client.cpu_share_max is None
    worst = summary([runs.block(client=ClientFacts(cpu_share=share)) for share in (0.1, 0.4)])
    assert worst.client.cpu_share_max == 0.4
    nothing = summary([])
    assert (nothing.gpu, nothing.first_block_at, nothing.blocks.total) == (None, None, 0)


def test_the_age_of_the_calibration_is_that_of_the_oldest_at_the_last_block() -> None:
    blocks = [runs.block(started=t) for t in (100.0, 50.0)]

    def age(*times: float | None) -> float | None:
        entries = [Calibration(concurrency=1, measured_unix=t, ttft_error_p50_ms=0.1, limit_tok_s=1.0) for t in times]
        return measurement.summarize(blocks, {}, {}, entries).calibration_age_s

    last = runs.START + 100
    assert age(last - 50, last - 90) == 90
    assert age(last - 50, None) is None
    assert age() is None
