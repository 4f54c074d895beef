"""What the processes of a run's lanes are told, and tell: its configuration, its blocks in the order of the schedule,
and which of them were measured.

A folder per run in the state folder. It is of use while the run lives, and the next run removes those of dead ones.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantbench.ask_lane import RUN
from quantbench.errors import QuantbenchError
from quantbench.records.base import write
from quantbench.serving import owner, processes, trust

Reference = tuple[str, str, int, int, int]
"""A block: arm, workload, concurrency, max_tokens, number."""


def announce(
    config: Mapping[str, Any],
    lanes: Mapping[str, str],
    order: Sequence[Reference],
    ready: Mapping[str, Path],
    starts: Collection[str],
) -> None:
    """Write it down, and tell the jobs where.

    lanes: by arm. order: the blocks that this run measures. ready: by arm, the record of its server. starts: arms whose
    server's record this run makes; until it is another than now, their blocks are left to their own jobs.
    """
    servers = {arm: (str(path), _time(path) if arm in starts else None) for arm, path in ready.items()}
    runs = trust.folder(owner.state_dir() / "runs")
    for place in runs.iterdir():
        if not processes.alive(f"{processes.machine()}:{place.name.replace('-', ':')}"):
            _end_left(place)
            shutil.rmtree(place, ignore_errors=True)
    _, pid, start = owner.current().rsplit(":", 2)
    folder = trust.folder(runs / f"{pid}-{start}")
    write(folder / "config.json", dict(config))
    write(folder / "agenda.json", {"lanes": dict(lanes), "order": list(order), "servers": servers})
    os.environ[RUN] = str(folder)


def _end_left(place: Path) -> None:
    """End what is left of a dead run but its servers: frozen, it could not end itself, and holds its lane's lock."""
    for pid in processes.with_variable(RUN, str(place)):
        if not any(processes.variable(pid, name) for name in (processes.MARK, processes.SUPERVISES)):
            processes.signal_all([pid], signal.SIGKILL)


def forget() -> None:
    """Remove the folder of this run."""
    if folder := os.environ.pop(RUN, ""):
        shutil.rmtree(folder, ignore_errors=True)


def note(lane: str, what: str, whose: Sequence[str | int]) -> None:
    """A line in a lane's journal, for `ask_lane`. what: one of its words.

    Of a run that has ended nothing is noted. Raises QuantbenchError where it cannot be: the block would be asked for
    again and again.
    """
    path = folder() / f"{lane}.journal"
    try:
        with path.open("ab") as file:
            file.write(json.dumps([what, list(whose)]).encode() + b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise QuantbenchError(
            f"{path} cannot be written: {error.strerror}",
            remedy="make room there, or set QUANTBENCH_STATE_DIR to another folder; then run the same command again",
        ) from None


def _time(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def folder() -> Path:
    """The folder of this run. Raises QuantbenchError if it is not this user's alone."""
    return trust.folder(Path(os.environ[RUN]), make=False)
