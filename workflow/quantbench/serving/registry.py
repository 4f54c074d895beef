"""What is known of the servers of this machine: one folder per server in the state folder, and its event log.

`state.json` is written by whoever holds the lock of the server's devices, `process.json`, `shm.json` and
`ended.json` by its supervisor. Events go to the server's home in the working folder of its run, and are kept.

What stands in these files ends processes and removes folders. So they are read only where they are ours (`trust`), and
only as far as they fit together: a state that names another folder than its own, or an endpoint, is a broken one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from quantbench.config.secret_words import hidden
from quantbench.errors import QuantbenchError
from quantbench.files import damaged
from quantbench.observe import given
from quantbench.records import base
from quantbench.records.server import Event, ServerSpec, Session
from quantbench.records.serving import Ended, Launch, ServerProcesses, State
from quantbench.serving import owner, processes, trust

T = TypeVar("T")
_GONE = (FileNotFoundError, NotADirectoryError)


def _servers() -> Path:
    return trust.folder(owner.state_dir() / "servers")


def folder(key: str) -> Path:
    """The folder of one server."""
    return _servers() / key


def _read(path: Path, kind: type[T]) -> T | None:
    """The file as `kind`; None where it is not there (any more), is not ours, or another version has written it."""
    try:
        return trust.read(path, kind)
    except (*_GONE, QuantbenchError):
        return None


def key_of(spec: ServerSpec, mark: str) -> str:
    """The name of a server's folder: two runs of one host may have equal servers, on devices of their own."""
    return f"{spec.model}-{spec.hash}-{mark[:8]}"


def save(state: State) -> State:
    """Write a server's state."""
    base.write(trust.folder(folder(state.key)) / "state.json", state)
    return state


def forget(key: str) -> None:
    """Remove a server's folder; its log and events are elsewhere and stay."""
    shutil.rmtree(folder(key), ignore_errors=True)


def servers(devices: Iterable[str] | None = None) -> list[State]:
    """States of all servers, or of those that use one of these devices, in order of their start."""
    wanted = None if devices is None else set(given.cards(devices))
    chosen = [state for state in _known()[0] if wanted is None or wanted & set(state.devices)]
    return sorted(chosen, key=lambda state: state.started_unix)


def broken() -> dict[str, QuantbenchError]:
    """{name: what is wrong} of the folders whose state cannot be used."""
    return _known()[1]


def _known() -> tuple[list[State], dict[str, QuantbenchError]]:
    states, faults = [], {}
    for place in _servers().iterdir():
        try:
            states.append(_state(place))
        except _GONE:  # it is being made, or removed
            continue
        except QuantbenchError as error:
            faults[place.name] = error
    return states, faults


def _state(place: Path) -> State:
    """The state in a server's folder, which it must fit. Raises QuantbenchError; an OSError if there is none."""
    path = place / "state.json"
    if not trust.is_ours(place) and os.path.lexists(path):
        raise QuantbenchError(f"{place} is not a folder of yours alone", remedy="remove it")
    state = trust.read(path, State)
    home = Path(state.home)
    fits = {
        "key": state.key == place.name == key_of(state.spec, state.mark),
        "spec.endpoint": state.spec.endpoint is None,
        "home": home.is_absolute() and home.name == state.spec.model,
        "log": Path(state.log) == home / "server.log",
    }
    if wrong := [key for key, right in fits.items() if not right]:
        raise damaged(path, f"`{wrong[0]}` is not what its other keys say")
    return state


def elsewhere() -> dict[Path, str]:
    """{folder: host} of the servers that other machines have noted in the same state folder."""
    others = [place for place in owner.state_root().iterdir() if place != owner.state_dir() and trust.is_ours(place)]
    paths = [path for place in others for path in (place / "servers").glob("*/state.json")]
    return {path.parent: state.host if (state := _read(path, State)) else "unknown" for path in paths}


def launch(key: str) -> Launch | None:
    """What the supervisor of a server was given; None where that is not known."""
    return _read(folder(key) / "launch.json", Launch)


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
    return processes.members(state.mark, leader(state.key), state.log)


def is_up(state: State) -> bool:
    """Do the supervisor and the API server both live?"""
    return processes.alive(leader(state.key)) and supervised(state)


def supervised(state: State) -> bool:
    """Does its supervisor live?"""
    tokens = _read(folder(state.key) / "process.json", ServerProcesses)
    return processes.alive(tokens.supervisor) if tokens else bool(processes.supervisors(state.mark))


def log_text(state: State) -> str:
    """The server's log since this start of it, without values of secret variables: what is found in it is quoted."""
    with contextlib.suppress(OSError), Path(state.log).open("rb") as log:
        log.seek(state.log_start)
        return hidden(log.read().decode(errors="replace"), os.environ)
    return ""


def new_event(home: Path | str, event: str, **more: Any) -> Event:
    """An event of now, by default of the model whose folder `home` is."""
    return Event(**{"t": round(time.time(), 3), "event": event, "model": Path(home).name, **more})


def open_log(path: Path, *, make: bool = True, mode: int = 0o600) -> BinaryIO:
    """A server's log, or its events, to append to: a regular file, not what a link there leads to.

    mode: of a new file; nobody knows what a server prints, so its log is for this user alone. Raises QuantbenchError if
    it cannot be written, FileNotFoundError if it is not there and not to be made.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if make else 0)
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, flags, mode)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(0, "it is no regular file")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise QuantbenchError(
            f"{path} cannot be written: {error.strerror}",
            remedy="make room on that disk, make the file and its folder writable for you (see ls -l and lsattr), or "
            "move the file away; then run the same command again",
        ) from None
    return os.fdopen(handle, "ab", buffering=0)  # one write a line: lines of two processes do not mix


def need_events(home: Path) -> None:
    """Raise QuantbenchError if no event can be added: before a block is measured, and not after it."""
    with contextlib.suppress(FileNotFoundError):
        open_log(home / "events.jsonl", make=False).close()


def append_event(home: Path | str, event: Event) -> None:
    """Append one line to the events of a model's server.

    What cannot be written is said and is no failure: what was measured is not lost for a line about its server. The
    next lease fails (`need_events`). Where the folder of another run is gone, it is not made again.
    """
    home = Path(home)
    try:
        make = home.is_dir() or home == owner.server_home(home.name)
        with open_log(home / "events.jsonl", make=make, mode=0o666) as log:
            log.write(base.line(event))
    except FileNotFoundError:
        return
    except QuantbenchError as error:
        say(f"event '{event.event}' of {home.name} is not kept: {error}")
    except OSError as error:
        say(f"event '{event.event}' of {home.name} is not kept: {error.strerror}\n  remedy: make room for {home}")


@functools.cache
def say(line: str) -> None:
    """A line on stderr, once."""
    print(f"quantbench: {line}", file=sys.stderr, flush=True)


def add_event(home: Path | str, event: str, **more: Any) -> None:
    """Append a new event."""
    append_event(home, new_event(home, event, **more))


def read_events(home: Path | str) -> Iterator[Event]:
    """All events of a model's server, oldest first; a damaged line is left out."""
    path = Path(home) / "events.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise QuantbenchError(
            f"{path} cannot be read: {error.strerror}", remedy="move it away, and run again"
        ) from None
    for line in lines:
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
