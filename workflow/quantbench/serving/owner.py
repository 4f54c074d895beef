"""Whose servers these are: the snakemake process that reads the Snakefile, inherited by all its jobs."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from quantbench import ask_lane
from quantbench.errors import QuantbenchError
from quantbench.serving import processes, trust
from quantbench.serving.trust import STATE

BLOCKS = "QUANTBENCH_BLOCKS"
OWNER, DEVICES, SERVERS = "QUANTBENCH_OWNER", "QUANTBENCH_DEVICES", "QUANTBENCH_SERVERS"
PORTS = "QUANTBENCH_PORTS"
IDLE = "QUANTBENCH_IDLE_S"
SHARED = "QUANTBENCH_SHARED_FOLDER"
"""Set it to 1 where several runs share a folder on purpose, each with its own targets (one batch job per model)."""
_IDLE_S = 3600.0
_OF_A_RUN = (processes.MARK, processes.SUPERVISES, ask_lane.RUN, "QUANTBENCH_VERSIONS_")
LIBRARY = Path(__file__).resolve().parents[2]


def become_owner(devices: Sequence[str] = (), servers: Path | str = "logs/servers", ports: Sequence[int] = ()) -> str:
    """Called when the Snakefile is read: make this process the owner, unless a living parent already is.

    `devices` are all devices of the configuration (a run claims them together); `servers` is the folder, relative
    to the working directory, where logs and events of each server go; `ports` are those that the configuration names,
    which no server without one is given. Jobs inherit all of it, and the library's
    folder, through the environment. Returns the owner's token.
    """
    os.environ[OWNER] = current()
    os.environ[DEVICES] = ",".join(sorted(set(devices)))
    os.environ[SERVERS] = str(servers)
    os.environ[PORTS] = ",".join(map(str, ports))
    share_library()
    return os.environ[OWNER]


def share_library() -> None:
    """Processes that are started from now on find this library."""
    os.environ["PYTHONPATH"] = library_path()


def library_path() -> str:
    """PYTHONPATH with the library's folder first, and what the user has set behind it (where the engine may be)."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(LIBRARY)]
    return os.pathsep.join([str(LIBRARY), *paths])


def current() -> str:
    """The owner's token: the inherited one if that process lives on this machine, else this process."""
    inherited = os.environ.get(OWNER)
    return inherited if inherited and processes.alive(inherited) else processes.token(os.getpid())


def is_owner_process() -> bool:
    """Is this process the owner? In a job's process, which reads the Snakefile again, it is not."""
    return processes.pid_of(current()) == os.getpid()


def announce_blocks(count: int) -> None:
    """Tell the jobs how many blocks this run measures; for the progress line only."""
    os.environ[BLOCKS] = str(count)


def planned_blocks() -> int:
    """Blocks that this run measures, 0 if it is not known."""
    count = os.environ.get(BLOCKS, "")
    return int(count) if count.isdecimal() else 0


def devices() -> list[str]:
    """Devices that this run claims, as set by `become_owner`."""
    return [name for name in os.environ.get(DEVICES, "").split(",") if name]


def named_ports() -> list[int]:
    """Ports that the configuration names, as set by `become_owner`."""
    return [int(port) for port in os.environ.get(PORTS, "").split(",") if port.isdecimal()]


def server_home(model: str) -> Path:
    """Absolute folder for the log and the events of one model's server."""
    return (Path(os.environ.get(SERVERS, "logs/servers")) / model).absolute()


def check_environment() -> None:
    """Raise QuantbenchError for a variable of ours whose value means nothing, and for a state folder that is not ours.

    Before anything is made: later it would be the end of the first job. What another run has put into the environment
    of this one (it was started from there) is dropped: its jobs must not carry the mark of a server.
    """
    for name in [name for name in os.environ if name.startswith(_OF_A_RUN)]:
        del os.environ[name]
    idle_s()
    shared_folder()
    state_root(make=False)


def idle_s() -> float:
    """Seconds after which a server that nobody leases is stopped."""
    text = os.environ.get(IDLE) or str(_IDLE_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise QuantbenchError(f"{IDLE} is '{text}', not a number of seconds", remedy=f"set {IDLE}=3600, or unset it")
    return seconds


def shared_folder() -> bool:
    """Do several runs share the working folder on purpose?"""
    text = os.environ.get(SHARED, "")
    if text not in ("", "0", "1"):
        raise QuantbenchError(f"{SHARED} is '{text}', neither 0 nor 1", remedy=f"set {SHARED}=1, or unset it")
    return text == "1"


def state_root(*, make: bool = True) -> Path:
    """The state folder of this user. Raises QuantbenchError if it is not this user's alone.

    Not in XDG_RUNTIME_DIR: a batch job, cron or sudo of the same user has none, and two runs that see different
    folders do not see each other's claims.
    """
    default = Path(tempfile.gettempdir()) / f"quantbench-{os.getuid()}"
    return trust.folder(Path(os.environ.get(STATE) or default).absolute(), make=make)


def state_dir() -> Path:
    """Its part of this machine: locks, claims and server states. Machines that share the folder share nothing in it."""
    return trust.folder(state_root() / processes.machine())


def end_with_owner() -> None:
    """End this process when its owner is gone, so that no job goes on as an orphan after `kill -9` of snakemake."""
    inherited = os.environ.get(OWNER, "")
    if inherited.startswith(f"{processes.machine()}:") and not processes.alive(inherited):
        sys.exit(143)  # killed while this job was starting
    if is_owner_process():
        return
    tok = current()
    fd = processes.pidfd(tok)

    def watch() -> None:
        if fd is not None:
            select.select([fd], [], [])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3)
        os.kill(os.getpid(), signal.SIGKILL)

    with contextlib.suppress(ValueError):  # not the main thread: the caller has its own handlers
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=watch, daemon=True, name="end with owner").start()


def end_jobs(patience_s: float = 8.0) -> None:
    """End the jobs of this process, and those that it still starts: SIGTERM, and SIGKILL after a while. Never returns.

    Servers are no jobs: they have sessions of their own, and the sweep at the end of the run stops them in order.
    """
    asked: dict[psutil.Process, float] = {}
    while True:
        for job in {*_jobs(), *asked}:  # one whose parent has ended is below this process no more
            with contextlib.suppress(psutil.Error):
                if job not in asked:
                    asked[job] = time.monotonic()
                    job.terminate()
                elif time.monotonic() - asked[job] > patience_s:
                    job.kill()
        time.sleep(0.2)


def _jobs() -> list[psutil.Process]:
    """The processes below this one, in its session."""
    jobs = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(OSError):
                if os.getsid(process.pid) == os.getsid(0):
                    jobs.append(process)
    return jobs
