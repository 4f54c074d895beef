"""A stand-in for `pynvml`: GPUs whose figures are scripted over time, unsupported fields, an NVML that disappears.

Put it in place with `monkeypatch.setattr(gpu, "pynvml", FakeNvml([...]))`. Values of a `FakeGpu` are constants or
functions of the fake clock's time in seconds; a value that is `NotSupported` (or returns it) raises as NVML does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

MIB = 1024**2
Scripted = Any | Callable[[float], Any]


class NVMLError(Exception):
    """As pynvml's: the base of all its errors."""


class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801, N818 (pynvml's name)
    """An old driver that lacks the function."""

    def __init__(self) -> None:
        super().__init__("Function Not Found")


class NotSupported(NVMLError):  # noqa: N818
    """The device does not know the field."""

    def __init__(self) -> None:
        super().__init__("Not Supported")


class Gone(NVMLError):  # noqa: N818
    """The driver disappeared."""

    def __init__(self) -> None:
        super().__init__("GPU is lost")


@dataclass
class FakeGpu:
    """One GPU. Units as in NVML: MiB here for memory, mW for power, mJ for energy, MHz, °C, %."""

    name: Scripted = "NVIDIA H100 80GB HBM3"
    uuid: str = "GPU-11111111-2222-3333-4444-555555555555"
    total_mib: int = 81559
    used_mib: Scripted = 520
    power_mw: Scripted = 300_000
    instant: bool = True
    energy_mj: Scripted = 0
    sm_mhz: Scripted = 1980
    mem_mhz: Scripted = 2619
    max_mem_mhz: Scripted = 2619
    bus_bits: Scripted = 5120
    temperature_c: Scripted = 50
    utilisation: Scripted = 90
    reasons: Scripted = 0
    old_driver: bool = False
    processes: Scripted = field(default_factory=list)  # [(pid, MiB or None)]
    mig: Scripted = NotSupported


FIELDS = {
    "nvmlDeviceGetName": "name", "nvmlDeviceGetUUID": "uuid", "nvmlDeviceGetMigMode": "mig",
    "nvmlDeviceGetPowerUsage": "power_mw", "nvmlDeviceGetTotalEnergyConsumption": "energy_mj",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "reasons", "nvmlDeviceGetTemperature": "temperature_c",
    "nvmlDeviceGetMemoryBusWidth": "bus_bits", "nvmlDeviceGetMaxClockInfo": "max_mem_mhz",
}  # fmt: skip


class FakeNvml:
    """The module. `now` is its clock; `present=False`: no driver; `lost_at`: from then on each call fails."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_FI_DEV_POWER_INSTANT, NVML_SUCCESS = 186, 0
    NVMLError = NVMLError
    NVMLError_FunctionNotFound = NVMLError_FunctionNotFound

    def __init__(self, gpus: list[FakeGpu], *, present: bool = True, lost_at: float = float("inf")) -> None:
        self.gpus, self.present, self.lost_at = gpus, present, lost_at
        self.now, self.users, self.driver = 0.0, 0, "580.95.05"

    def clock(self) -> float:
        return self.now

    def _value(self, scripted: Scripted) -> Any:
        if self.now >= self.lost_at:
            raise Gone
        value = scripted(self.now) if callable(scripted) and scripted is not NotSupported else scripted
        if value is NotSupported:
            raise NotSupported
        return value

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.present or self.now >= self.lost_at:
            raise NVMLError("Driver Not Loaded")
        self.users += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        if self.users <= 0:
            raise NVMLError("Uninitialized")
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return int(self._value(len(self.gpus)))

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        self._value(0)
        if index >= len(self.gpus):
            raise NVMLError("Invalid Argument")
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:  # noqa: N802
        for gpu in self.gpus:
            if gpu.uuid == uuid:
                return gpu
        raise NVMLError("Not Found")

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return str(self._value(self.driver))

    def __getattr__(self, name: str) -> Any:
        """The calls that give a field of the card as it is."""
        return lambda gpu, *_: self._value(getattr(gpu, FIELDS[name]))

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:  # noqa: N802
        used = self._value(gpu.used_mib)
        return SimpleNamespace(total=gpu.total_mib * MIB, used=used * MIB, free=(gpu.total_mib - used) * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> Any:  # noqa: N802
        rows = self._value(gpu.processes)
        return [SimpleNamespace(pid=p, usedGpuMemory=None if mib is None else mib * MIB) for p, mib in rows]

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, fields: list[int]) -> Any:  # noqa: N802
        value = SimpleNamespace(uiVal=int(self._value(gpu.power_mw)))
        return [SimpleNamespace(nvmlReturn=0 if gpu.instant else 3, value=value)]

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> Any:  # noqa: N802
        return self._value(gpu.sm_mhz if kind == self.NVML_CLOCK_SM else gpu.mem_mhz)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self._value(gpu.utilisation), memory=0)

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu) -> Any:  # noqa: N802
        if gpu.old_driver:
            raise NVMLError_FunctionNotFound
        return self._value(gpu.reasons)
