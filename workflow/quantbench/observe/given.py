"""Devices that a scheduler, or whoever started the run, has given to it: a lane's device 0 is the first of them.

A configuration counts the GPUs that it may use from 0, as CUDA does, so that it says the same on every card and all
that was measured under it stays together. Which cards they are, the environment tells here. In a container (a pod of
Kubernetes) only the given ones are there, and these count from 0 by themselves.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable

from quantbench.observe import gpu

CUDA = "CUDA_VISIBLE_DEVICES"
_OF_SLURM = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
"""Numbers that count all cards of the node, also where the job is shown its own only."""


_INDEX = "index-"
"""What the name of a card begins with whose UUID is not known."""
REMEDY = "ask the scheduler for as many GPUs as the lanes name, or name fewer in lanes.*.devices"


def devices() -> tuple[str, ...] | None:
    """The given GPUs in order: NVML indices, UUIDs or MIG names; None where nothing says which."""
    if CUDA in os.environ:
        return _listed(os.environ[CUDA])
    if (name := _source()) is None:
        return None
    listed, shown = _listed(os.environ[name]), gpu.count()
    # A job that is shown no more than it was given counts them from 0, whatever their numbers on the node are.
    return tuple(map(str, range(len(listed)))) if shown == len(listed) else listed


def real(device: str) -> str:
    """The device of a lane as NVML and CUDA know it; what is no index (`cpu`, a UUID) is that already.

    Of one that is not given, a name that no GPU has: see `fault`.
    """
    if device.startswith(_INDEX):
        return device.removeprefix(_INDEX)
    if not device.isdecimal() or (listed := devices()) is None:
        return device
    return listed[int(device)] if int(device) < len(listed) else f"{device} (not given)"


def fault(device: str) -> str:
    """Why a lane cannot have this device: fewer are given. Empty if it can."""
    if real(device) == device or not real(device).startswith(f"{device} "):
        return ""
    name, count = _source() or CUDA, len(devices() or ())
    gives = f"{count} GPU{'' if count == 1 else 's'}"
    return f"GPU {device} is not given to this run: {name} ('{os.environ[name]}') gives {gives}, which count from 0"


def cards(devices: Iterable[str]) -> tuple[str, ...]:
    """The names by which all runs of a host know the devices of a lane: UUIDs where NVML tells them.

    An index is none: two jobs of one host may each be shown one card only, and both call it 0. Cards of cards are they
    themselves.
    """
    return tuple(dict.fromkeys(_card(real(device)) for device in devices))


@functools.cache
def _card(device: str) -> str:
    if not device.isdecimal() and not device.startswith("GPU-"):
        return device
    return gpu.uuid(device) or (_INDEX + device if device.isdecimal() else device)


def _source() -> str | None:
    """The variable that says which devices are given; None where nothing does, and all are."""
    return next((name for name in (CUDA, *_OF_SLURM) if name in os.environ), None)


def _listed(value: str) -> tuple[str, ...]:
    """The entries up to the first that is no device: as CUDA does, for which -1 or SLURM's NoDevFiles end the list."""
    entries = [part.strip() for part in value.split(",")]
    return tuple(itertools.takewhile(lambda e: e.isdecimal() or e.startswith(("GPU-", "MIG-")), entries))
