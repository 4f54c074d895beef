"""Memory of a server's devices and of the host: what is used, whether a server fits, and whether it gives it back.

A spec names its devices as text: NVML indices, UUIDs, or `cpu`. What NVML does not report is None.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from msgspec import structs

from quantbench.errors import QuantbenchError
from quantbench.observe import given, gpu
from quantbench.records.server import Event, ServerSpec
from quantbench.records.serving import State
from quantbench.serving import processes

HOST_RESERVE_MIB = 2048.0
"""Host memory left to everything else while weights are parked in it."""
FREED_S, SLACK_MIB = 5.0, 256.0
NOT_REPORTED = "NVML does not tell the device's memory"


# What is used


def snapshot(devices: Sequence[str]) -> gpu.CardUse | None:
    """`gpu.snapshot` of these devices; None for the CPU as well, and where CUDA would not see each of them."""
    if "cpu" in devices:
        return None
    indices = [card["index"] for card in gpu.available(",".join(map(given.real, devices)))]
    return gpu.snapshot(indices) if len(indices) == len(devices) else None


def used_mib(devices: Sequence[str]) -> float | None:
    """Memory in use on the devices in MiB; None as for `snapshot`."""
    card = snapshot(devices)
    return float(card.used_mib) if card else None


def held_mib(state: State, members: Sequence[int]) -> float | None:
    """What the server's devices hold now; on the CPU the resident memory of its processes."""
    return processes.rss_mib(members) if state.spec.platform == "cpu" else used_mib(state.devices)


def users(card: gpu.CardUse) -> str:
    """The processes on a card in words: `python (pid 12, 900 MiB), …`."""
    named = (f"{p.name} (pid {p.pid}, {'memory unknown' if p.mib is None else f'{p.mib} MiB'})" for p in card.processes)
    return ", ".join(named) or "processes that NVML does not name"


def host_available_mib() -> float:
    """Host memory that can still be taken, in MiB; a container's limit counts."""
    free = psutil.virtual_memory().available / 2**20
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (float((group / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, (limit - used + float(stat["inactive_file"])) / 2**20)
    except (OSError, ValueError, KeyError):  # no limit ("max"), or another version of cgroups
        return free


# Whether a server fits


@dataclass(frozen=True)
class Fit:
    """Whether something fits, and the arithmetic in words."""

    fits: bool
    arithmetic: str


def gpu_fit(free_mib: float, total_mib: float, utilization: float) -> Fit:
    """Does a server with this share fit beside what is on the GPU? It starts only if utilization × total is free."""
    need = utilization * total_mib
    words = f"{free_mib:.0f} MiB free on the GPU, {utilization} × {total_mib:.0f} = {need:.0f} MiB needed"
    return Fit(free_mib >= need, words)


def host_fit(available_mib: float, to_park_mib: float) -> Fit:
    """Does host memory hold these weights while their servers sleep (sleep level 1)?"""
    need = to_park_mib + HOST_RESERVE_MIB
    words = (
        f"{available_mib:.0f} MiB of host memory available, {to_park_mib:.0f} (weights) + {HOST_RESERVE_MIB:.0f} "
        f"(reserve) = {need:.0f} MiB needed"
    )
    return Fit(available_mib >= need, words)


def check_gpu_memory(spec: ServerSpec) -> list[str]:
    """Enough memory must be free on each of the server's GPUs; the error names who holds it.

    Returns the arithmetic per GPU; empty on the CPU and without NVML, where nothing can be checked.
    """
    sums = []
    for name in spec.devices:
        card, device = snapshot([name]), given.real(name)
        if card is None:
            return []
        fit = gpu_fit(card.free_mib, card.total_mib, spec.settings.gpu_memory_utilization)
        sums.append(f"GPU {device}: {fit.arithmetic}")
        if not fit.fits:
            raise QuantbenchError(
                f"server of {spec.model}: GPU {device} is not free: {fit.arithmetic}; used by {users(card)}",
                remedy="end those processes, or lower server.gpu_memory_utilization",
            )
    return sums


# Whether a server gives it back


def freed_mib(devices: Sequence[str], used: float, least: float) -> float | None:
    """MiB that are free again, of `used`; waits up to FREED_S for `least`. None where NVML stops reporting."""
    end = time.monotonic() + FREED_S
    while (now := used_mib(devices)) is not None and used - now < least and time.monotonic() < end:
        time.sleep(0.02)
    return None if now is None else used - now


def after_stop(stop: Event, state: State, held: float | None, left: Sequence[int], others: Sequence[str]) -> Event:
    """The stop's event with what it says of memory.

    `held`: as of `held_mib` before the stop; `left`: processes that are still there; `others`: models whose servers
    are on the same devices. `memory_returned` is True where the device is back within SLACK_MIB of what was used before
    the start, or, beside others, where half of what this server held came free; False where it is not, or processes are
    left; None, with `memory_reason`, where it is unknown.
    """
    before, after, freed, least, reason = state.before_mib, None, None, 0.0, None
    own = _own_mib(state)
    if state.spec.platform == "cpu":
        before, after, freed, others = 0.0, processes.rss_mib(left), 0.0, ()
    elif before is None or held is None:
        reason, others = NOT_REPORTED, ()
    elif others and own is None:
        reason, others = "it is not known what this server held itself", ()
    else:
        least = own / 2 if others and own is not None else held - before - SLACK_MIB
        freed = freed_mib(state.devices, held, least)
        after, reason = (None, NOT_REPORTED) if freed is None else (held - freed, None)
    returned = False if left else None if freed is None else freed >= least
    return structs.replace(
        stop,
        memory_before_mib=before,
        memory_held_mib=held,
        memory_after_stop_mib=after,
        memory_returned=returned,
        memory_reason=reason,
        others_resident=tuple(others),
    )


def _own_mib(state: State) -> float | None:
    """What the server took at its start, less what it gave back when it went to sleep; None where that is unknown."""
    if not state.ready or not state.ready.vram or not state.ready.vram.delta_mib:
        return None
    return state.ready.vram.delta_mib - ((state.freed_mib or 0.0) if state.asleep else 0.0)
