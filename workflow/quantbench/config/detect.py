"""Which profile of `config/gpus/` fits this machine's GPUs, as `gpu.available` lists them.

A profile's `match` is `{name: [substring, …], memory_gib: [min, max]}`: the GPU's name holds one of the substrings
(case is ignored) and its memory lies in the range. A profile without `match` is never chosen by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantbench.errors import QuantbenchError

CPU = "cpu"


@dataclass(frozen=True)
class Choice:
    """The chosen profile and, in one line, why."""

    profile: str
    reason: str


def choose_profile(gpus: Sequence[Mapping[str, Any]], profiles: Mapping[str, Mapping[str, Any]]) -> Choice:
    """The profile for the first GPU; `cpu` where there is none.

    Raises QuantbenchError for a GPU that no profile matches, or that several match equally well.
    """
    if not gpus:
        return Choice(CPU, "NVML shows no GPU")
    first = gpus[0]
    words = describe(first)
    fits = {name: rank for name, match in profiles.items() if (rank := _fit(first, match))}
    best = [name for name, rank in fits.items() if rank == max(fits.values())]
    if not best:
        raise QuantbenchError(f"no profile in config/gpus/ matches {words}", remedy=_how_to_write(first, profiles))
    if len(best) > 1:
        raise QuantbenchError(
            f"the profiles {', '.join(sorted(best))} match {words} equally well",
            remedy=f"name one: --config gpu={sorted(best)[0]}",
        )
    others = f", the first of {len(gpus)} GPUs" if len(gpus) > 1 else ""
    return Choice(best[0], f"NVML shows {words}{others}")


def _fit(device: Mapping[str, Any], match: Mapping[str, Any]) -> int:
    """0 where the profile does not fit, else the length of the longest substring that does: more exact is better."""
    name, total = str(device.get("name") or "").lower(), device.get("total_mib")
    hits = [len(part) for part in match.get("name", []) if part and str(part).lower() in name]
    low, high = (match.get("memory_gib") or [0, float("inf")])[:2]
    in_range = low <= total / 1024 <= high if total is not None else not match.get("memory_gib")
    return max(hits, default=0) if in_range else 0


def _how_to_write(device: Mapping[str, Any], profiles: Mapping[str, Mapping[str, Any]]) -> str:
    memory = float(device.get("total_mib") or 0) / 1024

    def distance(name: str) -> float:
        low, high = (profiles[name].get("memory_gib") or [0, 0])[:2]
        return abs((float(low) + float(high)) / 2 - memory)

    known = sorted((name for name in profiles if name != CPU and profiles[name]), key=distance)
    nearest = known[0] if known else CPU
    return (
        f"copy config/gpus/{nearest}.yaml (the nearest in memory) to a file for this GPU, set its "
        f"match: {{name: ['{device.get('name')}'], memory_gib: [{memory * 0.95:.0f}, {memory * 1.05:.0f}]}} "
        "and its memory settings; or name a profile (--config gpu=…); or compare models of your own, which need none"
    )


def name_of(device: Mapping[str, Any]) -> str:
    """A GPU's name as the name of a folder, e.g. `nvidia-geforce-rtx-4090`."""
    return re.sub(r"[^a-z0-9]+", "-", str(device.get("name") or "gpu").lower()).strip("-")[:60] or "gpu"


def describe(device: Mapping[str, Any]) -> str:
    """One GPU in words, e.g. `NVIDIA H100 80GB HBM3 (79.6 GiB, driver 580.1)`."""
    memory = f"{device['total_mib'] / 1024:.1f} GiB" if device.get("total_mib") else "memory unknown"
    return f"{device.get('name') or 'a GPU without a name'} ({memory}, driver {device.get('driver') or 'unknown'})"
