"""Does a device get its memory back when a server goes to sleep or ends? An answer that NVML cannot give is None."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from quantbench.serving import device_memory, processes

Spec = Mapping[str, Any]
FREED_S, SLACK_MIB = 5.0, 256.0
UNTOLD = "NVML does not tell the device's memory"


def freed_mib(spec: Spec, used: float, least: float) -> float | None:
    """MiB that are free again, of `used`; waits up to FREED_S for `least`. None where NVML stops telling."""
    end = time.monotonic() + FREED_S
    while (now := device_memory.used_mib(spec)) is not None and used - now < least and time.monotonic() < end:
        time.sleep(0.02)
    return None if now is None else used - now


def held_mib(spec: Spec, members: Sequence[int]) -> float | None:
    """What the spec's devices hold now; on the CPU the resident memory of the server's processes."""
    return processes.rss_mib(members) if spec["platform"] == "cpu" else device_memory.used_mib(spec)


def after_stop(state: Mapping[str, Any], held: float | None, left: Sequence[int], others: Sequence[str]) -> Any:
    """What the stop's event says of memory.

    `held`: as of `held_mib` before the stop; `left`: processes that are still there; `others`: models whose servers
    are on the same devices. `memory_returned` is True where the device is back within SLACK_MIB of what was used before
    the start, or, beside others, where half of what this server held came free; False where it is not; None, with
    `memory_reason`, where nothing can be said.
    """
    spec, before = state["spec"], state["before_mib"]
    if spec["platform"] == "cpu":
        return _event(0.0, held, processes.rss_mib(left), not left)
    unsaid = False if left else None
    if before is None or held is None:
        return _event(before, held, None, unsaid, UNTOLD)
    own = _own_mib(state)
    if others and own is None:
        return _event(before, held, None, unsaid, "it is not known what this server held itself")
    least = own / 2 if others and own is not None else held - before - SLACK_MIB
    freed = freed_mib(spec, held, least)
    if freed is None:
        return _event(before, held, None, unsaid, UNTOLD) | {"others_resident": list(others)}
    return _event(before, held, held - freed, freed >= least and not left) | {"others_resident": list(others)}


def _own_mib(state: Mapping[str, Any]) -> float | None:
    """What the server took at its start, less what it gave back when it went to sleep."""
    took = ((state.get("ready") or {}).get("vram") or {}).get("delta_mib")
    if not took:
        return None
    return float(took) - (float(state.get("freed_mib") or 0.0) if state["asleep"] else 0.0)


def _event(
    before: float | None, held: float | None, after: float | None, returned: bool | None, reason: str = ""
) -> dict[str, Any]:
    event = {
        "memory_before_mib": before,
        "memory_held_mib": held,
        "memory_after_stop_mib": after,
        "memory_returned": returned,
    }
    return event | ({"memory_reason": reason} if reason else {})
