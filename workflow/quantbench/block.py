"""One block: lease the server, ask it, and keep every fact about the asking.

The block is the unit of replication: one closed-loop run of at least `min_seconds` at one concurrency. What it means is
judged from the kept facts (`guards.judged`), so that a better guard or a new calibration never measures anything again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from msgspec.structs import replace

from quantbench import wording
from quantbench.client import load, metrics
from quantbench.client.load_spec import LoadSpec
from quantbench.client.prompt_file import read_prompts
from quantbench.config.secret_words import hidden
from quantbench.engines import openai_api
from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import Engine
from quantbench.observe.host import HostMeter, runs_here
from quantbench.observe.telemetry import Sampler
from quantbench.records.block import (
    Beyond,
    BlockContext,
    BlockKnobs,
    Hardware,
    HostLoad,
    LaneFacts,
    MeasuredWith,
    ServerFacts,
    Telemetry,
)
from quantbench.records.cell import AA_SUFFIX
from quantbench.records.layout import Results
from quantbench.records.request import RequestRecord
from quantbench.records.server import ServerSpec
from quantbench.records.serving import Mark
from quantbench.serving import identity, lane, owner, processes, registry
from quantbench.serving.starts import FIRST, Start

POLL_S, PAGE_TIMEOUT_S = 1.0, 5.0
MOST_KEPT = 1 << 28
"""Characters of metrics pages per block; a page of vLLM's has some 100 000."""
Warmed = set[tuple[Mark, str]]
"""What servers of ours are warm for: the mark of a start, and a cell's key."""


@dataclass(frozen=True)
class BlockSpec:
    """What to measure, and where; wanted: what the plan knows of that; start: of which start of its server;
    beyond: how it comes, if it is no block of the plan.
    """

    arm: str
    number: int
    spec: ServerSpec
    knobs: BlockKnobs
    gpu: str
    prompts: Path
    wanted: MeasuredWith | None = None
    start: Start = FIRST
    beyond: Beyond | None = None

    @property
    def seed(self) -> str:
        """All arms get the same prompts in the same order."""
        return f"{self.knobs.cell.key}/b{self.number}"

    @property
    def salt(self) -> str:
        """The A/A arm asks the same server, so its prompts begin with other texts: no cache can serve them."""
        return AA_SUFFIX if self.arm.endswith(AA_SUFFIX) else ""

    @property
    def files(self) -> tuple[Path, Path]:
        """Context and records."""
        results, cell = Results(self.gpu), self.knobs.cell
        context, records = (results.file(kind, cell, arm=self.arm, block=self.number) for kind in ("block", "records"))
        return context, records


@dataclass(frozen=True)
class Pages:
    """What a server told of itself at a block: its metrics page before, during and after, and its log's new lines."""

    before: str
    during: Sequence[str]
    after: str
    log: str


