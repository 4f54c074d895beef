"""Power, energy, clocks, temperature, utilisation, memory and neighbours on the GPUs while a block runs.

One thread reads NVML every half second. What NVML does not give, for any device or at any reading, is None with the
reason: a mean over part of a block would be a wrong number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from quantbench.observe import given, gpu
from quantbench.records.block import ForeignProcess, Telemetry

FIELDS = tuple(name for name in Telemetry.__struct_fields__ if name not in ("samples", "missing"))
NO_NVML = "no NVML"
# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h). GpuIdle (1) and None are states, no throttling.
THROTTLE = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


@dataclass(frozen=True)
class Reading:
    """One look at all devices, at `t` (s, monotonic). A value per device; None where one of them gave none."""

    t: float
    power_w: list[float] | None
    energy_j: list[float] | None
    sm_mhz: list[float] | None
    mem_mhz: list[float] | None
    temperature_c: list[float] | None
    utilisation_pct: list[float] | None
    memory_mib: list[float] | None
    reasons: list[int] | None
    processes: tuple[ForeignProcess, ...] | None


class Sampler:
    """Samples the devices between `start` and `stop`.

    `devices`: as a spec names them; `own_pids`: our server's processes, all others on the card are foreign.
    `stop` may be called more than once. Costs well under 1 % of a core (measured: see tests/unit/test_telemetry.py).
    """

    def __init__(
        self,
        devices: Sequence[int | str],
        own_pids: Iterable[int] = (),
        *,
        period_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = frozenset(own_pids)
        self._period_s, self._clock = period_s, clock
        self._missing: dict[str, str] = {}
        self._readings: list[Reading] = []
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        # NVML is loaded here, so that `start` and `stop` are quick at the edges of a block.
        is_gpu = any(str(d).isdecimal() or str(d).startswith(("GPU-", "MIG-")) for d in devices)
        self._nvml = gpu.connect() if is_gpu else None
        self._handles: list[Any] = []
        if self._nvml is not None:
            handles = [gpu.handle_of(self._nvml, given.real(str(d)), self._missing) for d in devices]
            modes = [gpu.ask({}, "mig", self._nvml.nvmlDeviceGetMigMode, h) for h in handles if h is not None]
            if any(mode and mode[0] for mode in modes):
                self._missing["device"] = gpu.MIG
            self._handles = [] if "device" in self._missing else handles

    def start(self) -> None:
        """Take the first reading and go on in the background."""
        if not self._handles or self._thread is not None:
            return
        self.sample()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take the last reading and end. Without effect when not running."""
        if self._thread is not None:
            self._halt.set()
            self._thread.join()
            self._thread = None
            self.sample()
        if self._nvml is not None:
            self._nvml = None
            gpu.disconnect()

    def _run(self) -> None:
        while not self._halt.wait(self._period_s):
            self.sample()

    def sample(self) -> None:
        """Read all devices once."""
        nvml = self._nvml
        if nvml is None or not self._handles:
            return

        def each(field: str, call: Callable[[Any], Any]) -> list[Any] | None:
            values = [gpu.ask(self._missing, field, call, h) for h in self._handles]
            return None if None in values else values

        self._readings.append(
            Reading(
                t=self._clock(),
                energy_j=each("energy_j", lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1000),
                power_w=each("power_w_mean", lambda h: _power_w(nvml, h)),
                sm_mhz=each("sm_clock_mhz_mean", lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM)),
                mem_mhz=each("mem_clock_mhz_mean", lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_MEM)),
                temperature_c=each(
                    "temperature_c_max", lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU)
                ),
                utilisation_pct=each("utilisation_pct_mean", lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu),
                memory_mib=each("memory_used_mib_max", lambda h: nvml.nvmlDeviceGetMemoryInfo(h).used / gpu.MIB),
                reasons=each("throttle_reasons", lambda h: _reasons(nvml, h)),
                processes=gpu.processes(nvml, self._handles, self._missing),
            )
        )

    def result(self) -> Telemetry:
        """What the readings amount to."""
        if not self._readings:
            return Telemetry(missing=dict.fromkeys(FIELDS, self._missing.get("device") or NO_NVML))
        return summarise(self._readings, self._own, self._missing)


