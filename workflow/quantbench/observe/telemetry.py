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

from quantbench.observe import gpu

FIELDS = (
    "power_w_mean", "energy_j", "energy_from_power_j", "sm_clock_mhz_mean", "sm_clock_mhz_min", "mem_clock_mhz_mean",
    "temperature_c_max", "utilisation_pct_mean", "memory_used_mib_max", "throttle_reasons", "foreign_processes",
)  # fmt: skip
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
    processes: list[dict[str, Any]] | None


class Sampler:
    """Samples the devices between `start` and `stop`; `result` is the contract's `telemetry`.

    `devices`: as of `gpu.handle_of`; `own_pids`: our server's processes, all others on the card are foreign.
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
            handles = [gpu.handle_of(self._nvml, d, self._missing) for d in devices]
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

    def result(self) -> dict[str, Any]:
        """The contract's `telemetry`: its fields, `samples`, and `missing` with a reason for each that is None."""
        if not self._readings:
            why = self._missing.get("device") or NO_NVML
            nothing = dict.fromkeys(FIELDS)
            return {**nothing, "samples": 0, "missing": dict.fromkeys(FIELDS, why)}
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


def summarise(readings: Sequence[Reading], own: frozenset[int], reasons: dict[str, str]) -> dict[str, Any]:
    """Readings → the contract's `telemetry`.

    Sums power, energy and memory over the devices; means over time are trapezoids; clocks and utilisation are means
    over the devices, sm_clock_mhz_min the lowest reading of any.
    """
    missing: dict[str, str] = {}
    seconds = readings[-1].t - readings[0].t

    def column(name: str) -> list[list[float]] | None:
        values = [getattr(r, name) for r in readings]
        return None if None in values else values

    def put(field: str, value: Any, reading: str | None = None) -> Any:
        if value is None:
            missing[field] = reasons.get(reading or field) or "needs two readings"
        return value

    energy, power, sm = column("energy_j"), column("power_w"), column("sm_mhz")
    mem, memory = column("mem_mhz"), column("memory_mib")
    temperature, busy, bits = column("temperature_c"), column("utilisation_pct"), column("reasons")
    times = [r.t for r in readings]
    joules = _integral(times, [sum(p) for p in power]) if power else None
    values: dict[str, Any] = {
        "power_w_mean": put(
            "power_w_mean", _round(joules / seconds, 2) if joules is not None and seconds > 0 else None
        ),
        "energy_j": put("energy_j", _counted(energy)),
        "energy_from_power_j": put("energy_from_power_j", _round(joules, 2), "power_w_mean"),
        "sm_clock_mhz_mean": put("sm_clock_mhz_mean", _mean(times, sm)),
        "sm_clock_mhz_min": put("sm_clock_mhz_min", min(map(min, sm)) if sm else None, "sm_clock_mhz_mean"),
        "mem_clock_mhz_mean": put("mem_clock_mhz_mean", _mean(times, mem)),
        "temperature_c_max": put("temperature_c_max", max(map(max, temperature)) if temperature else None),
        "utilisation_pct_mean": put("utilisation_pct_mean", _mean(times, busy)),
        "memory_used_mib_max": put("memory_used_mib_max", round(max(map(sum, memory))) if memory else None),
        "throttle_reasons": put("throttle_reasons", _names(bits)),
        "foreign_processes": _foreign(readings, own, reasons, missing),
    }
    return {**values, "samples": len(readings), "missing": missing}


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


def _names(bits: Sequence[Sequence[float]] | None) -> list[str] | None:
    if bits is None:
        return None
    seen = 0
    for row in bits:
        for value in row:
            seen |= int(value)
    return [name for bit, name in THROTTLE.items() if seen & bit]


def _foreign(
    readings: Sequence[Reading], own: frozenset[int], reasons: dict[str, str], missing: dict[str, str]
) -> list[dict[str, Any]] | None:
    """Processes seen on the devices that are not ours; None where that is unknown."""
    if any(r.processes is None for r in readings):
        missing["foreign_processes"] = reasons.get("processes", "NVML did not list processes")
        return None
    seen = {p["pid"]: p for r in readings for p in r.processes or []}
    if not own:
        missing["foreign_processes"] = "the server's own processes are not known"
        return None
    if own.isdisjoint(seen):  # a list that lacks what is surely there says nothing about what may be there
        missing["foreign_processes"] = (
            f"NVML lists {len(seen)} processes, none of them the server's own (usual in a container)"
        )
        return None
    return [p for pid, p in sorted(seen.items()) if pid not in own]
