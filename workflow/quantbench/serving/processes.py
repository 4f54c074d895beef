"""Linux processes: who is alive, which belong to one server, and how they are ended without touching others.

A process is named by a token `machine:pid:start`, which is never reused. The machine is the boot of its kernel and its
PID namespace: a host's name can change in mid-run, and containers that share a folder do not see each other's
processes. The processes of one server are those of ours that carry its mark in their environment, and those of its
session: vLLM renames its engine processes, which overwrites the environment that /proc shows, so that the mark alone
would miss the very process that holds the GPU.

Two things are read here and not by psutil: the start time in ticks since boot, as psutil's `create_time` moves with the
system clock and a token is compared hours later by another process; and the environment, as psutil's stops at the
first empty entry, which a renamed process has.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
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
_TOKEN = re.compile(r"([^:\s]+):([1-9][0-9]{0,9}):([0-9]*)")


@functools.cache
def boot() -> str:
    """This boot of the kernel, the same in all its containers; the host's name where the kernel does not tell."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
    except OSError:
        return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())


@functools.cache
def machine() -> str:
    """What sees the same processes: this boot, and this PID namespace. A folder may be named so."""
    try:
        return f"{boot()}-{(PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return boot()


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the third on (state first); empty if there is no such process."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except _GONE:
        return []


def token(pid: int) -> str:
    """Name a process for good: machine, pid and start time. The start time is empty if it is gone."""
    fields = _stat(pid)
    return f"{machine()}:{pid}:{fields[19] if fields else ''}"


def pid_of(tok: str) -> int:
    """The pid in a token."""
    return int(tok.rsplit(":", 2)[1])


def alive(tok: str | None) -> bool:
    """Is this very process running on this machine (zombies are not)?"""
    parts = _TOKEN.fullmatch(tok or "")
    if not parts or parts[1] != machine():
        return False
    fields = _stat(int(parts[2]))
    return bool(fields) and fields[19] == parts[3] and fields[0] not in "ZX"


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


def variable(pid: int, name: str) -> str | None:
    """A variable of a process's environment; None where it has none, is gone or belongs to another user."""
    try:
        entries = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except _GONE:
        return None
    start = f"{name}=".encode()
    return next((os.fsdecode(entry[len(start) :]) for entry in entries if entry.startswith(start)), None)


def with_variable(name: str, value: str) -> list[int]:
    """Pids of this user's living processes whose environment has it; not this one."""
    return [pid for pid in psutil.pids() if _living(pid) and _carries(pid, name, value)]


def _living(pid: int) -> list[str]:
    """`_stat` of a process of this user that is neither dead nor this one; else empty."""
    fields = _stat(pid)
    if not fields or fields[0] in "ZX" or pid == os.getpid():
        return []
    try:  # root may read anybody's environment, and anybody may have written our mark into their own
        return fields if psutil.Process(pid).uids().real == os.getuid() else []
    except psutil.Error:
        return []


def _carries(pid: int, name: str, value: str) -> bool:
    return variable(pid, name) == value


def supervisors(mark: str) -> list[int]:
    """Live processes that supervise the server with this mark."""
    return [pid for pid in psutil.pids() if _carries(pid, SUPERVISES, mark) and _living(pid)]


def supervising(folder: Path) -> dict[int, str]:
    """{pid: mark} of the live supervisors, and guardians, whose command line ends in this folder."""
    end = b"\0" + os.fsencode(folder) + b"\0"
    found = {}
    for pid in psutil.pids():
        with contextlib.suppress(*_GONE):
            if (PROC / str(pid) / "cmdline").read_bytes().endswith(end) and _living(pid):
                found[pid] = variable(pid, SUPERVISES) or ""
    return {pid: mark for pid, mark in found.items() if mark}


def _session(leader: str | None) -> str | None:
    """The session that the process of a token leads or has led; None where its pid is another process by now.

    The kernel hands out no pid that is still the session of a process.
    """
    parts = _TOKEN.fullmatch(leader or "")
    if not parts or parts[1] != machine():
        return None
    fields = _stat(int(parts[2]))
    return parts[2] if not fields or fields[19] == parts[3] else None


def _writes_to(pid: int, log: str | None) -> bool:
    """Does the process have the log as its standard output or error?"""
    if not log:
        return False
    wanted, outputs = os.path.realpath(log), (PROC / str(pid) / "fd" / number for number in "12")
    with contextlib.suppress(*_GONE):
        return any(str(out.readlink()).removesuffix(" (deleted)") == wanted for out in outputs)
    return False


def members(mark: str, leader: str | None = None, log: str | None = None) -> list[int]:
    """Live processes of one server: those of this user with its mark, and those in the session of `leader` (a token).

    A session counts only if one of its processes shows that it is the server's: it carries the mark, or writes to the
    server's log. What a record says of a pid is not enough to end the processes there.
    """
    session, proved = _session(leader), False
    marked: list[int] = []
    beside: list[int] = []
    for pid in psutil.pids():
        in_session, carries = _stat(pid)[3:4] == [session], _carries(pid, MARK, mark)
        if not (in_session or carries) or not _living(pid):
            continue
        (marked if carries else beside).append(pid)
        proved = proved or (in_session and (carries or _writes_to(pid, log)))
    return sorted(marked + beside) if proved else marked


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


def kill_members(mark: str, leader: str | None, log: str | None = None, seconds: float = 5.0) -> bool:
    """SIGKILL every process of one server until none is left; True if none is."""

    def none_left() -> bool:
        left = members(mark, leader, log)
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
    """Unlink these files of /dev/shm if they are still the same ones, and nobody uses them; returns their names."""
    now = shm_listing()
    left = [name for name, inode in files.items() if now.get(name) == inode]
    used = shared_memory(psutil.pids()) if left else {}
    removed = [name for name in left if name not in used]
    for name in removed:
        (SHM / name).unlink(missing_ok=True)
    return removed
