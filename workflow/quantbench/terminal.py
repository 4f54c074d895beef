"""A terminal or pipe that goes away in mid-run takes words with it, and nothing else.

So it is where a connection is lost, or a reader such as `head` has had enough. Otherwise the next word raises
BrokenPipeError: a block would be lost as it says how far the run is, and snakemake stands still, its servers up.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterable


def outlive(handles: Iterable[int] = (1, 2)) -> None:
    """From now on what this process says where nobody listens any more is lost, and no error."""
    poll, watched = select.poll(), set()
    for handle in handles:
        with contextlib.suppress(OSError):  # closed from the start
            os.fstat(handle)
            poll.register(handle, 0)  # only that it is gone is told
            watched.add(handle)
    threading.Thread(target=_watch, args=(poll, watched), daemon=True, name="outlive the terminal").start()


def _watch(poll: select.poll, watched: set[int]) -> None:
    while watched:
        for handle, event in poll.poll():
            poll.unregister(handle)
            watched.discard(handle)
            if event & select.POLLNVAL:
                continue
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, handle)
            os.close(nowhere)
