"""Ports for servers that bind them later: nobody else takes one in between.

A port that the kernel hands out (bind to 0) can go to the next connection of any program as soon as it is closed. These
lie below the range that it hands out from, and each goes to one test of this user, in whatever process (pytest-xdist),
before the numbers begin anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import tempfile
from pathlib import Path

FIRST, LAST = 20_000, 32_000


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and that no other test is given."""
    counter = Path(tempfile.gettempdir()) / f"quantbench-test-ports-{os.getuid()}"
    with counter.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = int(file.read() or LAST)
        after, before = range(last + 1, LAST), range(FIRST, last + 1)
        free = filter(_is_free, itertools.chain(after, before))
        ports = list(itertools.islice(free, count))
        file.truncate(0)
        file.write(str(ports[-1]))
    return ports
