"""The process of a lane: it measures the blocks that jobs ask for, and goes ahead with the next one meanwhile.

`python -m quantbench.lane_process LANE FD` answers on the listening socket FD, one request after the other (see
`ask_lane`). What a block needs is loaded once, and while the files of one block are written the servers change for the
next. On a machine with CPUs to spare a second process does the writing (`lane_writer`), and after the last block of a
request the one that follows is measured at once, and not when its job has come to ask for it; only for a job are files
written, so what none asks for is as if it had not been. The process ends with its run, with a job that waits for it,
and after a block that could not be measured: the next request starts a fresh one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from quantbench import block, kept, terminal
from quantbench.ask_lane import AGAIN
from quantbench.config.expected import of_run
from quantbench.lane_writer import Measured, Place, Writer, answer, attempt, ends_with
from quantbench.observe import gpu
from quantbench.records.base import convert
from quantbench.records.block import BlockKnobs
from quantbench.records.cell import Cell
from quantbench.records.layout import TUPLE_LOG
from quantbench.records.plan import ArmPlan
from quantbench.records.server import ServerSpec
from quantbench.serving import agenda, lane, owner
from quantbench.serving.agenda import Reference
from quantbench.serving.starts import Start

AHEAD_CPUS = 8
"""Fewer, and what snakemake does between two jobs (0.4 s of a core) and the writing of the block before (up to 1 s)
would take them from the block beside it."""


@dataclasses.dataclass(frozen=True)
class Ahead:
    """A block that was measured before its job asked: what came of it, or why nothing did."""

    wanted: block.BlockSpec
    heard: block.Heard | None = None
    failure: Exception | None = None


class LaneProcess:
    """Measures blocks; config: as jobs get it, with the places of the servers and what blocks are compared with.

    cpus: that this process may use. spare: whether they are enough to go ahead, and to write beside a block.
    """

    def __init__(self, lane_name: str, config: dict[str, Any], cpus: int) -> None:
        self._lane = lane_name
        self._expected = of_run(config)
        self._plan = self._expected.plan
        self._arms = config["arms"]
        self.spare = cpus >= AHEAD_CPUS and self._plan.config["server"]["platform"] != "cpu"
        self._following: Reference | None = None
        self._preparing: threading.Thread | None = None
        self._prepared: lane.Lease | None = None
        self._ahead: Ahead | None = None
        self._warmed: block.Warmed = set()

    def place(self, reference: Reference) -> Place:
        """Of a block; the job of its tuple keeps its words."""
        arm, workload, concurrency, max_tokens, _ = reference
        cell = {"workload": workload, "concurrency": concurrency, "max_tokens": max_tokens}
        return Place(self._lane, reference, Path(TUPLE_LOG.format(gpu=self._plan.gpu, arm=arm, **cell)))

    def measure(self, reference: Reference, following: Reference | None, progress: str | None = None) -> Measured:
        """Measure one block, unless it was measured ahead or lies set aside. Returns what is left to write.

        Where nobody goes ahead, the lane is then prepared for the block that follows. Raises QuantbenchError.
        """
        wanted, self._following = self._block(reference), following
        declared = convert(self._arms.get(wanted.spec.model, {}), ArmPlan)
        if kept.take_back("block", wanted.files, wanted.wanted):
            return Measured(self.place(reference), None, declared, progress)
        heard = self._taken(wanted)
        if heard is None:
            heard = block.measure(wanted, self._take_prepared(), self._warmed)
        if not self.spare:
            self._prepare(following)
        return Measured(self.place(reference), heard, declared, progress)

    def go_ahead(self) -> None:
        """Measure the block that follows, so that its job finds it done; not where a server had to be started first."""
        if (wanted := self._next()) is None:
            return
        try:
            self._ahead = Ahead(wanted, block.measure(wanted, warmed=self._warmed))
        except Exception as failure:
            self._ahead = Ahead(wanted, failure=failure)

    def _next(self) -> block.BlockSpec | None:
        """The block that follows, if it has to be measured and its server is there."""
        with contextlib.suppress(Exception):  # its job says what is wrong
            wanted = self._following and self._block(self._following)
            if wanted and not kept.lies_aside("block", wanted.files, wanted.wanted):
                return wanted if lane.can_wake(wanted.spec, wanted.start) else None
        return None

    def _taken(self, wanted: block.BlockSpec) -> block.Heard | None:
        """What was measured ahead, if it is just this block. Raises what its measurement has raised."""
        done, self._ahead = self._ahead, None
        if done is None or done.wanted != wanted:
            return None
        if done.failure:
            raise done.failure
        return done.heard

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
            beyond=self._plan.beyond(cell, number),
        )

    def _prepare(self, following: Reference | None) -> None:
        """Change the lane's model and warm it up, in a thread, which mostly waits for the servers."""
        if following is None:
            return

        def change() -> None:
            with contextlib.suppress(Exception):  # the lease of the block says what is wrong, and mends it
                ahead = self._block(following)
                warm_up = functools.partial(block.warm_up, ahead, warmed=self._warmed)
                self._prepared = lane.prepare(ahead.spec, "the next block", ahead.start, warm_up)

        self._preparing = threading.Thread(target=change, daemon=True, name="prepare the lane")
        self._preparing.start()

    def _take_prepared(self) -> lane.Lease | None:
        """What was done ahead; whether it is for just this server the lease sees."""
        if self._preparing:
            self._preparing.join()
        prepared, self._preparing, self._prepared = self._prepared, None, None
        return prepared


