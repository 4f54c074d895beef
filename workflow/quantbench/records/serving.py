"""The state folder: what the processes of one machine and user write down for each other. No part of any result."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from quantbench.records.base import Record
from quantbench.records.server import Mode, Ready, ServerSpec

Token = Annotated[str, Meta(pattern=r"^[^:\s]+:[1-9][0-9]{0,9}:[0-9]*\Z")]
"""A process by name: `machine:pid:start`, see `serving.processes`."""
Mark = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""What the processes of one server carry in their environment."""
Count = Annotated[int, Meta(ge=0, le=2**53)]


class State(Record, frozen=True, kw_only=True):
    """`servers/{key}/state.json`: a server as the holder of its devices' lock has left it.

    key: model, hash of the spec, beginning of the mark. spec: with the port that the server has. devices: as all runs
    of the host know them (`observe.given.cards`). host: name of the machine, for people. home: where its log and events
    go. log_start: bytes of the log before this start. scratch: the server's TMPDIR. start: which of the starts that
    blocks are divided over. started_unix: s; before_mib: device memory in use before; start_s, ready: null until it is
    ready. freed_mib: what it gave back when it went to sleep.
    """

    key: str
    spec: ServerSpec
    devices: tuple[str, ...]
    mode: Mode
    host: str
    owner: Token
    mark: Mark
    asleep: bool = False
    start: Count = 1
    home: str
    log: str
    log_start: Count
    scratch: str
    started_at: str
    started_unix: float
    before_mib: float | None
    start_s: float | None = None
    ready: Ready | None = None
    freed_mib: float | None = None


class Launch(Record, frozen=True, kw_only=True):
    """`servers/{key}/launch.json`: what a supervisor is to start, and when to end it."""

    argv: tuple[str, ...]
    env: dict[str, str]
    unset: tuple[str, ...]
    owner: Token
    mark: Mark
    log: str
    home: str
    devices: tuple[str, ...]
    scratch: str
    idle_s: float
    grace_s: float


class ServerProcesses(Record, frozen=True, kw_only=True):
    """`servers/{key}/process.json`: tokens of the API server and of its supervisor."""

    server: Token
    supervisor: Token


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

    owner: Token
    folder: str
    since: float


class PortClaim(Record, frozen=True, kw_only=True):
    """`ports/{port}.json`: the run and the model that have the port until the run ends, its folder, since when (s)."""

    owner: Token
    model: str
    folder: str
    since: float


class Fallback(Record, frozen=True, kw_only=True):
    """`devices/{device}.fallback`: the run that restarts servers on the device from now on, and why."""

    owner: Token
    note: str


class FolderLock(Record, frozen=True, kw_only=True):
    """`.snakemake/quantbench.lock` of a working folder: the run that is in it. boot: of the machine's kernel.

    every_s: so often it gives a sign of life, 0: never (older versions); beats: how many it has given.
    """

    pid: int
    host: str
    boot: str
    since: str
    every_s: float = 0.0
    beats: int = 0
