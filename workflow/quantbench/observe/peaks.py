"""What a server's devices can do at best: bandwidth of their memory, operations per second.

Of a GPU the bandwidth is NVML's bus width × highest memory clock × 2 (two transfers a clock, as NVML counts clocks:
6016 bits × 3201 MHz make 4 814 GB/s of an H200, whose data sheet says 4 800), else the data sheet's. Operations are
always the data sheet's (`observe.cards`). Of a CPU the bandwidth is that of a short copy with all CPUs; its peak of
arithmetic is not known, as none is measured in the precision of the engine's kernels.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from quantbench.observe import cards, given, gpu
from quantbench.records.server import Peaks

COPY_S: Final = 0.4
COPY_MIB, COPY_MIB_PER_CPU = 512, 8
"""Copied from and to, both together, and for each CPU at least: more than most have of caches."""
NO_CPU_PEAK: Final = "of a CPU not measured"


def of_devices(devices: Sequence[str]) -> Peaks:
    """The peaks of these devices together, as a spec names them; null with its reason in `missing`."""
    if "cpu" in devices:
        return Peaks(bandwidth_gbs=round(copied_gbs(), 1), bandwidth_source="copy", missing={"tflops": NO_CPU_PEAK})
    missing: dict[str, str] = {}
    with gpu.session() as nvml:
        if nvml is None:
            return Peaks(missing=dict.fromkeys(("bandwidth_gbs", "tflops"), "no NVML"))
        found = [_of_card(nvml, device, missing) for device in devices]
    known = [card for _, _, card in found if card is not None]
    tflops = cards.peaks(known) if len(known) == len(found) else Peaks()
    if not tflops.tflops:
        missing["tflops"] = "not in the table of cards"
    if found and all(bus and clock for bus, clock, _ in found):
        [(bus, clock, _), *_] = found
        total = sum(_gbs(bus or 0, clock or 0) for bus, clock, _ in found)
        return Peaks(
            bandwidth_gbs=round(total, 1), bandwidth_source="nvml", memory_bus_bits=bus, memory_clock_mhz=clock,
            tflops=tflops.tflops, missing=missing,
        )  # fmt: skip
    if tflops.bandwidth_gbs is None:
        missing.setdefault("bandwidth_gbs", missing.pop("memory", "NVML does not tell, and not in the table of cards"))
    return Peaks(
        bandwidth_gbs=tflops.bandwidth_gbs, bandwidth_source=tflops.bandwidth_source, tflops=tflops.tflops,
        missing=missing,
    )  # fmt: skip


def _of_card(nvml: Any, device: str, missing: dict[str, str]) -> tuple[int | None, int | None, cards.Card | None]:
    """Bus width in bits, highest memory clock in MHz, and the card by the table; None for what is not known."""
    handle = gpu.handle_of(nvml, given.real(device), missing)
    if handle is None:
        return None, None, None
    mode = gpu.ask({}, "mig", lambda: nvml.nvmlDeviceGetMigMode(handle))
    if mode and mode[0]:
        missing.setdefault("bandwidth_gbs", gpu.MIG)
        return None, None, None
    bus = gpu.ask(missing, "memory", lambda: nvml.nvmlDeviceGetMemoryBusWidth(handle))
    clock = gpu.ask(missing, "memory", lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM))
    name = gpu.ask({}, "name", lambda: nvml.nvmlDeviceGetName(handle))
    memory = gpu.ask({}, "total", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    text = name.decode(errors="replace") if isinstance(name, bytes) else name
    return bus, clock, cards.of_device(text, memory.total // gpu.MIB if memory else None)


def _gbs(bus_bits: float, clock_mhz: float) -> float:
    return bus_bits * clock_mhz * 2 / 8 / 1e3


def copied_gbs(seconds: float = COPY_S, mib: int = COPY_MIB) -> float:
    """Bytes read and written per second, in 10⁹, by one thread per CPU that copies blocks of its own."""
    cpus = len(os.sched_getaffinity(0))
    size = max(mib, COPY_MIB_PER_CPU * cpus) * 2**20 // 2 // cpus
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(cpus)]
    passes, together = [0] * cpus, threading.Barrier(cpus + 1)

    def copy(own: int) -> None:
        source, target = pairs[own]
        together.wait()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            np.copyto(target, source)  # numpy copies without holding the GIL
            passes[own] += 1

    threads = [threading.Thread(target=copy, args=(own,), daemon=True) for own in range(cpus)]
    for thread in threads:
        thread.start()
    together.wait()
    begun = time.monotonic()
    for thread in threads:
        thread.join()
    return 2 * size * sum(passes) / (time.monotonic() - begun) / 1e9
