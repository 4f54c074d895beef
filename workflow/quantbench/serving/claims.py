"""Devices are shared by lanes and by runs: a lock for the time of one lease, a claim for the time of one run.

A run claims all its devices at once or none, so two runs never wait for each other in a circle, and neither
evicts the other's servers. Locks (flock) are freed by the kernel when their holder dies; a claim whose owner is
dead is void.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.observe import given
from quantbench.records.base import write
from quantbench.records.serving import Claim
from quantbench.serving import owner, processes, trust

_POLL_S = 0.25


def _folder() -> Path:
    return trust.folder(owner.state_dir() / "devices")


def file_of(device: str, ending: str) -> Path:
    """A file about a device, by the name that all runs of this host know it by."""
    [name] = given.cards([device])
    return _folder() / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.{ending}"


@contextlib.contextmanager
def hold(devices: Iterable[str]) -> Iterator[None]:
    """Hold the locks of these devices, waiting for other leases; always taken in the same order."""
    with contextlib.ExitStack() as stack:
        for device in sorted(given.cards(devices)):
            stack.enter_context(trust.locked(file_of(device, "lock")))
        yield


@contextlib.contextmanager
def try_hold(devices: Iterable[str]) -> Iterator[bool]:
    """Like `hold`, without waiting: yields False if one of them is taken."""
    with contextlib.ExitStack() as stack:
        try:
            for device in sorted(given.cards(devices)):
                stack.enter_context(trust.locked(file_of(device, "lock"), wait=False))
        except BlockingIOError:
            yield False
        else:
            yield True


def claimed_by(device: str) -> Claim | None:
    """The living claim of a device; None if it is free, or its file is not one."""
    with contextlib.suppress(FileNotFoundError, QuantbenchError):
        claim = trust.read(file_of(device, "json"), Claim)
        return claim if processes.alive(claim.owner) else None
    return None


def claim(devices: Iterable[str]) -> float:
    """Claim all these devices for this run's owner, waiting for other runs; returns the seconds waited."""
    mine, named, start, announced = owner.current(), sorted(set(devices)), time.monotonic(), False
    wanted = given.cards(named)
    while True:
        with trust.locked(_folder() / "claims.lock"):
            held = [c for c in map(claimed_by, wanted) if c and c.owner != mine]
            if not held:
                for device in wanted:
                    if not claimed_by(device):
                        write(file_of(device, "json"), Claim(owner=mine, folder=str(Path.cwd()), since=time.time()))
                return time.monotonic() - start
        if not announced:
            announced = True
            who = f"another run (pid {processes.pid_of(held[0].owner)} in {held[0].folder})"
            print(f"waiting for device {', '.join(named)}: {who} uses it", file=sys.stderr, flush=True)
        time.sleep(_POLL_S)


def release() -> None:
    """Give back every device that this owner has claimed."""
    mine = owner.current()
    with trust.locked(_folder() / "claims.lock"):
        for path in _folder().glob("*.json"):
            with contextlib.suppress(FileNotFoundError, QuantbenchError):
                if trust.read(path, Claim).owner == mine:
                    path.unlink()
