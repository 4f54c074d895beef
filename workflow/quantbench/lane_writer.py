"""The second process of a lane: it parses, judges and writes one block while the next one is measured.

`python -m quantbench.lane_writer FD` gets measured blocks over the socket FD, each with the line to the job that waits,
which it answers at the job's last block, or at one that it cannot write. A process and no thread: the client that
measures must not share its interpreter. It ends with its run, with a job that waits for it, and, when it has done what
it was given, with the process that measures.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
from msgspec.structs import replace

from quantbench import block, jobs, terminal
from quantbench.ask_lane import FAILED, MEASURED
from quantbench.client import tables_io
from quantbench.errors import QuantbenchError
from quantbench.judge import guards
from quantbench.records.base import read, write
from quantbench.records.block import BlockContext
from quantbench.records.layout import Results
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready
from quantbench.serving import agenda, owner
from quantbench.serving.agenda import Reference

GONE = "the process that writes blocks has ended, a fresh one goes on; what it had not written is measured again"
NICE = 10
"""What is measured goes first."""


@dataclass(frozen=True)
class Place:
    """Which block of which lane, and where its words are kept."""

    lane: str
    reference: Reference
    log: Path


@dataclass(frozen=True)
class Measured:
    """What is to be written: a block, or nothing where its files are there.

    declared: what judges the block and measures none again; progress: what is said of how far the run is, where that
    is not counted in blocks of the plan.
    """

    place: Place
    heard: block.Heard | None
    declared: ArmPlan
    progress: str | None

    def write(self) -> None:
        """Parse, judge, write, and say how far the run is. Raises QuantbenchError."""
        if self.heard:
            self._write(self.heard)
        agenda.note(self.place.lane, MEASURED, self.place.reference)

    def _write(self, heard: block.Heard) -> None:
        asked = heard.block
        ready = read(Results(asked.gpu).file("ready", model=asked.spec.model), Ready)
        records, context = heard.parsed()
        judged = guards.judged(context, ready, None, asked.wanted, self.declared)
        if not any(record.ok for record in records):
            raise _nothing_answered(asked, judged, ready)
        context_path, records_path = asked.files
        context_path.unlink(missing_ok=True)  # it tells of the records that are about to be replaced
        judged = replace(judged, records_sha256=tables_io.write_records(records_path, records))
        write(context_path, judged)
        with contextlib.suppress(OSError, psutil.Error):  # what is written is not lost for a word on it
            block.say_progress(asked, context, self.progress)


def _nothing_answered(asked: block.BlockSpec, context: BlockContext, ready: Ready) -> QuantbenchError:
    """Of such a block nothing is kept: it says nothing of the server's speed, and would have to be deleted by hand."""
    told = {guard.id: guard.detail for guard in context.guards}
    return QuantbenchError(
        f"{asked.arm} {asked.seed} at {ready.url}: no request succeeded; {told['failed_requests']}",
        remedy="remove the cause, and run the same command again; docs/measurement.md says what the codes mean"
        + (f", and {ready.log} may say more" if ready.log else ""),
    )


class Writer:
    """The process, as the one that measures sees it; started anew if it has ended."""

    def __init__(self) -> None:
        self._line: socket.socket
        self._start()

    def take(self, job: socket.socket, measured: Measured, code: int, *, last: bool) -> None:
        """Have a block written, once the one before is: of a run that is killed no more is lost than two blocks.

        code: the job's answer if that fails. last: of a job, which is answered 0 then.
        """
        # In memory, so that nobody waits for the other: a pipe holds less than a block.
        with os.fdopen(os.memfd_create("quantbench-block"), "wb") as file:
            pickle.dump((measured, code, last), file, pickle.HIGHEST_PROTOCOL)
            file.flush()
            try:
                self._wait()
                self._hand_over(job, file)
            except ConnectionError:
                print(GONE, file=sys.stderr, flush=True)
                self._line.close()
                self._start()
                self._hand_over(job, file)

    def finish(self) -> None:
        """Wait until all is written that was taken."""
        self._line.close()
        self._process.wait()

    def _hand_over(self, job: socket.socket, file: BinaryIO) -> None:
        socket.send_fds(self._line, [b"\n"], [job.fileno(), file.fileno()])
        self._busy = True

    def _wait(self) -> None:
        if self._busy and not self._line.recv(1):
            raise ConnectionError
        self._busy = False

    def _start(self) -> None:
        self._busy = False
        self._line, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", "quantbench.lane_writer", str(other.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()])


@contextlib.contextmanager
def ends_with(job: socket.socket) -> Iterator[Callable[[], None]]:
    """End this process if the job that waits for it ends: nobody wants the block then. Yields what ends the watch."""
    over = os.eventfd(0)

    def watch() -> None:
        seen, _, _ = select.select([job.fileno(), over], [], [])
        if over not in seen:
            os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=watch, daemon=True, name="end with the job")
    watcher.start()

    def enough() -> None:
        os.eventfd_write(over, 1)
        watcher.join()

    try:
        yield enough
    finally:
        enough()
        os.close(over)


def answer(job: socket.socket, code: int) -> None:
    """Tell a job its exit code, if it is still there."""
    with contextlib.suppress(ConnectionError):
        job.sendall(json.dumps({"code": code}).encode() + b"\n")


def attempt(place: Place, work: Callable[[], None], code: int, *, last: bool) -> int:
    """`jobs.attempt` at a block, of which a failure is noted.

    Returns 0, or what to answer to the job that waits: `code`, or 1 where the failure cannot be noted, as the block
    would be asked for again and again. last: with it its job is done.
    """
    if jobs.attempt(place.log, work, last=last):
        return 0
    noted = jobs.attempt(place.log, lambda: agenda.note(place.lane, FAILED, place.reference[:4]), last=False)
    return code if noted else 1


def serve(line: socket.socket) -> None:
    """Write what comes, until the process that measures has ended."""
    while True:
        word, handles, _, _ = socket.recv_fds(line, 1, 2)
        if not word:
            return
        with socket.socket(fileno=handles[0]) as job, os.fdopen(handles[1], "rb") as file:
            file.seek(0)
            measured: Measured
            measured, code, last = pickle.load(file)
            with ends_with(job):
                failed = attempt(measured.place, measured.write, code, last=last)
            if last or failed:
                answer(job, failed)
            with contextlib.suppress(ConnectionError):  # what it was given is written, be it the last
                line.sendall(b"\n")
        del measured


def main(handle: str) -> None:
    """Serve until the run ends."""
    owner.end_with_owner()
    terminal.outlive()
    os.nice(NICE)
    with contextlib.suppress(KeyboardInterrupt, ConnectionError), socket.socket(fileno=int(handle)) as line:
        serve(line)


if __name__ == "__main__":
    main(*sys.argv[1:])
