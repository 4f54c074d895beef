"""What is known of the servers of this machine: one folder per server in the state folder, and its event log.

`state.json` is written by whoever holds the lock of the server's devices, `process.json`, `shm.json` and
`ended.json` by its supervisor. Events go to the server's home in the working folder of its run, and are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantbench import files
from quantbench.errors import QuantbenchError
from quantbench.serving import owner, processes

State = dict[str, Any]


def servers_dir() -> Path:
    """Where the folders of all servers are."""
    return owner.state_dir() / "servers"


def folder(state: Mapping[str, Any]) -> Path:
    """The folder of one server."""
    return servers_dir() / str(state["key"])


def _read(path: Path) -> State | None:
    try:
        value = files.read_json(path)
    except (FileNotFoundError, NotADirectoryError, QuantbenchError):
        return None
    return value if isinstance(value, dict) else None


def save(state: State) -> State:
    """Write a server's state."""
    files.write_json(folder(state) / "state.json", state)
    return state


def forget(state: Mapping[str, Any]) -> None:
    """Remove a server's folder; its log and events are elsewhere and stay."""
    shutil.rmtree(folder(state), ignore_errors=True)


def servers(devices: Iterable[str] | None = None) -> list[State]:
    """States of all servers, or of those that use one of these devices, in order of their start."""
    wanted = None if devices is None else set(devices)
    states = [state for path in servers_dir().glob("*/state.json") if (state := _read(path))]
    chosen = [state for state in states if wanted is None or wanted & set(state["spec"]["devices"])]
    return sorted(chosen, key=lambda state: float(state["started_unix"]))


def leader(state: Mapping[str, Any]) -> str | None:
    """Token of the API server's process, None before it was spawned."""
    value = _read(folder(state) / "process.json")
    return str(value["server"]) if value else None


def ended(state: Mapping[str, Any]) -> State | None:
    """Why the supervisor ended the server ({why, returncode}); None while it runs."""
    return _read(folder(state) / "ended.json")


def shared_memory(state: Mapping[str, Any]) -> dict[str, int]:
    """Files in /dev/shm that the supervisor has seen in use by the server."""
    return {name: int(inode) for name, inode in (_read(folder(state) / "shm.json") or {}).items()}


def members(state: Mapping[str, Any]) -> list[int]:
    """Live processes of the server."""
    return processes.members(str(state["mark"]), leader(state))


def is_up(state: Mapping[str, Any]) -> bool:
    """Do the supervisor and the API server both live?"""
    return processes.alive(leader(state)) and supervised(state)


def supervised(state: Mapping[str, Any]) -> bool:
    """Does its supervisor live?"""
    value = _read(folder(state) / "process.json")
    return processes.alive(value["supervisor"]) if value else bool(processes.supervisors(str(state["mark"])))


def log_text(state: Mapping[str, Any]) -> str:
    """The server's log since this start of it."""
    with contextlib.suppress(FileNotFoundError), Path(state["log"]).open("rb") as log:
        log.seek(int(state["log_start"]))
        return log.read().decode(errors="replace")
    return ""


def add_event(home: Path | str, event: str, **more: Any) -> None:
    """Append one line {t, event, model, …} to the events of a model's server; t is Unix time in seconds."""
    line = json.dumps({"t": round(time.time(), 3), "event": event, "model": Path(home).name, **more}, default=str)
    Path(home).mkdir(parents=True, exist_ok=True)
    fd = os.open(Path(home) / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line.encode() + b"\n")  # one write: lines of two processes do not mix
    finally:
        os.close(fd)


def read_events(home: Path | str) -> list[State]:
    """All events of a model's server, oldest first; a damaged line is left out."""
    events = []
    with contextlib.suppress(FileNotFoundError):
        for line in (Path(home) / "events.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
    return events


def session_of(model: str, mode: str, events: Sequence[Mapping[str, Any]]) -> State:
    """session.json: the life of one model's server from its events, over all runs that its folder has seen.

    Memory is that of the last stop. held_s is what leases held of the lane with the servers up, measured_s what of it
    lies inside blocks; starting_s is the rest, the leases that had to start a server first.
    """
    stops = [e for e in events if e["event"] == "stop" and "memory_returned" in e]
    leases = [e for e in events if e["event"] == "lease"]
    last = stops[-1] if stops else {}
    starting = [float(e["seconds"]) for e in leases if e["action"] == "started"]
    up = [e for e in leases if e["action"] != "started"]
    holding = [float(e["seconds"]) for e in up]
    measured = [float(e["measured_s"]) for e in up if e.get("measured_s") is not None]
    return {
        "model": model,
        "mode": mode,
        "events": [dict(e) for e in events],
        "memory_before_mib": last.get("memory_before_mib"),
        "memory_after_stop_mib": last.get("memory_after_stop_mib"),
        "memory_returned": last.get("memory_returned"),
        "measured_s": round(sum(measured), 3) if measured else None,
        "held_s": round(sum(holding), 3) if holding else None,
        "starting_s": round(sum(starting), 3) if starting else None,
    }
