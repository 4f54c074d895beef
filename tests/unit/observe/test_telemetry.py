"""telemetry: sums, means and reasons over a block, and blanks with reasons where NVML does not tell."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from fake_nvml import FakeGpu, FakeNvml, NotSupported
from hypothesis import given
from hypothesis import strategies as st
from quantbench.observe import gpu, telemetry
from quantbench.observe.telemetry import FIELDS, Sampler
from quantbench.records.block import Telemetry
from quantbench.serving import processes


def run(
    monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, devices: list[str], seconds: int = 20, **kw: object
) -> Telemetry:
    """Sample by hand, once per fake second, without the thread."""
    monkeypatch.setattr(gpu, "pynvml", nvml)
    sampler = Sampler(devices, clock=nvml.clock, **kw)
    for second in range(seconds + 1):
        nvml.now = float(second)
        sampler.sample()
    sampler.stop()
    return sampler.result()


def test_a_block_on_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeGpu(
        power_mw=lambda t: 200_000 + 10_000 * t,  # mean 300 W over 20 s
        energy_mj=lambda t: 7_000_000 + 200_000 * t + 5_000 * t * t,  # its integral: 6 000 J
        sm_mhz=lambda t: 1980 if t < 10 else 1500,
        temperature_c=lambda t: 40 + t,
        used_mib=lambda t: 60_000 + t,
        reasons=lambda t: 0x1 | (0x4 if t == 3 else 0) | (0x40 if t == 5 else 0),
        processes=[(os.getpid(), 59_000)],
    )
    nvml = FakeNvml([card])
    got = run(monkeypatch, nvml, ["0"], own_pids=[os.getpid()])
    assert got.power_w_mean == 300.0
    assert got.energy_j == 6000.0
    assert got.energy_from_power_j == 6000.0
    assert got.sm_clock_mhz_min == 1500
    assert 1500 < got.sm_clock_mhz_mean < 1980
    assert (got.mem_clock_mhz_mean, got.temperature_c_max, got.utilisation_pct_mean) == (2619.0, 60, 90.0)
    assert got.memory_used_mib_max == 60_020
    assert got.throttle_reasons == ("sw_power_cap", "hw_thermal_slowdown")
    assert got.foreign_processes == ()
    assert (got.samples, got.missing) == (21, {})
    assert nvml.users == 0


TWO = [
    FakeGpu(energy_mj=lambda t: 300_000 * t),
    FakeGpu(uuid="GPU-2", energy_mj=lambda t: 9_000 + 100_000 * t, power_mw=100_000, sm_mhz=1000),
]
UNKNOWN = FakeGpu(energy_mj=NotSupported, reasons=NotSupported, sm_mhz=NotSupported)
NOT_SUPPORTED = ("energy_j", "throttle_reasons", "sm_clock_mhz_mean", "sm_clock_mhz_min")
# name: the cards, their fields, and the reasons of fields that are None
CARDS: dict[str, tuple[list[FakeGpu], dict[str, Any], dict[str, str]]] = {
    "two cards are summed": (
        TWO,
        {"power_w_mean": 400.0, "energy_j": 8000.0, "energy_from_power_j": 8000.0, "sm_clock_mhz_mean": 1490.0,
         "sm_clock_mhz_min": 1000},
        {},
    ),
    "counter and power are told apart": (
        [FakeGpu(power_mw=200_000, energy_mj=lambda t: 300_000 * t)],
        {"energy_j": 6000.0, "energy_from_power_j": 4000.0},
        {},
    ),
    "no instant power, an old driver": (
        [FakeGpu(instant=False, old_driver=True, reasons=0x20)],
        {"power_w_mean": 300.0, "throttle_reasons": ("sw_thermal_slowdown",)},
        {},
    ),
    "fields that are not supported": (
        [UNKNOWN], {"power_w_mean": 300.0}, dict.fromkeys(NOT_SUPPORTED, "NVML: Not Supported")
    ),
    "a counter that went down": (
        [FakeGpu(energy_mj=lambda t: 9_000_000 if t < 9 else 0)], {"power_w_mean": 300.0}, {"energy_j": "needs two"}
    ),
    "a MIG slice": ([FakeGpu(mig=(1, 1))], {"samples": 0}, dict.fromkeys(FIELDS, "MIG is on")),
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_what_cards_tell(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cards, fields, missing = CARDS[name]
    got = run(monkeypatch, FakeNvml(cards), ["0", "GPU-2"][: len(cards)])
    assert {field: getattr(got, field) for field in fields} == fields
    for field, reason in missing.items():
        assert getattr(got, field) is None
        assert reason in got.missing[field]


@pytest.mark.parametrize("devices", [["cpu"], ["0"], []])
def test_no_nvml_leaves_every_field_blank_with_the_reason(monkeypatch: pytest.MonkeyPatch, devices: list[str]) -> None:
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([], present=False))
    sampler = Sampler(devices)
    sampler.start()
    sampler.stop()
    got = sampler.result()
    assert {getattr(got, field) for field in FIELDS} == {None}
    assert got.missing == dict.fromkeys(FIELDS, "no NVML")
    assert got.samples == 0


def test_nvml_that_disappears_within_a_block_gives_no_half_means(monkeypatch: pytest.MonkeyPatch) -> None:
    got = run(monkeypatch, FakeNvml([FakeGpu()], lost_at=11.0), ["0"])
    assert {getattr(got, field) for field in FIELDS} == {None}
    assert set(got.missing.values()) == {"NVML: GPU is lost"}


def test_foreign_processes_are_those_that_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeGpu(processes=lambda t: [(os.getpid(), 100)] + ([(1, 5_000)] if t == 7 else []))
    got = run(monkeypatch, FakeNvml([card]), ["0"], own_pids=[os.getpid()])
    assert [(p.pid, p.mib) for p in got.foreign_processes] == [(1, 5_000)]


@pytest.mark.parametrize(
    ("own", "listed", "why"),
    [
        ([], [(2**22 + 5, 100)], "not known"),
        ([], [], "not known"),
        ([os.getpid()], [(2**22 + 5, 100)], "lists 1 processes, none"),
        ([os.getpid()], [(1, 100)], "lists 1 processes, none"),  # the host's number may be that of a process here
        ([os.getpid()], [], "lists 0 processes, none"),
    ],
)
def test_a_list_without_our_own_processes_tells_nothing_of_others(
    monkeypatch: pytest.MonkeyPatch, own: list[int], listed: list[tuple[int, int]], why: str
) -> None:
    got = run(monkeypatch, FakeNvml([FakeGpu(processes=listed)]), ["0"], own_pids=own)
    assert got.foreign_processes is None
    assert why in got.missing["foreign_processes"]


def test_one_reading_is_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    got = run(monkeypatch, FakeNvml([FakeGpu()]), ["0"], seconds=0)
    assert got.power_w_mean is None
    assert got.missing["power_w_mean"] == "needs two readings"
    assert got.temperature_c_max == 50


def test_the_thread_samples_until_it_is_stopped_and_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([FakeGpu()]))
    sampler = Sampler(["0"], period_s=0.05)
    before = time.process_time()
    sampler.start()
    assert processes.until(lambda: sampler.result().samples >= 12, 60)
    sampler.stop()
    sampler.stop()
    cpu_s, samples = time.process_time() - before, sampler.result().samples
    assert cpu_s / samples < 0.025  # this test's own waiting included; far from a busy loop
    time.sleep(0.2)
    assert sampler.result().samples == samples


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 700)), min_size=1, max_size=40), st.floats(0, 700))
def test_the_mean_power_lies_between_the_extremes(steps: list[tuple[float, float]], first: float) -> None:
    t, readings = 0.0, [_reading(0.0, first)]
    for gap, watt in steps:
        t += gap
        readings.append(_reading(t, watt))
    got = telemetry.summarise(readings, frozenset(), {})
    watts = [first, *(w for _, w in steps)]
    assert min(watts) - 0.01 <= got.power_w_mean <= max(watts) + 0.01
    assert got.energy_from_power_j == pytest.approx(got.power_w_mean * t, rel=1e-3, abs=0.1 + 0.01 * t)


def _reading(t: float, watt: float) -> telemetry.Reading:
    return telemetry.Reading(t, [watt], [t], [1.0], [1.0], [1.0], [1.0], [1.0], [0], ())
