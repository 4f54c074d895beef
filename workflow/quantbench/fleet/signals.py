"""SIGTERM goes on to the jobs of a fleet, as Snakemake waits for them, and the scheduler that sends it waits seconds.

SLURM, where it tracks processes by cgroups, sends it to the first process of a step alone, which is a Snakemake.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading

import psutil


@functools.cache
def hand_on() -> None:
    """From now on the first SIGTERM goes on to what this process has started, whatever handler is set.

    Python itself writes signals to a descriptor: Snakemake sets its own handler later, and that one can wait for a lock
    which the interrupted thread holds. Without effect outside of the main thread.
    """
    came, comes = os.pipe()
    os.set_blocking(comes, False)
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(comes, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(came,), daemon=True, name="hand on SIGTERM").start()


def _watch(came: int) -> None:
    while os.read(came, 1) != bytes([signal.SIGTERM]):
        pass
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            child.terminate()
