"""NVML: which GPUs there are, and how much of their memory is used by whom.

Nothing here raises for a missing driver, an unsupported field or an NVML that disappears between two calls: the answer
is an empty list or None, or the field is None with a reason under `missing`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pynvml

MIB = 1024**2
MIG = "MIG is on: memory and clocks of a MIG slice, and its processes, are not read; measure on a whole GPU"


def nvml_reason(error: BaseException) -> str:
    """NVML's own words for an error, e.g. `NVML: Not Supported`."""
    return f"NVML: {error}"


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
    """NVML's handle of a device: its index (in PCI order, as a number or its digits) or its UUID. None for others."""
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
        missing.setdefault(field, nvml_reason(error))
        return None


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def available(visible: str | None = None) -> list[dict[str, Any]]:
    """`[{index, name, total_mib, driver, uuid, compute_capability, mig, missing}]` of the GPUs that CUDA would see.

    `visible` stands for CUDA_VISIBLE_DEVICES (default: the environment's): indices, UUIDs or their beginnings, in
    CUDA's order; -1 or an unknown entry ends the list. Empty where there is no NVML.
    """
    with session() as nvml:
        if nvml is None:
            return []
        count = ask({}, "count", nvml.nvmlDeviceGetCount) or 0
        gpus = [gpu for i in range(count) if (gpu := _describe(nvml, i))]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    return gpus if wanted is None else _visible(gpus, wanted)


def _describe(nvml: Any, index: int) -> dict[str, Any] | None:
    missing: dict[str, str] = {}
    handle = ask(missing, "handle", nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return None
    memory = ask(missing, "total_mib", nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = ask(missing, "compute_capability", nvml.nvmlDeviceGetCudaComputeCapability, handle)
    mig = ask({}, "mig", nvml.nvmlDeviceGetMigMode, handle)
    if mig and mig[0]:
        missing["mig"] = MIG
    return {
        "index": index,
        "name": _text(ask(missing, "name", nvml.nvmlDeviceGetName, handle)),
        "total_mib": memory.total // MIB if memory else None,
        "driver": _text(ask(missing, "driver", nvml.nvmlSystemGetDriverVersion)),
        "uuid": _text(ask(missing, "uuid", nvml.nvmlDeviceGetUUID, handle)),
        "compute_capability": ".".join(map(str, capability)) if capability else None,
        "mig": bool(mig and mig[0]),
        "missing": missing,
    }


def _visible(gpus: list[dict[str, Any]], wanted: str) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = []
    for entry in (e.strip() for e in wanted.split(",")):
        if entry.isdecimal():
            match = [g for g in gpus if g["index"] == int(entry)]
        else:
            match = [g for g in gpus if entry.startswith("GPU-") and str(g["uuid"]).startswith(entry)]
        if len(match) != 1 or match[0] in chosen:
            break  # as CUDA does: an invalid entry hides itself and all after it
        chosen.append(match[0])
    return chosen


def snapshot(devices: Iterable[int | str]) -> dict[str, Any] | None:
    """Memory and processes of the devices (as of `handle_of`) now, summed over them; None without NVML.

    `{name, driver, used_mib, free_mib, total_mib, processes: [{pid, name, mib}], missing}`. A field that NVML does not
    give for each of the devices is None (processes: []), with the reason in `missing`.
    """
    wanted = list(devices)
    with session() as nvml:
        if nvml is None:
            return None
        missing: dict[str, str] = {}
        handles = [handle_of(nvml, device, missing) for device in wanted]
        known = [h for h in handles if h is not None]
        if not known or len(known) < len(handles):
            return None
        memory = [ask(missing, "memory", nvml.nvmlDeviceGetMemoryInfo, h) for h in known]
        names = [_text(ask(missing, "name", nvml.nvmlDeviceGetName, h)) for h in known]
        return {
            "name": next((n for n in names if n), None),
            "driver": _text(ask(missing, "driver", nvml.nvmlSystemGetDriverVersion)),
            "used_mib": _sum_mib(memory, "used"),
            "free_mib": _sum_mib(memory, "free"),
            "total_mib": _sum_mib(memory, "total"),
            "processes": processes(nvml, known, missing) or [],
            "missing": missing,
        }


def _sum_mib(memory: Sequence[Any], what: str) -> int | None:
    return None if None in memory else int(sum(getattr(m, what) for m in memory)) // MIB


def processes(nvml: Any, handles: Sequence[Any], missing: dict[str, str]) -> list[dict[str, Any]] | None:
    """Compute processes on the devices: `[{pid, name, mib}]`, mib None where the driver does not tell; None if unknown.

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
    return [{"pid": pid, "name": _process_name(pid), "mib": mib} for pid, mib in sorted(used.items())]


def _process_name(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
