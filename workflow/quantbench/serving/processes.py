"""Linux processes: who is alive, which belong to one server, and how they are ended without touching others.

A process is named by a token `host:pid:starttime`, which is never reused. The processes of one server are those
that carry its mark in their environment, and those of its session: vLLM renames its engine processes, which
overwrites the environment that /proc shows, so that the mark alone would miss the very process that holds the GPU.

Two things are read here and not by psutil: the start time in ticks since boot, as psutil's `create_time` moves with the
system clock and a token is compared hours later by another process; and the environment, as psutil's stops at the
first empty entry, which a renamed process has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

PROC, SHM = Path("/proc"), Path("/dev/shm")
MARK, SUPERVISES = "QUANTBENCH_SERVER", "QUANTBENCH_SUPERVISES"
_PR_SET_PDEATHSIG = 1
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the third on (state first); empty if there is no such process."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except _GONE:
        return []


def token(pid: int) -> str:
    """Name a process for good: host, pid and start time. The start time is empty if it is gone."""
    fields = _stat(pid)
    return f"{socket.gethostname()}:{pid}:{fields[19] if fields else ''}"


def pid_of(tok: str) -> int:
    """The pid in a token."""
    return int(tok.rsplit(":", 2)[1])


def alive(tok: str | None) -> bool:
    """Is this very process running on this host (zombies are not)?"""
    if not tok or tok.count(":") < 2:
        return False
    host, pid, start = tok.rsplit(":", 2)
    fields = _stat(int(pid)) if pid.isdigit() else []
    return host == socket.gethostname() and bool(fields) and fields[19] == start and fields[0] not in "ZX"


def pidfd(tok: str) -> int | None:
    """A file descriptor that becomes readable when the process ends; None if it is gone already."""
    if not alive(tok):
        return None
    try:
        fd = os.pidfd_open(pid_of(tok))
    except ProcessLookupError:
        return None
    if alive(tok):  # the pid was not handed to another process in between
        return fd
    os.close(fd)
    return None


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _carries(pid: int, variable: str, value: str) -> bool:
    try:
        return f"{variable}={value}".encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except _GONE:
        return False


def supervisors(mark: str) -> list[int]:
    """Live processes that supervise the server with this mark."""
    return [pid for pid in psutil.pids() if _carries(pid, SUPERVISES, mark) and _stat(pid)[:1] not in ([], ["Z"])]


def members(mark: str, leader: str | None = None) -> list[int]:
    """Live processes of one server: those with its mark, and those in the session of `leader` (a token)."""
    session = None
    if leader:
        start = _stat(pid_of(leader))
        reused = bool(start) and start[19] != leader.rsplit(":", 1)[1]
        session = None if reused else str(pid_of(leader))
    pids = []
    for pid in psutil.pids():
        fields = _stat(pid)
        if fields and fields[0] not in "ZX" and (fields[3] == session or _carries(pid, MARK, mark)):
            pids.append(pid)
    return pids


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to each of these processes that still exists."""
    for pid in pids:
        with contextlib.suppress(*_GONE):
            os.kill(pid, number)


def until(condition: Callable[[], bool], seconds: float, every: float = 0.02) -> bool:
    """Wait for a condition; False if it did not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def kill_members(mark: str, leader: str | None, seconds: float = 5.0) -> bool:
    """SIGKILL every process of one server until none is left; True if none is."""

    def none_left() -> bool:
        left = members(mark, leader)
        signal_all(left, signal.SIGKILL)
        return not left

    return until(none_left, seconds)


def rss_mib(pids: Iterable[int]) -> float:
    """Sum of the resident set sizes in MiB (shared pages count once per process)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return round(total / 2**20, 1)


def shared_memory(pids: Iterable[int]) -> dict[str, int]:
    """Files in /dev/shm that these processes have mapped or open: name → inode.

    By inode, because a semaphore is mapped under a temporary name before it gets its own.
    """
    held: set[int] = set()
    for pid in pids:
        with contextlib.suppress(*_GONE):
            for line in (PROC / str(pid) / "maps").read_text().splitlines():
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[5].startswith(f"{SHM}/"):
                    held.add(int(fields[4]))
            for entry in (PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(*_GONE):
                    if str(entry.readlink()).startswith(f"{SHM}/"):
                        held.add(entry.stat().st_ino)
    return {name: inode for name, inode in shm_listing().items() if inode in held}


def shm_listing() -> dict[str, int]:
    """Own files in /dev/shm: name → inode."""
    inodes = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(SHM):
            with contextlib.suppress(*_GONE):
                stat = entry.stat(follow_symlinks=False)
                if stat.st_uid == os.getuid():
                    inodes[entry.name] = stat.st_ino
    return inodes


def remove_shared_memory(files: dict[str, int]) -> list[str]:
    """Unlink these files of /dev/shm if they are still the same ones; returns the names removed."""
    now = shm_listing()
    removed = [name for name, inode in files.items() if now.get(name) == inode]
    for name in removed:
        (SHM / name).unlink(missing_ok=True)
    return removed
