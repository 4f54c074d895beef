"""The process of a lane: it measures the blocks that jobs ask for, and gets the next one's model ready meanwhile.

`python -m quantbench.lane_process LANE FD` answers on the listening socket FD, one request after the other (see
`ask_lane`). What a block needs is loaded once, and while the files of one block are written the servers change for the
next. It ends with its run, with a job that waits for it, and after a failed block: the next job starts a fresh one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from quantbench import block, jobs, kept
from quantbench.client import tables_io
from quantbench.config.expected import of_run
from quantbench.judge import guards
from quantbench.observe import gpu
from quantbench.records.base import convert, read, write
from quantbench.records.block import BlockKnobs
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready, ServerSpec
from quantbench.serving import agenda, lane, owner
from quantbench.serving.agenda import Reference
from quantbench.serving.starts import Start


class LaneProcess:
    """Measures blocks; config: as jobs get it, with the places of the servers and what blocks are compared with."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._expected = of_run(config)
        self._plan = self._expected.plan
        self._arms = config["arms"]
        self._ahead: threading.Thread | None = None
        self._prepared: lane.Lease | None = None

    def log(self, reference: Reference) -> Path:
        """Where the job of a block keeps its words."""
        arm, workload, concurrency, max_tokens, number = reference
        place = f"{arm}/{workload}/c{concurrency}_t{max_tokens}/b{number}.log"
        return Path("logs", self._plan.gpu, "measure_block", place)

    def measure(self, reference: Reference, following: Reference | None, progress: str | None = None) -> None:
        """Measure one block and write its files, unless just this block lies set aside.

        Meanwhile the lane is prepared for the block that follows. progress: what is said of how far the run is, where
        that is not counted in blocks of the plan. Raises QuantbenchError.
        """
        wanted, results = self._block(reference), Results(self._plan.gpu)
        arm, cell, number, spec = wanted.arm, wanted.knobs.cell, wanted.number, wanted.spec
        records_path, context_path = (results.file(kind, cell, arm=arm, block=number) for kind in ("records", "block"))
        planned = self._expected.wanted(arm, cell)
        now = replace(planned, server=kept.now(planned.server, spec))
        if kept.take_back("measure_block", (context_path, records_path), now):
            return
        wanted = dataclasses.replace(wanted, wanted=now)
        records, context = block.measure(wanted, ahead=self._take_prepared(), released=lambda: self._prepare(following))
        tables_io.write_records(records_path, records)
        # What is declared judges a block, and measures none again.
        declared = convert(self._arms.get(spec.model, {}), ArmPlan)
        ready = read(results.file("ready", model=spec.model), Ready)
        write(context_path, guards.judged(context, ready, None, now, declared))
        block.say_progress(wanted, context, progress)

    def _block(self, reference: Reference) -> block.BlockSpec:
        arm, cell, number = reference[0], Cell.of(*reference[1:4]), reference[4]
        return block.BlockSpec(
            arm=arm,
            number=number,
            spec=convert(self._plan.server_spec(arm), ServerSpec),
            knobs=convert(self._plan.block_knobs(cell), BlockKnobs),
            gpu=self._plan.gpu,
            prompts=Path(self._plan.config["workloads"][cell.workload]["prompts"]),
            # From the plan and not the params: another number of starts measures no block again.
            start=Start(self._plan.start_of(number), self._plan.starts_if_cheap),
        )

    def _prepare(self, following: Reference | None) -> None:
        """Change the lane's model and warm it up, in a thread, which mostly waits for the servers."""
        if following is None:
            return
        ahead = self._block(following)

        def change() -> None:
            with contextlib.suppress(Exception):  # the lease of the block says what is wrong, and mends it
                warm_up = functools.partial(block.warm_up, ahead)
                self._prepared = lane.prepare(ahead.spec, "the next block", ahead.start, warm_up)

        self._ahead = threading.Thread(target=change, daemon=True, name="prepare the lane")
        self._ahead.start()

    def _take_prepared(self) -> lane.Lease | None:
        if self._ahead:
            self._ahead.join()
        prepared, self._ahead, self._prepared = self._prepared, None, None
        return prepared


@contextlib.contextmanager
def _ends_with(job: socket.socket) -> Iterator[None]:
    """End this process if the job that waits for the block ends: nobody wants the block then."""
    over = threading.Event()

    def watch() -> None:
        if not job.recv(1) and not over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=watch, daemon=True, name="end with the job")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            job.shutdown(socket.SHUT_RD)
        watcher.join()


def serve(lane_name: str, listening: socket.socket) -> None:
    """Answer requests with {"code": exit code of the job}.

    A request: {"block": reference, "next": the reference of the block that follows or null, "progress": text or null}.
    """
    folder = agenda.folder()
    process = LaneProcess(json.loads((folder / "config.json").read_bytes()))
    with gpu.session():  # NVML stays loaded from block to block
        while True:
            job, _ = listening.accept()
            with job:
                request = json.loads(job.makefile("rb").readline() or b"null")
                if request is None:
                    continue
                asked = (request["block"], request["next"], request.get("progress"))
                with _ends_with(job):
                    well = jobs.attempt(process.log(asked[0]), functools.partial(process.measure, *asked))
                if not well:
                    (folder / f"{lane_name}.sock").unlink(missing_ok=True)
                job.sendall(json.dumps({"code": 0 if well else 1}).encode() + b"\n")
                if not well:
                    return


def main(lane_name: str, handle: str) -> None:
    """Serve until the run ends."""
    owner.end_with_owner()
    with contextlib.suppress(KeyboardInterrupt), socket.socket(fileno=int(handle)) as listening:
        serve(lane_name, listening)


if __name__ == "__main__":
    main(*sys.argv[1:])