def _power_w(nvml: Any, handle: Any) -> float:
    """Power now, in W. The plain call averages over a second on newer cards, which blurs the ends of a block."""
    try:
        field = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])[0]
        if field.nvmlReturn == nvml.NVML_SUCCESS and field.value.uiVal:
            return float(field.value.uiVal) / 1000
    except (nvml.NVMLError, AttributeError):
        pass
    return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000


def _reasons(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except (nvml.NVMLError_FunctionNotFound, AttributeError):  # drivers before 535
        return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def summarise(readings: Sequence[Reading], own: frozenset[int], reasons: dict[str, str]) -> Telemetry:
    """What readings amount to.

    Sums power, energy and memory over the devices; means over time are trapezoids; clocks and utilisation are means
    over the devices, sm_clock_mhz_min the lowest reading of any.
    """
    times = [r.t for r in readings]
    seconds = times[-1] - times[0]

    def column(name: str) -> list[list[float]] | None:
        values = [getattr(r, name) for r in readings]
        return None if None in values else values

    power, sm = column("power_w"), column("sm_mhz")
    memory, temperature = column("memory_mib"), column("temperature_c")
    joules = _integral(times, [sum(p) for p in power]) if power else None
    foreign, unknown = _foreign(readings, own, reasons)
    values: dict[str, Any] = {
        "power_w_mean": _round(joules / seconds, 2) if joules is not None and seconds > 0 else None,
        "energy_j": _counted(column("energy_j")),
        "energy_from_power_j": _round(joules, 2),
        "sm_clock_mhz_mean": _mean(times, sm),
        "sm_clock_mhz_min": min(map(min, sm)) if sm else None,
        "mem_clock_mhz_mean": _mean(times, column("mem_mhz")),
        "temperature_c_max": max(map(max, temperature)) if temperature else None,
        "utilisation_pct_mean": _mean(times, column("utilisation_pct")),
        "memory_used_mib_max": round(max(map(sum, memory))) if memory else None,
        "throttle_reasons": _names(column("reasons")),
        "foreign_processes": foreign,
    }
    reasons = reasons | {"foreign_processes": unknown}
    missing = {
        name: reasons.get(_READ_WITH.get(name, name)) or "needs two readings"
        for name, value in values.items()
        if value is None
    }
    return Telemetry(**values, samples=len(readings), missing=missing)


_READ_WITH = {"energy_from_power_j": "power_w_mean", "sm_clock_mhz_min": "sm_clock_mhz_mean"}
"""Fields that come of the reading of another one."""


def _integral(times: Sequence[float], values: Sequence[float]) -> float | None:
    """The trapezoid of `values` over `times`; None for a single point."""
    pairs = list(pairwise(zip(times, values, strict=True)))
    return sum((t2 - t1) * (v1 + v2) / 2 for (t1, v1), (t2, v2) in pairs) if pairs else None


def _mean(times: Sequence[float], rows: list[list[float]] | None) -> float | None:
    seconds = times[-1] - times[0]
    if not rows or seconds <= 0:
        return None
    area = _integral(times, [sum(row) / len(row) for row in rows])
    return None if area is None else round(area / seconds, 1)


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _counted(energy: list[list[float]] | None) -> float | None:
    """The counters' rise in J; None where one went down (a driver reset) or there is one reading only."""
    if not energy or len(energy) < 2:
        return None
    rises = [last - first for first, last in zip(energy[0], energy[-1], strict=True)]
    return round(sum(rises), 3) if min(rises) >= 0 else None


def _names(bits: Sequence[Sequence[float]] | None) -> tuple[str, ...] | None:
    if bits is None:
        return None
    seen = {int(value) for row in bits for value in row}
    return tuple(name for bit, name in THROTTLE.items() if any(value & bit for value in seen))


def _foreign(
    readings: Sequence[Reading], own: frozenset[int], reasons: dict[str, str]
) -> tuple[tuple[ForeignProcess, ...] | None, str]:
    """Processes seen on the devices that are not ours; None, and why, where that is unknown."""
    if any(r.processes is None for r in readings):
        return None, reasons.get("processes", "NVML did not list processes")
    seen = {p.pid or 0: p for r in readings for p in r.processes or ()}
    if not own:
        return None, "the server's own processes are not known"
    if own.isdisjoint(seen):  # a list that lacks what is surely there says nothing about what may be there
        return None, f"NVML lists {len(seen)} processes, none of them the server's own (usual in a container)"
    return tuple(seen[pid] for pid in sorted(seen) if pid not in own), ""