class MetricsPoller:
    """The server's metrics page before, during and after a block, and the new lines of its log.

    Pages are kept as text while the clock runs and parsed afterwards, to leave the core to the client.
    """

    def __init__(self, engine: Engine, url: str, log: Path | None, key: str | None = None) -> None:
        self.engine, self._key = engine, key
        self.page_before = self.page_after = ""
        self.pages: list[str] = []
        self._url = url.rstrip("/")
        self._log = log
        self._offset = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Called after the warm-up, just before the clock starts."""
        self._offset = self._log.stat().st_size if self._log and self._log.exists() else 0
        self.page_before = self.page()
        self._thread = threading.Thread(target=self._poll, daemon=True, name="poll metrics")
        self._thread.start()

    def stop(self) -> None:
        """Called right after the clock stops."""
        self.close()
        self.page_after = self.page()

    def close(self) -> None:
        """End the polling; harmless when repeated."""
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def told(self) -> Pages:
        """All of it."""
        return Pages(self.page_before, self.pages, self.page_after, self.log_window())

    def log_window(self) -> str:
        """The log lines that were written since `start`."""
        if not self._log or not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace")

    def page(self) -> str:
        """The page now, "" where there is none."""
        return self.engine.metrics_page(self._url, timeout=PAGE_TIMEOUT_S, key=self._key)

    def _poll(self) -> None:
        kept = 0
        while not self._stop.wait(POLL_S) and kept < MOST_KEPT:
            self.pages.append(self.page())
            kept += len(self.pages[-1])


def warm_up(block: BlockSpec, lease: lane.Lease, warmed: Warmed) -> None:
    """Do what `measure` would do before its clock starts, for it to leave out."""
    if not _is_warm(block, lease, warmed):
        load.warm_up(_load_spec(block, lease.url, read_prompts(block.prompts)))
        _note_warm(block, lease, warmed)


@dataclass(frozen=True)
class Heard:
    """A block that was measured and is not yet parsed: the answers, and what was seen beside them.

    Plain values all, so that another process may parse them.
    """

    block: BlockSpec
    answers: load.Heard
    pages: Pages
    telemetry: Telemetry
    host: HostLoad
    hardware: Hardware | None
    lane: LaneFacts
    server: ServerFacts
    measured_with: MeasuredWith | None

    def parsed(self) -> tuple[list[RequestRecord], BlockContext]:
        """The requests and the context, not yet judged."""
        result, knobs = self.answers.parsed(), self.block.knobs
        context = metrics.block_context(
            result,
            knobs.cell,
            protocol=knobs.protocol,
            gpu=self.block.gpu,
            hardware=self.hardware,
            model=self.block.arm,
            style=knobs.style,
            block=self.block.number,
            min_seconds=knobs.min_seconds,
            telemetry=self.telemetry,
            host=self.host,
            server=self._server_facts(result.records),
            lane=self.lane,
            measured_with=self.measured_with,
            beyond=self.block.beyond,
        )
        words = {reason: hidden(said, os.environ) for reason, said in context.failure_words.items()}
        return result.records, replace(context, failure_words=words)

    def _server_facts(self, records: Sequence[RequestRecord]) -> ServerFacts:
        engine, pages = engine_of(self.block.spec), self.pages
        before, after = (engine.snapshot(page) for page in (pages.before, pages.after))
        cached = [record.cached_tokens for record in records if record.ok and record.cached_tokens is not None]
        return replace(
            self.server,
            process_start_time=after.process_start_time,
            cached_tokens=sum(cached) if cached else None,
            fingerprints=tuple(sorted({record.fingerprint for record in records if record.fingerprint})),
            before=before,
            after=after,
            delta=engine.difference(before, after),
            peak=engine.peak([engine.snapshot(page) for page in pages.during]),
            incidents=engine.incidents(hidden(pages.log, os.environ)),
        )


def measure(block: BlockSpec, ahead: lane.Lease | None = None, warmed: Warmed | None = None) -> Heard:
    """Run one block on its lane. When it returns, the lane is free for the next.

    ahead: what `lane.prepare` has done for this block. warmed: of blocks before; a server warms up for a cell once, as
    what that is for, kernels compiled and memory taken for its shapes, lasts as long as its process.
    """
    warmed = set() if warmed is None else warmed
    prompts, text = read_prompts(block.prompts), hashlib.sha256(block.prompts.read_bytes()).hexdigest()
    with lane.lease(block.spec, block.seed, ahead, block.start) as lease:
        poller = MetricsPoller(engine_of(block.spec), lease.url, lease.log, openai_api.key_of(block.spec))
        sampler = Sampler(block.spec.devices, own_pids=lease.pids)
        # Last to begin and first to end: what is done for a block at its edges is no load of the block.
        host = HostMeter(lambda: lease.pids, here=True if lease.state else runs_here(lease.url))

        def begin() -> None:
            poller.start()
            sampler.start()
            host.start()

        def end() -> None:
            host.stop()
            sampler.stop()
            poller.stop()

        _event(block, lease, "block begins")
        try:
            asked = _load_spec(block, lease.url, prompts)
            if _is_warm(block, lease, warmed):
                asked = dataclasses.replace(asked, warmup_requests=0)
            heard = load.ask_block(asked, before=begin, after=end)
        finally:
            host.stop()
            sampler.stop()
            poller.close()
        _note_warm(block, lease, warmed)
        lease.measured_s = heard.duration_s
        _event(block, lease, "block ends")
        pages = poller.told()
    return Heard(
        block=block,
        answers=heard,
        pages=pages,
        telemetry=sampler.result(),
        host=host.result(),
        hardware=identity.hardware(block.spec),
        lane=lease.facts(),
        server=ServerFacts(
            spec_hash=lease.answering.hash,
            source_id=lease.ready.source_id if lease.ready else None,
            started_unix=lease.state.started_unix if lease.state else None,
        ),
        measured_with=block.wanted and replace(block.wanted, server=lease.served(block.wanted.server), prompts=text),
    )


def _is_warm(block: BlockSpec, lease: lane.Lease, warmed: Warmed) -> bool:
    """Never an endpoint's server: nobody here knows when it was started."""
    return lease.state is not None and (lease.state.mark, block.knobs.cell.key) in warmed


