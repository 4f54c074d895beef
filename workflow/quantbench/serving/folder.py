"""One run at a time in a working folder. A second one waits, then starts over with what the first has left.

Snakemake's own lock makes the second run fail, and stays behind after `kill -9`. A kernel lock does neither, so the
profile sets `nolock` and `onstart` calls `enter`. On a disk that several hosts share, a kernel lock may hold for one
host only; so the lock's file says who is in the folder, and counts on while that run lives. A run of another host is
taken for dead only if the count stands still while one looks at it: clocks of two hosts are never compared.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from msgspec.structs import replace

from quantbench import files
from quantbench.errors import QuantbenchError
from quantbench.records import base
from quantbench.records.serving import FolderLock
from quantbench.serving import owner, processes, trust

BEAT_S = 15.0
LOST_S = 150.0
"""Without a sign of life for so long, a run of another host is lost. What a host knows of a shared disk may be a minute
old (NFS)."""
LOOK_S = 5.0
_held: list[int] = []
_turn = threading.Lock()
"""Of writing to a note: after its end a run writes nothing."""


def need_writable(folder: Path) -> None:
    """Raise QuantbenchError if no file can be made in the folder: better before the first job than in each."""
    with files.atomic(folder / "writable") as part:
        part.touch()
    (folder / "writable").unlink()


def enter(folder: Path, results: Path) -> None:
    """Hold the folder, and results that lie elsewhere, until this process ends.

    If another run has one of them: wait, then run this command again. Raises QuantbenchError if a run of another host
    is in it.
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
        holder = _holder(path)
        who = f"process id {holder.pid} on {holder.host}" if holder else "process id unknown"
        print(f"quantbench: waiting for the run with {who} in {where}", file=sys.stderr, flush=True)
        _lock(handle, path, wait=True)
        # What this run planned is out of date now; planning again takes seconds.
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])
    holder = _holder(path)
    # On this host its lock would not be free if it lived: not in another container, nor after a restart.
    if holder and holder.boot != processes.boot() and holder.host != socket.gethostname() and not _lost(holder, path):
        raise QuantbenchError(
            f"a run on {holder.host} is in {where} since {holder.since} (process id {holder.pid})",
            remedy=f"wait for it, or end it there; if that host has gone down: rm {path}",
        )
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    mine = FolderLock(pid=os.getpid(), host=socket.gethostname(), boot=processes.boot(), since=now, every_s=BEAT_S)
    _write(handle, base.line(mine))
    _held.append(handle)
    over = threading.Event()
    threading.Thread(target=_beat, args=(path, mine, over), daemon=True, name="sign of life").start()
    atexit.register(_leave, handle, os.getpid(), over)


def _lost(holder: FolderLock, path: Path) -> bool:
    """Whether a run of another host gives no sign of life; looks for as long as it takes to know."""
    if not holder.every_s:
        return False
    print(
        f"quantbench: a run on {holder.host} was in this folder; waiting {LOST_S:g} s for a sign of life",
        file=sys.stderr,
        flush=True,
    )
    ends = time.monotonic() + LOST_S
    while time.monotonic() < ends:
        time.sleep(LOOK_S)
        if (now := _holder(path)) != holder:
            return now is None  # it has left, or it lives
    print(f"quantbench: the run on {holder.host} is lost; going on with what it has left", file=sys.stderr, flush=True)
    return True


def _beat(path: Path, mine: FolderLock, over: threading.Event) -> None:
    """Count on while this run is in the folder. If another run has taken it, this one, which was frozen, ends."""
    while not over.wait(BEAT_S):
        with _turn:
            noted = _holder(path)
            if noted is None or over.is_set():
                return
            if (noted.pid, noted.host, noted.boot) != (mine.pid, mine.host, mine.boot):
                print(f"quantbench: a run on {noted.host} has taken {path}; this one ends", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            with contextlib.suppress(OSError):  # a full disk: then the count stands still
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    _write(handle, base.line(replace(noted, beats=noted.beats + 1)))
                finally:
                    os.close(handle)


def _lock(handle: int, path: Path, *, wait: bool) -> None:
    trust.lock(
        handle, path, wait=wait, remedy=f"use a disk with locks, or set {owner.SHARED}=1 if no other run is here"
    )


def _holder(path: Path) -> FolderLock | None:
    """Who has noted to be in the folder; None where nobody has, or in words of another version."""
    with contextlib.suppress(QuantbenchError, OSError):
        return base.parse(path.read_bytes(), FolderLock, path)
    return None


def _write(handle: int, content: bytes) -> None:
    # In one step for readers: notes differ in length by the digits of a count, and a line ends where its text does.
    os.pwrite(handle, content, 0)
    os.ftruncate(handle, len(content))
    os.fsync(handle)


def _leave(handle: int, pid: int, over: threading.Event) -> None:
    """Take the note back, so that the next host finds none."""
    if os.getpid() == pid:
        with _turn, contextlib.suppress(OSError):
            over.set()
            _write(handle, b"")
