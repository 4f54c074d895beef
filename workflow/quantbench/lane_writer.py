"""The second process of a lane: it parses, judges and writes one block while the next one is measured.

`python -m quantbench.lane_writer FD` gets measured blocks over the socket FD, each with the line to the job that waits
for it, which it answers. A process and no thread: the client that measures must not share its interpreter. It ends with
its run, with a job that waits for it, and, when it has done what it was given, with the process that measures.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from quantbench import block, jobs, terminal
from quantbench.client import tables_io
from quantbench.judge import guards
from quantbench.records.base import read, write
from quantbench.records.layout import Results
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready
from quantbench.serving import owner

NICE = 10
"""What is measured goes first."""


@dataclass(frozen=True)
class Measured:
    """What a job has to write: its block, or nothing where its files are there.

    log: where it keeps its words; declared: what judges the block and measures none again; progress: what is said of
    how far the run is, where that is not counted in blocks of the plan.
    """

    log: Path
    heard: block.Heard | None
    declared: ArmPlan
    progress: str | None

    def write(self) -> None:
        """Parse, judge, write, and say how far the run is. Raises QuantbenchError."""
        if self.heard is None:
            return
        asked = self.heard.block
        records, context = self.heard.parsed()
        context_path, records_path = asked.files
        tables_io.write_records(records_path, records)
        ready = read(Results(asked.gpu).file("ready", model=asked.spec.model), Ready)
        write(context_path, guards.judged(context, ready, None, asked.wanted, self.declared))
        with contextlib.suppress(OSError, psutil.Error):  # what is written is not lost for a word on it
            block.say_progress(asked, context, self.progress)


class Writer:
    """The process, as the one that measures sees it; started anew if it has ended."""

    def __init__(self) -> None:
        self._start()

    def take(self, job: socket.socket, measured: Measured) -> None:
        """Have a block written and its job answered. Does not wait for that."""
        # In memory, so that nobody waits for the other: a pipe holds less than a block.
        with os.fdopen(os.memfd_create("quantbench-block"), "wb") as file:
            pickle.dump(measured, file, pickle.HIGHEST_PROTOCOL)
            file.flush()
            try:
                self._hand_over(job, file)
            except ConnectionError:
                self._line.close()
                self._start()
                self._hand_over(job, file)

    def _hand_over(self, job: socket.socket, file: BinaryIO) -> None:
        socket.send_fds(self._line, [b"\n"], [job.fileno(), file.fileno()])

    def _start(self) -> None:
        self._line, other = socket.socketpair()
        with other:
            command = [sys.executable, "-m", "quantbench.lane_writer", str(other.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()])


@contextlib.contextmanager
def ends_with(job: socket.socket) -> Iterator[None]:
    """End this process if the job that waits for it ends: nobody wants the block then."""
    over = os.eventfd(0)

    def watch() -> None:
        seen, _, _ = select.select([job.fileno(), over], [], [])
        if over not in seen:
            os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=watch, daemon=True, name="end with the job")
    watcher.start()
    try:
        yield
    finally:
        os.eventfd_write(over, 1)
        watcher.join()
        os.close(over)


def answer(job: socket.socket, well: bool) -> None:
    """Tell a job its exit code, if it is still there."""
    with contextlib.suppress(ConnectionError):
        job.sendall(json.dumps({"code": 0 if well else 1}).encode() + b"\n")


def serve(line: socket.socket) -> None:
    """Write what comes, until the process that measures has ended."""
    while True:
        word, handles, _, _ = socket.recv_fds(line, 1, 2)
        if not word:
            return
        with socket.socket(fileno=handles[0]) as job, os.fdopen(handles[1], "rb") as file:
            file.seek(0)
            measured: Measured = pickle.load(file)
            with ends_with(job):
                well = jobs.attempt(measured.log, measured.write)
            answer(job, well)
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
