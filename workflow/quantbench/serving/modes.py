"""How a lane changes models, and whether sleeping servers fit: decisions and their arithmetic. Pure.

sleep     all servers stay, one holds the GPU; a switch takes well under a second (vLLM sleep mode, CUDA)
resident  all servers stay in memory, one runs (CPU)
restart   one server at a time; drift between models is then part of every difference
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Spec = Mapping[str, Any]

SLEEP_SINCE = (0, 9)
HOST_RESERVE_MIB = 2048.0
"""Host memory left to everything else while weights are parked in it."""


def version_tuple(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `0.9.1+cu12` → (0, 9, 1)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def resolve(spec: Spec, vllm_version: str | None) -> tuple[str, str]:
    """The mode that a spec's server is started for, and the reason; a mode other than `auto` is taken as it is."""
    if spec["endpoint"]:
        return "endpoint", "the server is not ours"
    if spec["mode"] != "auto":
        return str(spec["mode"]), "set in config (lanes)"
    if spec["platform"] == "cpu":
        return "resident", "sleep mode needs a GPU; on the CPU all servers stay in memory"
    if vllm_version and version_tuple(vllm_version) < SLEEP_SINCE:
        wanted = ".".join(map(str, SLEEP_SINCE))
        return "restart", f"vLLM {vllm_version} is older than {wanted}, the first with a usable sleep mode"
    return "sleep", "one GPU, all servers resident, one awake"


@dataclass(frozen=True)
class Fit:
    """Whether something fits, and the arithmetic in words."""

    fits: bool
    arithmetic: str


def gpu_fit(free_mib: float, total_mib: float, utilization: float) -> Fit:
    """Does a server with this share fit beside what is on the GPU? vLLM starts only if utilization × total is free."""
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
