"""The last words of a run that did not end well: what is kept, the cause, the remedy, after all that snakemake says.

Jobs tell their failures through a file in memory that the run's process holds open: a full disk silences nobody, and
nothing stays behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

TELL = "QUANTBENCH_TELL"
MOST = 3
"""Failures that are repeated in full; more are counted, their logs are kept."""
_NO_ROOM_BYTES = 2**20


class LastWords:
    """Of one run. `kept` says how far its blocks are, such as "2 of 12 blocks"; it is asked when the run is over."""

    def __init__(self, kept: Callable[[], str], folders: Sequence[Path] = ()) -> None:
        self._kept, self._folders = kept, (*folders, Path(".snakemake"), Path(tempfile.gettempdir()))
        self._interrupted = False
        self._told = os.memfd_create("quantbench-failures")
        os.environ[TELL] = f"/proc/{os.getpid()}/fd/{self._told}"

    def begin(self, end_jobs: Callable[[], None]) -> None:
        """From now on this process's end is the run's end.

        end_jobs: what SIGTERM is to do beside, as snakemake waits for its jobs, and the scheduler that sends it kills
        what is left after half a minute.
        """
        atexit.register(self._say)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def hand_on(number: int, frame: FrameType | None) -> None:
            if callable(handler := before[signal.Signals(number)]):
                handler(number, frame)

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            hand_on(number, frame)

        def terminate(number: int, frame: FrameType | None) -> None:
            first, self._interrupted = not self._interrupted, True
            # Not here: snakemake's handler waits for a lock, which the thread that is interrupted may hold.
            threading.Thread(target=hand_on, args=(number, None), daemon=True, name="terminate").start()
            if first:
                threading.Thread(target=end_jobs, daemon=True, name="end jobs").start()

        with contextlib.suppress(ValueError):  # not the main thread: then nobody notes it, and the words are general
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, terminate)

    def end(self) -> None:
        """The run ended well: it has words of its own."""
        atexit.unregister(self._say)

    def _say(self) -> None:
        told = os.pread(self._told, os.fstat(self._told).st_size, 0).decode(errors="replace")
        failures = list(dict.fromkeys(text for text in told.split("\0") if text))
        full = [str(folder) for folder in self._folders if _is_full(folder)]
        print("\n" + words(self._kept(), failures, full, self._interrupted), file=sys.stderr, flush=True)


def tell(failure: str) -> None:
    """Tell the run why a job of it failed; without effect outside of a run."""
    with contextlib.suppress(OSError, KeyError), Path(os.environ[TELL]).open("ab") as file:
        file.write(failure.encode() + b"\0")


def words(kept: str, failures: Sequence[str], full: Sequence[str], interrupted: bool) -> str:
    """What is kept, then why the run ended; the remedy comes last.

    failures: messages of jobs, each with its remedy; full: folders on disks without room.
    """
    goes_on = f"{kept} are kept, and the same command goes on from there"
    if interrupted:
        return f"quantbench: interrupted; {goes_on}."
    rest = len(failures) - MOST
    more = f" (and {rest} more, see logs/)" if rest > 0 else ""
    no_room = [f"no room is left on the disk of {folder}\n  remedy: make room there" for folder in full]
    causes = [*failures[:MOST], *no_room]
    if not causes:
        return f"quantbench: the run ended early, for the reason that stands above; {goes_on}."
    return "\n".join([f"quantbench: the run is not finished; {goes_on}. What failed{more}:", *causes])


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _NO_ROOM_BYTES
    except OSError:
        return False
