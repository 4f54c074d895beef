"""Ask the process of a lane for one block, and wait for it; the process is started if it is not there.

Imports the standard library alone: it is started for every block, and is part of the time between two of them
(docs/benchmarks.md). What the process does: `lane_process`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

RUN = "QUANTBENCH_RUN"
"""The folder of this run in the state folder, written by `serving.agenda`: agenda.json, and a socket per lane."""
WAIT_S = 2.0
"""For its exit code, of a process that has closed the line."""
ENDED = (
    "the process that measures on lane {lane}, or the one that writes, ended in this block (code {code})\n"
    "  remedy: run the same command again, finished blocks are kept; if nobody ended it, look for the kernel's "
    "out-of-memory killer (dmesg)"
)


def main(words: Sequence[str]) -> int:
    """Measure the block that `words` (arm, workload, concurrency, max_tokens, number) name; the job's exit code."""
    arm, workload, *numbers = words
    block = [arm, workload, *map(int, numbers)]
    with open(os.path.join(run_folder(), "agenda.json"), "rb") as file:
        agenda = json.load(file)
    lane, order = agenda["lanes"][arm], agenda["order"]
    later = order[order.index(block) + 1 :] if block in order else []
    following = next((other for other in later if agenda["lanes"][other[0]] == lane), None)
    return ask(lane, {"block": block, "next": following})


def run_folder() -> str:
    """The folder of this run. Raises OSError if it is not this user's alone."""
    folder = os.environ.get(RUN, "")
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise PermissionError(1, "not a folder of yours alone", folder)
    return folder


def ask(lane: str, request: Mapping[str, Any]) -> int:
    """Have a lane's process do what is asked; its exit code, 1 with a line on stderr if it ended without one."""
    folder, answer = os.open(run_folder(), os.O_RDONLY | os.O_DIRECTORY), b""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            process = _connect(line, folder, lane)
            with contextlib.suppress(ConnectionError):
                line.sendall(json.dumps(request).encode() + b"\n")
                answer = line.makefile("rb").readline()
    finally:
        os.close(folder)
    if answer:
        return int(json.loads(answer)["code"])
    from quantbench.last_words import tell  # here, as it is not needed otherwise

    code: int | str = "unknown"
    with contextlib.suppress(subprocess.TimeoutExpired):  # it lives where the one that writes has ended
        code = process.wait(WAIT_S) if process else code
    words = ENDED.format(lane=lane, code=code)
    tell(words)
    print(words, file=sys.stderr, flush=True)
    return 1


def _connect(line: socket.socket, folder: int, lane: str) -> subprocess.Popen[bytes] | None:
    """Connect to the process of a lane; the process, if it had to be started for that.

    Through the folder's descriptor, as the path of a socket may have 107 characters only.
    """
    place = f"/proc/self/fd/{folder}/{lane}"
    lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            line.connect(f"{place}.sock")
            return None
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        with socket.socket(socket.AF_UNIX) as listening:  # made here: it can be asked before it has imported anything
            if os.path.lexists(f"{place}.sock"):
                os.unlink(f"{place}.sock")
            listening.bind(f"{place}.sock")
            listening.listen()
            process = subprocess.Popen(
                [sys.executable, "-m", "quantbench.lane_process", lane, str(listening.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
            )
            line.connect(f"{place}.sock")  # while it is held open here, so that nobody is refused
        return process
    finally:
        os.close(lock)
