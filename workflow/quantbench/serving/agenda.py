"""What the processes of a run's lanes are told: its configuration, and its blocks in the order of the schedule.

A folder per run in the state folder. It is of use while the run lives, and the next run removes those of dead ones.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quantbench.ask_lane import RUN
from quantbench.records.base import write
from quantbench.serving import owner, processes, trust

Reference = tuple[str, str, int, int, int]
"""A block: arm, workload, concurrency, max_tokens, number."""


def announce(config: Mapping[str, Any], lanes: Mapping[str, str], order: Sequence[Reference]) -> None:
    """Write it down, and tell the jobs where. lanes: by arm. order: the blocks that this run measures."""
    runs = trust.folder(owner.state_dir() / "runs")
    for place in runs.iterdir():
        if not processes.alive(f"{processes.machine()}:{place.name.replace('-', ':')}"):
            shutil.rmtree(place, ignore_errors=True)
    _, pid, start = owner.current().rsplit(":", 2)
    folder = trust.folder(runs / f"{pid}-{start}")
    write(folder / "config.json", dict(config))
    write(folder / "agenda.json", {"lanes": dict(lanes), "order": list(order)})
    os.environ[RUN] = str(folder)


def forget() -> None:
    """Remove the folder of this run."""
    if folder := os.environ.pop(RUN, ""):
        shutil.rmtree(folder, ignore_errors=True)


def folder() -> Path:
    """The folder of this run. Raises QuantbenchError if it is not this user's alone."""
    return trust.folder(Path(os.environ[RUN]), make=False)
