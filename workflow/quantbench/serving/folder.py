"""One run at a time in a working folder. A second one waits, then starts over with what the first has left.

Snakemake's own lock makes the second run fail, and stays behind after `kill -9`. A kernel lock does neither, so the
profile sets `nolock` and `onstart` calls `enter`.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from quantbench import files

SHARED = "QUANTBENCH_SHARED_FOLDER"
"""Set it to 1 where several runs share a folder on purpose, each with its own targets (one batch job per model)."""

_held: list[int] = []


def need_writable(folder: Path) -> None:
    """Raise QuantbenchError if no file can be made in the folder: better before the first job than in each."""
    with files.atomic(folder / "writable") as part:
        part.touch()
    (folder / "writable").unlink()


def is_shared() -> bool:
    """Whether several runs share the folder on purpose."""
    return os.environ.get(SHARED) == "1"


def enter(folder: Path) -> None:
    """Hold the folder until this process ends. If another run has it: wait, then run this command again."""
    if is_shared():
        return
    path = folder / ".snakemake" / "quantbench.lock"
    path.parent.mkdir(exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 40, 0).decode(errors="replace").strip() or "unknown"
        print(f"quantbench: waiting for the run with process id {holder} in this folder", file=sys.stderr, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
        # What this run planned is out of date now; planning again takes seconds.
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    _held.append(handle)
