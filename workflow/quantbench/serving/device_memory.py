"""Memory of the devices of a spec, which names them as text: NVML indices, UUIDs, or `cpu`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantbench.observe import gpu


def snapshot(devices: Sequence[str]) -> dict[str, Any] | None:
    """`gpu.snapshot` of these devices; None for the CPU, without NVML, or where it does not tell the memory."""
    if "cpu" in devices:
        return None
    found = [card["index"] for card in gpu.available(",".join(devices))]
    card = gpu.snapshot(found) if len(found) == len(devices) else None
    if card is None or None in (card["used_mib"], card["free_mib"], card["total_mib"]):
        return None
    return card


def used_mib(spec: Mapping[str, Any]) -> float | None:
    """Memory in use on the spec's devices in MiB; None as for `snapshot`."""
    card = snapshot(spec["devices"])
    return float(card["used_mib"]) if card else None


def users(card: Mapping[str, Any]) -> str:
    """The processes on a card in words: `python (pid 12, 900 MiB), …`."""
    named = []
    for process in card["processes"] or []:
        mib = "memory unknown" if process["mib"] is None else f"{process['mib']} MiB"
        named.append(f"{process['name']} (pid {process['pid']}, {mib})")
    return ", ".join(named) or "processes that NVML does not name"
