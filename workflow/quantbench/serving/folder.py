"""One run at a time in a working folder. A second one waits, then starts over with what the first has left.

Snakemake's own lock makes the second run fail, and stays behind after `kill -9`. A kernel lock does neither, so the
profile sets `nolock` and `onstart` calls `enter`. On a disk that several hosts share, a kernel lock may hold for one
host only; so the lock's file says who is in the folder, and a run of another host is never assumed to be dead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import sys
import time
from pathlib import Path

from quantbench import files
from quantbench.errors import QuantbenchError
from quantbench.records import base
from quantbench.records.serving import FolderLock
from quantbench.serving import owner, processes, trust

_held: list[int] = []


def need_writable(folder: Path) -> None:
    """Raise QuantbenchError if no file can be made in the folder: better before the first job than in each."""
    with files.atomic(folder / "writable") as part:
        part.touch()
    (folder / "writable").unlink()


def enter(folder: Path, results: Path) -> None:
    """Hold the folder, and results that lie elsewhere, until this process ends.

    If another run has one of them: wait, then run this command again. Raises QuantbenchError if a run of another host
    is in it, or was when that host went down.
    """
    if owner.shared_folder():
        return
    _enter(folder / ".snakemake" / "quantbench.lock", "this folder")
    if results.is_dir() and not results.resolve().is_relative_to(folder.resolve()):
        _enter(results.resolve() / ".quantbench.lock", str(results))


def _enter(path: Path, where: str) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise files.unwritable(path, error) from None
    try:
        _lock(handle, path, wait=False)
    except BlockingIOError:
        holder = _holder(handle, path)
        who = f"process id {holder.pid} on {holder.host}" if holder else "process id unknown"
        print(f"quantbench: waiting for the run with {who} in {where}", file=sys.stderr, flush=True)
        _lock(handle, path, wait=True)
        # What this run planned is out of date now; planning again takes seconds.
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])
    holder = _holder(handle, path)
    # On this host its lock would not be free if it lived: not in another container, nor after a restart.
    if holder and holder.boot != processes.boot() and holder.host != socket.gethostname():
        raise QuantbenchError(
            f"a run on {holder.host} is in {where} since {holder.since} (process id {holder.pid})",
            remedy=f"wait for it, or end it there; if that host has gone down: rm {path}",
        )
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    _write(handle, base.line(FolderLock(pid=os.getpid(), host=socket.gethostname(), boot=processes.boot(), since=now)))
    _held.append(handle)
    atexit.register(_leave, handle, os.getpid())


def _lock(handle: int, path: Path, *, wait: bool) -> None:
    trust.lock(
        handle, path, wait=wait, remedy=f"use a disk with locks, or set {owner.SHARED}=1 if no other run is here"
    )


def _holder(handle: int, path: Path) -> FolderLock | None:
    """Who has noted to be in the folder; None where nobody has, or in words of another version."""
    with contextlib.suppress(QuantbenchError):
        return base.parse(os.pread(handle, 4096, 0), FolderLock, path)
    return None


def _write(handle: int, content: bytes) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, content, 0)


def _leave(handle: int, pid: int) -> None:
    """Take the note back, so that the next host finds none."""
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            _write(handle, b"")
