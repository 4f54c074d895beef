"""What is known of the servers of this machine: one folder per server in the state folder, and its event log.

`state.json` is written by whoever holds the lock of the server's devices, `process.json`, `shm.json` and
`ended.json` by its supervisor. Events go to the server's home in the working folder of its run, and are kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from quantbench.config.secret_words import hidden
from quantbench.errors import QuantbenchError
from quantbench.records import base
from quantbench.records.server import Event, Session
from quantbench.records.serving import Ended, ServerProcesses, State
from quantbench.serving import owner, processes

T = TypeVar("T")


def folder(key: str) -> Path:
    """The folder of one server."""
    return owner.state_dir() / "servers" / key


def _read(path: Path, kind: type[T]) -> T | None:
    """The file as `kind`; None where it is not there (any more), or another version has written it."""
    try:
        return base.read(path, kind)
    except (FileNotFoundError, NotADirectoryError, QuantbenchError):
        return None


def save(state: State) -> State:
    """Write a server's state; its folder, which says what environment it has, is for this user alone."""
    folder(state.key).mkdir(parents=True, exist_ok=True, mode=0o700)
    base.write(folder(state.key) / "state.json", state)
    return state


def forget(key: str) -> None:
    """Remove a server's folder; its log and events are elsewhere and stay."""
    shutil.rmtree(folder(key), ignore_errors=True)


def servers(devices: Iterable[str] | None = None) -> list[State]:
    """States of all servers, or of those that use one of these devices, in order of their start."""
    wanted = None if devices is None else set(devices)
    states = [state for path in (owner.state_dir() / "servers").glob("*/state.json") if (state := _read(path, State))]
    chosen = [state for state in states if wanted is None or wanted & set(state.spec.devices)]
    return sorted(chosen, key=lambda state: state.started_unix)


def leader(key: str) -> str | None:
    """Token of the API server's process, None before it was spawned."""
    tokens = _read(folder(key) / "process.json", ServerProcesses)
    return tokens.server if tokens else None


def ended(key: str) -> Ended | None:
    """Why the supervisor ended the server; None while it runs."""
    return _read(folder(key) / "ended.json", Ended)


def shared_memory(key: str) -> dict[str, int]:
    """Files in /dev/shm, with their inodes, that the supervisor has seen in use by the server."""
    return _read(folder(key) / "shm.json", dict[str, int]) or {}


def members(state: State) -> list[int]:
    """Live processes of the server."""
    return processes.members(state.mark, leader(state.key))


def is_up(state: State) -> bool:
    """Do the supervisor and the API server both live?"""
    return processes.alive(leader(state.key)) and supervised(state)


def supervised(state: State) -> bool:
    """Does its supervisor live?"""
    tokens = _read(folder(state.key) / "process.json", ServerProcesses)
    return processes.alive(tokens.supervisor) if tokens else bool(processes.supervisors(state.mark))


def log_text(state: State) -> str:
    """The server's log since this start of it, without values of secret variables: what is found in it is quoted."""
    with contextlib.suppress(FileNotFoundError), Path(state.log).open("rb") as log:
        log.seek(state.log_start)
        return hidden(log.read().decode(errors="replace"), os.environ)
    return ""


def new_event(home: Path | str, event: str, **more: Any) -> Event:
    """An event of now, by default of the model whose folder `home` is."""
    return Event(**{"t": round(time.time(), 3), "event": event, "model": Path(home).name, **more})


def append_event(home: Path | str, event: Event) -> None:
    """Append one line to the events of a model's server."""
    Path(home).mkdir(parents=True, exist_ok=True)
    fd = os.open(Path(home) / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(fd, base.line(event))  # one write: lines of two processes do not mix
    finally:
        os.close(fd)


def add_event(home: Path | str, event: str, **more: Any) -> None:
    """Append a new event."""
    append_event(home, new_event(home, event, **more))


def read_events(home: Path | str) -> Iterator[Event]:
    """All events of a model's server, oldest first; a damaged line is left out."""
    path = Path(home) / "events.jsonl"
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(QuantbenchError):
            yield base.parse(line, Event, path)


def session_of(model: str, mode: str, events: Sequence[Event]) -> Session:
    """session.json: the life of one model's server from its events, over all runs that its folder has seen.

    Memory is that of the last stop. held_s is what leases held of the lane with the servers up, measured_s what of it
    lies inside blocks; starting_s is the rest, the leases that had to start a server first.
    """
    stops = [e for e in events if e.event == "stop" and (e.memory_returned is not None or e.memory_reason)]
    leases = [e for e in events if e.event == "lease"]
    up = [e for e in leases if e.action != "started"]
    last = stops[-1] if stops else Event(t=0, event="none")
    return Session(
        model=model,
        mode=mode,
        events=tuple(events),
        memory_before_mib=last.memory_before_mib,
        memory_after_stop_mib=last.memory_after_stop_mib,
        memory_returned=last.memory_returned,
        measured_s=_sum([e.measured_s for e in up]),
        held_s=_sum([e.seconds for e in up]),
        starting_s=_sum([e.seconds for e in leases if e.action == "started"]),
    )


def _sum(seconds: Sequence[float | None]) -> float | None:
    """The sum of those that are known; None if none is."""
    known = [s for s in seconds if s is not None]
    return round(sum(known), 3) if known else None