def serve(lane_name: str, listening: socket.socket) -> None:
    """Answer requests with a line when they are taken, then {"code": exit code of the job, or `ask_lane.AGAIN`}.

    A request: {"blocks": references in order, "next": the reference of the block that follows or null, "tuple": whose
    job it is, all blocks where not given, "progress": text or not given}.
    """
    folder = agenda.folder()
    config = json.loads((folder / "config.json").read_bytes())
    process = LaneProcess(lane_name, config, len(os.sched_getaffinity(0)))
    writer = Writer() if process.spare else None
    with gpu.session():  # NVML stays loaded from block to block
        while True:
            job, _ = listening.accept()
            with job:
                request = json.loads(job.makefile("rb").readline() or b"null")
                if request is None:
                    continue
                with contextlib.suppress(ConnectionError):
                    job.sendall(b"\n")
                with ends_with(job) as enough:
                    code = _measured(process, writer, job, request, enough)
                if code:
                    (folder / f"{lane_name}.sock").unlink(missing_ok=True)
                    if writer:
                        writer.finish()
                if code or not writer:
                    answer(job, code)
            if code:
                return
            if writer:
                process.go_ahead()


def _measured(
    process: LaneProcess,
    writer: Writer | None,
    job: socket.socket,
    request: Mapping[str, Any],
    enough: Callable[[], None],
) -> int:
    """Do all of a request, and write it or have it written; its answer, where it is not the writer's to give.

    enough: called before the writer may answer, as the job then ends.
    """
    blocks, mine = request["blocks"], request.get("tuple")
    for reference, following in pairwise([*blocks, request["next"]]):
        code, last = 1 if mine in (None, reference[:4]) else AGAIN, reference == blocks[-1]

        def work(reference: Any = reference, following: Any = following, code: int = code, last: bool = last) -> None:
            measured = process.measure(reference, following, request.get("progress"))
            if writer and last:
                enough()
            writer.take(job, measured, code, last=last) if writer else measured.write()

        if failed := attempt(process.place(reference), work, code, last=last and writer is None):
            return failed
    return 0


def main(lane_name: str, handle: str) -> None:
    """Serve until the run ends."""
    owner.end_with_owner()
    terminal.outlive()
    with contextlib.suppress(KeyboardInterrupt), socket.socket(fileno=int(handle)) as listening:
        serve(lane_name, listening)


if __name__ == "__main__":
    main(*sys.argv[1:])
