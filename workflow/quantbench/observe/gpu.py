"""NVML: which GPUs there are, and how much of their memory is used by whom.

Nothing here raises for a missing driver, an unsupported field or an NVML that disappears between two calls: the answer
is an empty list or None, or the field is None with a reason under `missing`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pynvml

from quantbench.records.block import ForeignProcess

MIB = 1024**2
MIG = "MIG is on: memory and clocks of a MIG slice, and its processes, are not read; measure on a whole GPU"


class Card(TypedDict):
    """A GPU; None where NVML does not tell."""

    index: int
    name: str | None
    total_mib: int | None
    driver: str | None
    uuid: str | None


class CardUse(NamedTuple):
    """Memory (MiB) and processes of some GPUs together."""

    driver: str | None
    used_mib: int
    free_mib: int
    total_mib: int
    processes: tuple[ForeignProcess, ...]


def connect() -> Any:
    """NVML, initialised, as a module; None where there is none. Each `connect` needs one `disconnect`."""
    try:
        pynvml.nvmlInit()  # type: ignore[no-untyped-call]
    except (pynvml.NVMLError, OSError):
        return None
    return pynvml


def disconnect() -> None:
    """Undo one successful `connect`."""
    with suppress(pynvml.NVMLError, OSError):
        pynvml.nvmlShutdown()  # type: ignore[no-untyped-call]


@contextmanager
def session() -> Iterator[Any]:
    """NVML as of `connect`, for the length of a block."""
    nvml = connect()
    try:
        yield nvml
    finally:
        if nvml is not None:
            disconnect()


def handle_of(nvml: Any, device: int | str, missing: dict[str, str]) -> Any:
    """NVML's handle of a device (as of `given.real`) by its index in PCI order, a number or its digits, or its UUID.

    None for others.
    """
    name = str(device)
    if name.isdecimal():
        return ask(missing, "device", nvml.nvmlDeviceGetHandleByIndex, int(name))
    if name.startswith(("GPU-", "MIG-")):
        return ask(missing, "device", nvml.nvmlDeviceGetHandleByUUID, name)
    missing.setdefault("device", f"'{name}' is no GPU")
    return None


def ask(missing: dict[str, str], field: str, call: Callable[..., Any], *args: Any) -> Any:
    """The value of one NVML call; None where NVML does not give it, with the reason in `missing[field]`."""
    try:
        return call(*args)
    except (pynvml.NVMLError, OSError, AttributeError, UnicodeDecodeError) as error:
        missing.setdefault(field, f"NVML: {error}")
        return None


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def available(visible: str | None = None) -> list[Card]:
    """The GPUs that CUDA would see.

    `visible` stands for CUDA_VISIBLE_DEVICES (default: the environment's): indices, UUIDs or their beginnings, in
    CUDA's order; -1 or an unknown entry ends the list. Empty where there is no NVML.
    """
    with session() as nvml:
        if nvml is None:
            return []
        shown = ask({}, "count", nvml.nvmlDeviceGetCount) or 0
        gpus = [gpu for i in range(shown) if (gpu := _describe(nvml, i))]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    return gpus if wanted is None else _visible(gpus, wanted)


def count() -> int | None:
    """How many GPUs NVML shows; None where there is no NVML."""
    with session() as nvml:
        return None if nvml is None else ask({}, "count", nvml.nvmlDeviceGetCount)


def uuid(device: str) -> str | None:
    """The UUID of a device (as of `handle_of`); None where NVML does not tell."""
    with session() as nvml:
        handle = None if nvml is None else handle_of(nvml, device, {})
        return None if handle is None else _text(ask({}, "uuid", nvml.nvmlDeviceGetUUID, handle))


def _describe(nvml: Any, index: int) -> Card | None:
    handle = ask({}, "handle", nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return None
    memory = ask({}, "memory", nvml.nvmlDeviceGetMemoryInfo, handle)
    return {
        "index": index,
        "name": _text(ask({}, "name", nvml.nvmlDeviceGetName, handle)),
        "total_mib": memory.total // MIB if memory else None,
        "driver": _driver(nvml),
        "uuid": _text(ask({}, "uuid", nvml.nvmlDeviceGetUUID, handle)),
    }


def _driver(nvml: Any) -> str | None:
    return _text(ask({}, "driver", nvml.nvmlSystemGetDriverVersion))


def _visible(gpus: list[Card], wanted: str) -> list[Card]:
    chosen: list[Card] = []
    for entry in (e.strip() for e in wanted.split(",")):
        if entry.isdecimal():
            match = [g for g in gpus if g["index"] == int(entry)]
        else:
            match = [g for g in gpus if entry.startswith("GPU-") and str(g["uuid"]).startswith(entry)]
        if len(match) != 1 or match[0] in chosen:
            break  # as CUDA does: an invalid entry hides itself and all after it
        chosen.append(match[0])
    return chosen


def snapshot(devices: Iterable[int | str]) -> CardUse | None:
    """Memory and processes of the devices (as of `handle_of`) now, summed over them.

    None without NVML, and where it does not tell the memory of each of them; no processes where it does not list them.
    """
    with session() as nvml:
        if nvml is None:
            return None
        handles = [handle_of(nvml, device, {}) for device in devices]
        memory = [ask({}, "memory", nvml.nvmlDeviceGetMemoryInfo, h) for h in handles if h is not None]
        if not memory or len(memory) < len(handles) or None in memory:
            return None
        used, free, total = (int(sum(getattr(m, what) for m in memory)) // MIB for what in ("used", "free", "total"))
        return CardUse(_driver(nvml), used, free, total, processes(nvml, handles, {}) or ())


def processes(nvml: Any, handles: Sequence[Any], missing: dict[str, str]) -> tuple[ForeignProcess, ...] | None:
    """Compute processes on the devices, mib None where the driver does not tell; None if unknown.

    In a container NVML may hide other processes, or give pids of the host.
    """
    used: dict[int, int | None] = {}
    for handle in handles:
        running = ask(missing, "processes", nvml.nvmlDeviceGetComputeRunningProcesses, handle)
        if running is None:
            return None
        for process in running:
            mib = None if process.usedGpuMemory is None else process.usedGpuMemory // MIB
            before = used.get(process.pid)
            used[process.pid] = mib if before is None else before + (mib or 0)
    return tuple(ForeignProcess(pid=pid, name=_process_name(pid), mib=mib) for pid, mib in sorted(used.items()))


def _process_name(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
