"""The state folder: what the processes of one machine and user write down for each other. No part of any result."""

from __future__ import annotations

from quantbench.records.base import Record
from quantbench.records.server import Mode, Ready, ServerSpec


class State(Record, frozen=True, kw_only=True):
    """`servers/{key}/state.json`: a server as the holder of its devices' lock has left it.

    mark: what its processes carry in their environment. home: where its log and events go. log_start: bytes of the log
    before this start. started_unix: s; before_mib: device memory in use before; start_s, ready: null until it is ready.
    freed_mib: what it gave back when it went to sleep.
    """

    key: str
    spec: ServerSpec
    mode: Mode
    owner: str
    mark: str
    asleep: bool = False
    home: str
    log: str
    log_start: int
    started_at: str
    started_unix: float
    before_mib: float | None
    start_s: float | None = None
    ready: Ready | None = None
    freed_mib: float | None = None


class Launch(Record, frozen=True, kw_only=True):
    """`servers/{key}/launch.json`: what a supervisor is to start, and when to end it; scratch: the server's TMPDIR."""

    argv: tuple[str, ...]
    env: dict[str, str]
    unset: tuple[str, ...]
    owner: str
    mark: str
    log: str
    home: str
    devices: tuple[str, ...]
    scratch: str
    idle_s: float
    grace_s: float


class ServerProcesses(Record, frozen=True, kw_only=True):
    """`servers/{key}/process.json`: tokens of the API server and of its supervisor."""

    server: str
    supervisor: str


class Ended(Record, frozen=True, kw_only=True):
    """`servers/{key}/ended.json`: why the supervisor ended the server; shared_memory_removed: names in /dev/shm.

    remedy: what to do about a server that could not even be started; empty for all others.
    """

    why: str
    remedy: str = ""
    returncode: int | None = None
    shared_memory_removed: tuple[str, ...] = ()


class Claim(Record, frozen=True, kw_only=True):
    """`devices/{device}.json`: the run that has the device until it ends, its folder, since when (Unix time in s)."""

    owner: str
    folder: str
    since: float


class Fallback(Record, frozen=True, kw_only=True):
    """`devices/{device}.fallback`: the run that restarts servers on the device from now on, and why."""

    owner: str
    note: str
