"""Ask the process of a lane for the blocks of one tuple, and wait for them; it is started if it is not there.

Blocks of several tuples take turns (A B B A), so a job has its lane do all that comes before its own last block, as far
as that is to be done in this run. Imports the standard library alone, as it runs between two blocks
(docs/benchmarks.md). What the process does: `lane_process`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

RUN = "QUANTBENCH_RUN"
"""The folder of this run in the state folder, by `serving.agenda`: agenda.json, a socket and a journal per lane."""
WAIT_S = 2.0
"""For its exit code, of a process that has closed the line."""
UNWRITTEN = (
    "{file} cannot be written: {error}; all blocks of the tuple are there\n"
    "  remedy: make room, or the folder writable, and run the same command again: nothing is measured for it"
)
GONE = (
    "what this run's lanes are told, in {folder}, is gone or damaged: {error}\n"
    "  remedy: run the same command again, finished blocks are kept; leave the state folder alone while a run lives"
)
AGAIN = 75
"""A code: a block of another tuple failed on the way; a fresh process goes on without that tuple (EX_TEMPFAIL)."""
MEASURED, FAILED = "measured", "failed"
"""Words of a lane's journal."""
Tuple = tuple[Any, ...]
"""Arm, workload, concurrency, max_tokens."""
Block = tuple[Any, ...]
"""A tuple's, and the number of one of its blocks."""
ENDED = (
    "the process that measures on lane {lane}, or the one that writes, ended in this block (code {code})\n"
    "  remedy: run the same command again, finished blocks are kept; if nobody ended it, look for the kernel's "
    "out-of-memory killer (dmesg)"
)


def main(words: Sequence[str]) -> int:
    """Have a tuple measured, and write down that it is; the job's exit code.

    words: arm, workload, concurrency, max_tokens, and the file to write.
    """
    arm, workload, concurrency, max_tokens, done = words
    mine = (arm, workload, int(concurrency), int(max_tokens))
    try:
        with open(os.path.join(run_folder(), "agenda.json"), "rb") as file:
            agenda = json.load(file)
    except (FileNotFoundError, ValueError) as error:
        return _failed(GONE.format(folder=os.environ.get(RUN), error=error))
    lane = agenda["lanes"][arm]
    with open(os.path.join(run_folder(), f"{lane}.turn"), "w", encoding="utf-8") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # what another job has measured on its way is not asked for again
        while request := _request(agenda, lane, mine):
            code = ask(lane, request)
            if code == AGAIN:  # of the process that said so nothing more is asked, be it about to end
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(run_folder(), f"{lane}.sock"))
            elif code:
                return code
    measured = sorted(number for *whose, number in agenda["order"] if tuple(whose) == mine)
    content = json.dumps({"measured": measured, "blocks": blocks_in(os.path.dirname(done))}, indent=2)
    try:
        with open(f"{done}.part", "w", encoding="utf-8") as file:
            file.write(content + "\n")
        os.replace(f"{done}.part", done)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(f"{done}.part")
        return _failed(UNWRITTEN.format(file=done, error=error.strerror or error))
    return 0


def blocks_in(folder: str) -> dict[str, Any]:
    """`records.block.BlockFiles` of the whole blocks in a folder, by name."""
    found = {}
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(os.path.join(folder, name))
        if suffix == ".json" and os.path.exists(f"{stem}.parquet"):
            with open(f"{stem}.json", "rb") as file:
                context = hashlib.sha256(file.read()).hexdigest()
            found[os.path.basename(stem)] = {"context": context, "records": os.path.getsize(f"{stem}.parquet")}
    return found


def _request(agenda: Mapping[str, Any], lane: str, mine: Tuple) -> dict[str, Any] | None:
    """What to ask of the lane; None if all blocks of the tuple are there."""
    arms = {arm for arm, its in agenda["lanes"].items() if its == lane}
    told = journal(lane)
    up = {arm for arm in arms if arm == mine[0] or _is_up(*agenda["servers"][arm])}
    left = [
        block
        for block in map(tuple, agenda["order"])
        if block[0] in up and block not in told[MEASURED] and (block[:4] == mine or block[:4] not in told[FAILED])
    ]
    last = max((place for place, block in enumerate(left) if block[:4] == mine), default=None)
    if last is None:
        return None
    return {"blocks": left[: last + 1], "next": next(iter(left[last + 1 :]), None), "tuple": mine}


def _is_up(ready: str, was: int | None) -> bool:
    """Whether a server was started, and by this run if that is to start it; was: the record's time before, in ns."""
    try:
        return os.stat(ready).st_mtime_ns != was
    except OSError:
        return False


def journal(lane: str) -> Mapping[str, set[Block | Tuple]]:
    """Of this run: the blocks that a lane has measured, and the tuples of which one could not be measured."""
    told: dict[str, set[Block | Tuple]] = {MEASURED: set(), FAILED: set()}
    with contextlib.suppress(FileNotFoundError), open(os.path.join(run_folder(), f"{lane}.journal"), "rb") as file:
        for line in file:
            what, whose = json.loads(line)
            told[what].add(tuple(whose))
    return told


def run_folder() -> str:
    """The folder of this run. Raises OSError if it is not this user's alone."""
    folder = os.environ.get(RUN, "")
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
        raise PermissionError(1, "not a folder of yours alone", folder)
    return folder


def ask(lane: str, request: Mapping[str, Any]) -> int:
    """Have a lane's process do what is asked; its exit code, 1 with a line on stderr if it ended without one."""
    folder, process, taken, answer = os.open(run_folder(), os.O_RDONLY | os.O_DIRECTORY), None, b"", b""
    try:
        while not taken and process is None:  # one that was about to end has begun nothing: a fresh one is asked
            with socket.socket(socket.AF_UNIX) as line:
                process = _connect(line, folder, lane)
                with contextlib.suppress(ConnectionError), line.makefile("rb") as words:
                    line.sendall(json.dumps(request).encode() + b"\n")
                    taken, answer = words.readline(), words.readline()
    finally:
        os.close(folder)
    if answer:
        return int(json.loads(answer)["code"])
    code: int | str = "unknown"
    with contextlib.suppress(subprocess.TimeoutExpired):  # it lives where the one that writes has ended
        code = process.wait(WAIT_S) if process else code
    return _failed(ENDED.format(lane=lane, code=code))


def _failed(words: str) -> int:
    """Say why the job fails; its exit code."""
    from quantbench.last_words import tell  # here, as it is not needed otherwise

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
