"""Whose servers these are: the snakemake process that reads the Snakefile, inherited by all its jobs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.serving import processes

BLOCKS = "QUANTBENCH_BLOCKS"
OWNER, DEVICES, SERVERS, STATE = (
    "QUANTBENCH_OWNER",
    "QUANTBENCH_DEVICES",
    "QUANTBENCH_SERVERS",
    "QUANTBENCH_STATE_DIR",
)
LIBRARY = Path(__file__).resolve().parents[2]


def become_owner(devices: Sequence[str] = (), servers: Path | str = "logs/servers") -> str:
    """Called when the Snakefile is read: make this process the owner, unless a living parent already is.

    `devices` are all devices of the configuration (a run claims them together); `servers` is the folder, relative
    to the working directory, where logs and events of each server go. Jobs inherit all of it, and the library's
    folder, through the environment. Returns the owner's token.
    """
    os.environ[OWNER] = current()
    os.environ[DEVICES] = ",".join(sorted(set(devices)))
    os.environ[SERVERS] = str(servers)
    os.environ["PYTHONPATH"] = library_path()
    return os.environ[OWNER]


def library_path() -> str:
    """PYTHONPATH with the library's folder first, and what the user has set behind it (where the engine may be)."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(LIBRARY)]
    return os.pathsep.join([str(LIBRARY), *paths])


def current() -> str:
    """The owner's token: the inherited one if that process lives on this host, else this process."""
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
    return int(os.environ.get(BLOCKS, "0"))


def devices() -> list[str]:
    """Devices that this run claims, as set by `become_owner`."""
    return [name for name in os.environ.get(DEVICES, "").split(",") if name]


def server_home(model: str) -> Path:
    """Absolute folder for the log and the events of one model's server."""
    return (Path(os.environ.get(SERVERS, "logs/servers")) / model).absolute()


def state_dir() -> Path:
    """The folder of locks, claims and server states of this machine and user."""
    default = Path(tempfile.gettempdir()) / f"quantbench-{os.getuid()}"
    folder = Path(os.environ.get(STATE) or default)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise QuantbenchError(
            f"the state folder {folder} cannot be made: {error.strerror}",
            remedy=f"set {STATE} to a folder that you may write to",
        ) from None
    return folder


def end_with_owner() -> None:
    """End this process when its owner is gone, so that no job goes on as an orphan after `kill -9` of snakemake."""
    inherited = os.environ.get(OWNER, "")
    if inherited.startswith(f"{socket.gethostname()}:") and not processes.alive(inherited):
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
