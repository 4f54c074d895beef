"""peaks: bandwidth by NVML, by the table of cards, by a copy; what is not known has its reason."""

from __future__ import annotations

from typing import Any

import pytest
from fake_nvml import FakeGpu, FakeNvml, NotSupported
from quantbench.observe import cards, gpu, peaks

H100 = FakeGpu()
L40S = FakeGpu(name=b"NVIDIA L40S", uuid="GPU-2", total_mib=46068, bus_bits=384, max_mem_mhz=9001)
UNKNOWN = FakeGpu(name="NVIDIA X", total_mib=1000)


def nvml(monkeypatch: pytest.MonkeyPatch, *gpus: FakeGpu, **changes: Any) -> FakeNvml:
    fake = FakeNvml(list(gpus), **changes)
    monkeypatch.setattr(gpu, "pynvml", fake)
    return fake


@pytest.mark.parametrize(("card", "gbs", "sheet"), [(H100, 3352.3, "h100-80gb"), (L40S, 864.1, "l40s-48gb")])
def test_bus_width_times_clock_is_the_data_sheets_bandwidth(
    monkeypatch: pytest.MonkeyPatch, card: FakeGpu, gbs: float, sheet: str
) -> None:
    fake = nvml(monkeypatch, card)
    found = peaks.of_devices(("0",))
    known = next(entry for entry in cards.CARDS if entry.key == sheet)
    assert (found.bandwidth_gbs, found.bandwidth_source) == (gbs, "nvml")
    assert found.bandwidth_gbs == pytest.approx(known.bandwidth_gbs, rel=0.01)
    assert (found.memory_bus_bits, found.memory_clock_mhz) == (card.bus_bits, card.max_mem_mhz)
    assert (found.tflops, found.missing) == (known.tflops, {})
    assert fake.users == 0


def test_several_devices_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, H100, FakeGpu(uuid="GPU-2"))
    found = peaks.of_devices(("0", "GPU-2"))
    assert (found.bandwidth_gbs, found.tflops["fp8"]) == (6704.6, 2 * 1979)


@pytest.mark.fault(
    "NVML does not tell bus width or clocks of the memory",
    "the data sheet's bandwidth, if the card is known; else a reason",
)
@pytest.mark.parametrize("lacking", [{"bus_bits": NotSupported}, {"max_mem_mhz": NotSupported}])
def test_where_nvml_does_not_tell_the_data_sheet_does(monkeypatch: pytest.MonkeyPatch, lacking: dict[str, Any]) -> None:
    nvml(monkeypatch, FakeGpu(**lacking))
    assert (peaks.of_devices(("0",)).bandwidth_gbs, peaks.of_devices(("0",)).bandwidth_source) == (3350, "card")
    nvml(monkeypatch, FakeGpu(name="NVIDIA X", **lacking))
    found = peaks.of_devices(("0",))
    assert (found.bandwidth_gbs, found.bandwidth_source) == (None, None)
    assert found.missing["bandwidth_gbs"] == "NVML: Not Supported"
    assert "table of cards" in found.missing["tflops"]


def test_an_old_library_without_the_function_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = nvml(monkeypatch, H100)

    def lacks(*_: Any) -> Any:
        raise AttributeError("no such function")

    monkeypatch.setattr(fake, "nvmlDeviceGetMemoryBusWidth", lacks, raising=False)
    assert peaks.of_devices(("0",)).bandwidth_source == "card"


def test_a_card_that_is_not_in_the_table_has_its_bandwidth_only(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, UNKNOWN)
    found = peaks.of_devices(("0",))
    assert (found.bandwidth_gbs, found.tflops) == (3352.3, {})
    assert set(found.missing) == {"tflops"}


def test_without_a_whole_gpu_nothing_is_known_and_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, FakeGpu(mig=(1, 1)))
    assert peaks.of_devices(("0",)).missing["bandwidth_gbs"] == gpu.MIG
    assert peaks.of_devices(("7",)).bandwidth_gbs is None
    assert peaks.of_devices(()).bandwidth_gbs is None
    nvml(monkeypatch, present=False)
    found = peaks.of_devices(("0",))
    assert (found.bandwidth_gbs, found.missing["bandwidth_gbs"]) == (None, "no NVML")


def test_a_cpu_copies_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = peaks.copied_gbs(seconds=0.05, mib=32)
    assert 0.1 < found < 5000
    monkeypatch.setattr(peaks, "copied_gbs", lambda: 12.345)
    record = peaks.of_devices(("cpu",))
    assert (record.bandwidth_gbs, record.bandwidth_source, record.tflops) == (12.3, "copy", {})
    assert record.missing == {"tflops": peaks.NO_CPU_PEAK}
