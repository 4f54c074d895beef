"""gpu: what NVML tells about the cards, and what is said where it does not."""

from __future__ import annotations

import os

import pytest
from fake_nvml import FakeGpu, FakeNvml, NotSupported
from quantbench.observe import gpu
from quantbench.records.block import ForeignProcess

OTHER = "GPU-99999999-8888-7777-6666-555555555555"


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml([FakeGpu(used_mib=1000), FakeGpu(name=b"NVIDIA L4", uuid=OTHER, total_mib=23034, used_mib=500)])
    monkeypatch.setattr(gpu, "pynvml", nvml)
    return nvml


def test_available_lists_every_gpu_with_its_facts(two: FakeNvml) -> None:
    first, second = gpu.available()
    assert first == {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "total_mib": 81559,
        "driver": "580.95.05",
        "uuid": "GPU-11111111-2222-3333-4444-555555555555",
    }
    assert (second["name"], second["total_mib"]) == ("NVIDIA L4", 23034)
    assert two.users == 0


@pytest.mark.parametrize(
    ("visible", "indices"),
    [("1,0", [1, 0]), ("1", [1]), (OTHER, [1]), (OTHER[:12], [1]), ("0,-1,1", [0]), ("0,0", [0]), ("", []), ("7", [])],
)
def test_cuda_visible_devices_is_respected_in_its_order(
    two: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str, indices: list[int]
) -> None:
    assert [g["index"] for g in gpu.available(visible)] == indices
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [g["index"] for g in gpu.available()] == indices


def test_no_nvml_is_no_gpu_and_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([FakeGpu()], present=False))
    assert gpu.available() == []
    assert gpu.snapshot([0]) is None


def test_the_real_library_without_a_driver_gives_nothing_or_gpus() -> None:
    assert isinstance(gpu.available(), list)


def test_unsupported_fields_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeGpu(name=NotSupported, processes=NotSupported)
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([card]))
    assert gpu.available("0")[0]["name"] is None
    use = gpu.snapshot([0])
    assert use is not None
    assert (use.used_mib, use.processes) == (520, ())
    card.used_mib = NotSupported
    assert gpu.available("0")[0]["total_mib"] is None
    assert gpu.snapshot([0]) is None, "without its memory it says nothing"


def test_snapshot_sums_devices_and_lists_processes_once(two: FakeNvml) -> None:
    pid = os.getpid()
    two.gpus[0].processes = [(pid, 700), (2**22 + 1, None)]
    two.gpus[1].processes = [(pid, 300)]
    use = gpu.snapshot(["0", OTHER])
    assert use is not None
    assert (use.driver, use.used_mib, use.total_mib) == ("580.95.05", 1500, 81559 + 23034)
    assert use.free_mib == use.total_mib - 1500
    mine, hidden = use.processes
    assert (mine.pid, mine.mib) == (pid, 1000)
    assert mine.name
    assert hidden == ForeignProcess(pid=2**22 + 1)


@pytest.mark.parametrize("devices", [["cpu"], [5], ["GPU-none"], []])
def test_snapshot_of_what_is_no_gpu_is_none(two: FakeNvml, devices: list[int | str]) -> None:
    assert gpu.snapshot(devices) is None
    assert two.users == 0


def test_nvml_that_disappears_between_two_calls_is_none(two: FakeNvml) -> None:
    assert gpu.snapshot([0]) is not None
    two.now, two.lost_at = 5.0, 5.0
    assert gpu.snapshot([0]) is None
    assert gpu.available() == []


def test_nvml_lost_within_a_snapshot(two: FakeNvml) -> None:
    two.gpus[0].used_mib = lambda t: setattr(two, "lost_at", 0.0) or 100
    use = gpu.snapshot([0])
    assert use is not None
    assert (use.used_mib, use.driver, use.processes) == (100, None, ())
