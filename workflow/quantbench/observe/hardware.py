"""What a server runs on, as the machine names it and not as the configuration does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantbench.observe import gpu


def identity(devices: Sequence[str]) -> dict[str, Any]:
    """`{names, uuids, driver}` of the devices of a spec: NVML indices, UUIDs, or `cpu`.

    names holds one name per device (`NVIDIA H100 80GB HBM3`; of the CPU its model and how many of them Linux shows),
    sorted; empty where NVML does not tell.
    """
    if "cpu" in devices:
        return {"names": _cpu(), "uuids": [], "driver": None}
    cards = gpu.available(",".join(devices))
    return {
        "names": sorted(str(card["name"]) for card in cards if card["name"]),
        "uuids": sorted(str(card["uuid"]) for card in cards if card["uuid"]),
        "driver": next((card["driver"] for card in cards), None),
    }


def _cpu() -> list[str]:
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        names = []
    return [f"{names[0].strip()} x {len(names)}"] if names else []
