"""The process of a lane: it measures the blocks that jobs ask for, and goes ahead with the next one meanwhile.

`python -m quantbench.lane_process LANE FD` answers on the listening socket FD, one request after the other (see
`ask_lane`). What a block needs is loaded once, and while the files of one block are written the servers change for the
next. On a machine with CPUs to spare the next block is measured at once, and not when its job has come to ask for it;
only for a job are files written, so what none asks for is as if it had not been. The process ends with its run, with a
job that waits for it, and after a failed block: the next job starts a fresh one.
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
from quantbench.records.block import BlockContext, BlockKnobs
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.plan import ArmPlan
from quantbench.records.request import RequestRecord
from quantbench.records.server import Ready, ServerSpec
from quantbench.serving import agenda, lane, owner
from quantbench.serving.agenda import Reference
from quantbench.serving.starts import Start

AHEAD_CPUS = 8
"""Fewer, and what snakemake does between two jobs (0.4 s of a core) would take them from the block beside it."""
Measured = tuple[list[RequestRecord], BlockContext]
Prepared = tuple[block.BlockSpec, lane.Lease]
"""The next block, and what `lane.prepare` has done for it."""


@dataclasses.dataclass(frozen=True)
class Ahead:
    """A block that was measured before its job asked: what came of it, or why nothing did."""

    block: block.BlockSpec
    measured: Measured | None = None
    failure: Exception | None = None


class LaneProcess:
    """Measures blocks; config: as jobs get it, with the places of the servers and what blocks are compared with.

    cpus: that this process may use.
    """

    def __init__(self, config: dict[str, Any], cpus: int) -> None:
        self._expected = of_run(config)
        self._plan = self._expected.plan
        self._arms = config["arms"]
        self._spare = cpus >= AHEAD_CPUS and self._plan.config["server"]["platform"] != "cpu"
        self._preparing: threading.Thread | None = None
        self._prepared: Prepared | None = None
        self._ahead: Ahead | None = None

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
        wanted = self._block(reference)
        if kept.take_back("measure_block", self._files(wanted), wanted.wanted):
            return
        records, context = self._taken(wanted, following) or self._measured(wanted, following)
        context_path, records_path = self._files(wanted)
        tables_io.write_records(records_path, records)
        # What is declared judges a block, and measures none again.
        declared = convert(self._arms.get(wanted.spec.model, {}), ArmPlan)
        ready = read(Results(self._plan.gpu).file("ready", model=wanted.spec.model), Ready)
        write(context_path, guards.judged(context, ready, None, wanted.wanted, declared))
        block.say_progress(wanted, context, progress)

    def go_ahead(self) -> None:
        """Measure the block that the lane is prepared for, so that its job finds it done."""
        prepared = self._take_prepared() if self._spare else None
        if prepared is None or kept.lies_aside("measure_block", self._files(prepared[0]), prepared[0].wanted):
            return
        wanted, lease = prepared
        try:
            self._ahead = Ahead(wanted, block.measure(wanted, ahead=lease))
        except Exception as failure:
            self._ahead = Ahead(wanted, failure=failure)

    def _taken(self, wanted: block.BlockSpec, following: Reference | None) -> Measured | None:
        """What was measured ahead, if it is just this block. Raises what its measurement has raised."""
        done, self._ahead = self._ahead, None
        if done is None or done.block != wanted:
            return None
        if done.failure:
            raise done.failure
        self._prepare(following)
        return done.measured

    def _measured(self, wanted: block.BlockSpec, following: Reference | None) -> Measured:
        prepared = self._take_prepared()
        return block.measure(wanted, prepared and prepared[1], released=lambda: self._prepare(following))

    def _files(self, wanted: block.BlockSpec) -> tuple[Path, Path]:
        """Context and records."""
        results, cell = Results(self._plan.gpu), wanted.knobs.cell
        context, records = (
            results.file(kind, cell, arm=wanted.arm, block=wanted.number) for kind in ("block", "records")
        )
        return context, records

    def _block(self, reference: Reference) -> block.BlockSpec:
        arm, cell, number = reference[0], Cell.of(*reference[1:4]), reference[4]
        spec, planned = convert(self._plan.server_spec(arm), ServerSpec), self._expected.wanted(arm, cell)
        return block.BlockSpec(
            arm=arm,
            number=number,
            spec=spec,
            knobs=convert(self._plan.block_knobs(cell), BlockKnobs),
            gpu=self._plan.gpu,
            prompts=Path(self._plan.config["workloads"][cell.workload]["prompts"]),
            wanted=replace(planned, server=kept.now(planned.server, spec)),
            # From the plan and not the params: another number of starts measures no block again.
            start=Start(self._plan.start_of(number), self._plan.starts_if_cheap),
        )

    def _prepare(self, following: Reference | None) -> None:
        """Change the lane's model and warm it up, in a thread, which mostly waits for the servers."""
        if following is None:
            return

        def change() -> None:
            with contextlib.suppress(Exception):  # the lease of the block says what is wrong, and mends it
                ahead = self._block(following)
                warm_up = functools.partial(block.warm_up, ahead)
                if lease := lane.prepare(ahead.spec, "the next block", ahead.start, warm_up):
                    self._prepared = (ahead, lease)

        self._preparing = threading.Thread(target=change, daemon=True, name="prepare the lane")
        self._preparing.start()

    def _take_prepared(self) -> Prepared | None:
        if self._preparing:
            self._preparing.join()
        prepared, self._preparing, self._prepared = self._prepared, None, None
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
    process = LaneProcess(json.loads((folder / "config.json").read_bytes()), len(os.sched_getaffinity(0)))
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
            process.go_ahead()


def main(lane_name: str, handle: str) -> None:
    """Serve until the run ends."""
    owner.end_with_owner()
    with contextlib.suppress(KeyboardInterrupt), socket.socket(fileno=int(handle)) as listening:
        serve(lane_name, listening)


if __name__ == "__main__":
    main(*sys.argv[1:])
