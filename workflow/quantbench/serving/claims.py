"""Devices are shared by lanes and by runs: a lock for the time of one lease, a claim for the time of one run.

A run claims all its devices at once or none, so two runs never wait for each other in a circle, and neither
evicts the other's servers. Locks (flock) are freed by the kernel when their holder dies; a claim whose owner is
dead is void.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.records.base import read, write
from quantbench.records.serving import Claim
from quantbench.serving import owner, processes

_POLL_S = 0.25


def _folder() -> Path:
    path = owner.state_dir() / "devices"
    path.mkdir(exist_ok=True)
    return path


def _file(device: str, ending: str) -> Path:
    return _folder() / f"{re.sub(r'[^A-Za-z0-9.-]', '_', device)}.{ending}"


@contextlib.contextmanager
def _flock(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def hold(devices: Iterable[str]) -> Iterator[None]:
    """Hold the locks of these devices, waiting for other leases; always taken in the same order."""
    with contextlib.ExitStack() as stack:
        for device in sorted(set(devices)):
            stack.enter_context(_flock(_file(device, "lock")))
        yield


@contextlib.contextmanager
def try_hold(devices: Iterable[str]) -> Iterator[bool]:
    """Like `hold`, without waiting: yields False if one of them is taken."""
    with contextlib.ExitStack() as stack:
        try:
            for device in sorted(set(devices)):
                handle = stack.enter_context(_file(device, "lock").open("a"))
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def claimed_by(device: str) -> Claim | None:
    """The living claim of a device; None if it is free, or its file is not one."""
    with contextlib.suppress(FileNotFoundError, QuantbenchError):
        claim = read(_file(device, "json"), Claim)
        return claim if processes.alive(claim.owner) else None
    return None


def claim(devices: Iterable[str]) -> float:
    """Claim all these devices for this run's owner, waiting for other runs; returns the seconds waited."""
    mine, wanted, start, announced = owner.current(), sorted(set(devices)), time.monotonic(), False
    while True:
        with _flock(_folder() / "claims.lock"):
            held = [c for c in map(claimed_by, wanted) if c and c.owner != mine]
            if not held:
                for device in wanted:
                    if not claimed_by(device):
                        write(_file(device, "json"), Claim(owner=mine, folder=str(Path.cwd()), since=time.time()))
                return time.monotonic() - start
        if not announced:
            announced = True
            who = f"another run (pid {processes.pid_of(held[0].owner)} in {held[0].folder})"
            print(f"waiting for device {', '.join(wanted)}: {who} uses it", file=sys.stderr, flush=True)
        time.sleep(_POLL_S)


def release() -> None:
    """Give back every device that this owner has claimed."""
    mine = owner.current()
    with _flock(_folder() / "claims.lock"):
        for path in _folder().glob("*.json"):
            with contextlib.suppress(FileNotFoundError, QuantbenchError):
                if read(path, Claim).owner == mine:
                    path.unlink()