def _note_warm(block: BlockSpec, lease: lane.Lease, warmed: Warmed) -> None:
    if lease.state:
        warmed.add((lease.state.mark, block.knobs.cell.key))


def say_progress(block: BlockSpec, context: BlockContext, progress: str | None = None) -> None:
    """One line on stderr: what was measured, how far this run is, how long the rest will take.

    progress: what is said in place of the latter two.
    """
    begun = psutil.Process(processes.pid_of(owner.current())).create_time()
    blocks = Path().glob(
        Results(block.gpu).path("block", arm="*", workload="*", concurrency="*", max_tokens="*", block="*")
    )
    ended = sorted(time for path in blocks if (time := path.stat().st_mtime) >= begun)
    figures = context.metrics
    rate = figures["throughput_tok_s"]
    what = (
        f"{block.arm} {block.seed}: {f'{rate:.0f} tok/s' if rate else 'no throughput'}, {figures['failures']} failures"
    )
    print(f"{what} | {progress or progress_line(ended, owner.planned_blocks())}", file=sys.stderr, flush=True)


def progress_line(ended: Sequence[float], planned: int) -> str:
    """How far a run is, and how long the rest will take at its pace.

    ended: Unix times at which blocks of this run ended, in order; without two of them there is no estimate.
    planned: blocks that this run measures.
    """
    planned = max(planned, len(ended))
    left = planned - len(ended)
    done = f"{len(ended)} of {wording.plural(planned, 'block')}"
    if not left or len(ended) < 2:
        return done
    return f"{done}, about {wording.seconds(left * (ended[-1] - ended[0]) / (len(ended) - 1))} left"


def _event(block: BlockSpec, lease: lane.Lease, event: str) -> None:
    if lease.state:
        registry.add_event(lease.state.home, event, model=block.arm, lane=block.spec.lane, cell=block.seed)


def _load_spec(block: BlockSpec, url: str, prompts: Sequence[Mapping[str, Any]]) -> LoadSpec:
    knobs = block.knobs
    return LoadSpec(
        url=f"{url}/v1",  # said in full: a gateway's URL has a path of its own before it
        api_key=openai_api.key_of(block.spec),
        model=block.spec.served_name,
        endpoint=knobs.endpoint,
        concurrency=knobs.concurrency,
        max_tokens=knobs.max_tokens,
        prompts=prompts,
        template=knobs.template,
        seed=block.seed,
        salt=block.salt,
        min_seconds=knobs.min_seconds,
        min_requests=knobs.min_requests,
        warmup_requests=knobs.warmup_requests,
        warmup_max_tokens=knobs.warmup_max_tokens,
        timeout_s=knobs.timeout_s,
    )
