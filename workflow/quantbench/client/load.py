"""The load client. A closed loop of `concurrency` slots against one OpenAI-compatible endpoint.

What makes its times true: connections are opened before the clock starts; a read is stamped before anything else
happens to it and parsed after the block; the garbage collector is off; the client measures its own CPU and loop lag.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import uvloop
from msgspec import structs

from quantbench.client.concurrency import concurrency_held
from quantbench.client.load_checks import check_reply, transport_for, unreachable
from quantbench.client.load_phase import Phase
from quantbench.client.load_spec import LoadSpec, endpoint_url, headers
from quantbench.client.loop_lag import LagProbe
from quantbench.client.prompts import requests_for
from quantbench.client.records import BlockResult, Exchange
from quantbench.client.sse import record
from quantbench.client.wire import Connection
from quantbench.engines.api_key import hidden
from quantbench.records.block import ClientFacts
from quantbench.records.request import RequestRecord, Span, spans

Hook = Callable[[], Awaitable[None] | None]
Progress = Callable[[int, float], None]
# An idle connection may be closed by the server (uvicorn: after 5 s) just as we use it: open it anew before that.
_IDLE_LIMIT_S = 2.0
_PROGRESS_EVERY_S = 1.0


async def _slot(phase: Phase, connection: Connection) -> None:
    """One slot: one request after the other until the phase is over."""
    while (job := phase.next()) is not None:
        exchange = await _send(phase, connection, job)
        if exchange.ending == "stale":
            # RFC 9112, 9.3.1 and 9.5: such a request may be sent again, on a new connection and with a new stamp. It is
            # counted, so that nothing is hidden; a second time cannot be, as a new connection is never stale.
            phase.resent += 1
            exchange = await _send(phase, connection, job)
        phase.add(exchange)


async def _send(phase: Phase, connection: Connection, job: tuple[int, str, bytes]) -> Exchange:
    """One request, on a connection that is opened if need be."""
    index, prompt_id, body = job
    if not connection.connected:
        try:
            await connection.connect()
        except OSError as error:
            phase.stopped = True  # the server is gone: there is nothing more to measure
            return Exchange(index, prompt_id, None, time.monotonic_ns(), [], [], None, "connect", str(error))
    return await connection.start(index, prompt_id, body, phase.spec.timeout_s, phase.spec.most_bytes)


async def _run_phase(phase: Phase, connections: list[Connection], progress: Progress | None = None) -> None:
    """Run all slots to their ends; the first error cancels the others and is raised."""
    reporter = asyncio.create_task(_report(phase, progress)) if progress else None
    phase.started_ns = time.monotonic_ns()
    try:
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(_slot(phase, connection))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        if reporter is not None:
            reporter.cancel()


async def _report(phase: Phase, progress: Progress) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_EVERY_S)
        progress(len(phase.exchanges), phase.elapsed_s())


def _connections(spec: LoadSpec) -> list[Connection]:
    """One per slot, not yet open."""
    url, head, make = endpoint_url(spec.url, spec.endpoint), headers(spec), transport_for(spec)
    return [make(url, head) for _ in range(spec.concurrency)]


async def _open(spec: LoadSpec, connections: list[Connection], *, anew: bool = False) -> None:
    """Open what is not open, or, `anew`, everything. Raises QuantbenchError if nothing listens."""
    try:
        for connection in connections:
            if anew:
                await connection.close()
        await asyncio.gather(*(c.connect() for c in connections if not c.connected))
    except OSError as error:
        raise unreachable(spec, error) from error


async def _call(hook: Hook | None) -> None:
    result = hook() if hook is not None else None
    if result is not None:
        await result


async def _warm_up(spec: LoadSpec, connections: list[Connection]) -> None:
    """Other prompts than the measured ones; by default one wave."""
    count = spec.concurrency if spec.warmup_requests is None else spec.warmup_requests
    if count <= 0:
        return
    source = requests_for(spec.prompts, template=spec.template, seed=spec.seed, salt=spec.salt, warmup=True)
    short = replace(spec, max_tokens=min(spec.max_tokens, spec.warmup_max_tokens or spec.max_tokens))
    phase = Phase(short, source, max_requests=count)  # exactly so many, which may be less than a wave
    await _run_phase(phase, connections)
    _check_answered(phase)


def _check_answered(phase: Phase) -> None:
    """Raise if the server refused every request; one refused among others is a failed request and stays a record."""
    if all(exchange.status != 200 for exchange in phase.exchanges):
        for exchange in phase.exchanges:
            check_reply(phase.spec, exchange)


class _Clocks(NamedTuple):
    """The machine's clocks at one moment, in s: they run alike, unless it sleeps or its wall clock is set."""

    running: float
    """Stands still while the machine sleeps."""
    since_boot: float
    wall: float

    @classmethod
    def now(cls) -> _Clocks:
        return cls(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())

    def suspended_s(self, later: _Clocks) -> float:
        """How long the machine slept until `later`."""
        return (later.since_boot - self.since_boot) - (later.running - self.running)

    def step_s(self, later: _Clocks) -> float:
        """By how much the wall clock was set until `later`, to and fro not seen."""
        return (later.wall - self.wall) - (later.since_boot - self.since_boot)


@contextlib.contextmanager
def _no_gc() -> Iterator[None]:
    """No garbage collection within: each would look at all that a block keeps, and none of it is garbage.

    Nor one before the clock starts: it takes a tenth of a second, in which the lane would wait.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


async def _run(
    spec: LoadSpec, before: Hook | None, after: Hook | None, progress: Progress | None
) -> tuple[Phase, datetime, ClientFacts, list[Span]]:
    connections = _connections(spec)
    source = requests_for(spec.prompts, template=spec.template, seed=spec.seed, salt=spec.salt)
    phase = Phase(spec, source, spec.min_requests, spec.min_seconds)
    try:
        await _open(spec, connections)
        await _warm_up(spec, connections)
        idle_since = time.monotonic()
        await _call(before)
        await _open(spec, connections, anew=time.monotonic() - idle_since > _IDLE_LIMIT_S)
        with _no_gc(), LagProbe() as lag:
            started, clocks, cpu = datetime.now(UTC), _Clocks.now(), time.process_time()
            await _run_phase(phase, connections, progress)
            cpu, ended = time.process_time() - cpu, _Clocks.now()
        await _call(after)
        _check_answered(phase)
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))
    duration = phase.duration_s()
    stalls = [(since - phase.started_ns, over - phase.started_ns) for since, over in lag.stalls]
    since, over = max(stalls, key=lambda stall: stall[1] - stall[0], default=(0, 0))
    client = ClientFacts(
        cpu_s=cpu,
        cpu_share=cpu / duration if duration > 0 else None,
        loop_lag_p50_ms=lag.percentile_ms(50),
        loop_lag_p99_ms=lag.percentile_ms(99),
        connections_opened=sum(connection.opened for connection in connections),
        resent=phase.resent,
        transport=transport_for(spec).__name__,
        stalled_s=sum(over - since for since, over in stalls) / 1e9,
        longest_stall_s=(over - since) / 1e9,
        longest_stall_at_s=since / 1e9,
        suspended_s=clocks.suspended_s(ended),
        clock_step_s=clocks.step_s(ended),
    )
    return phase, started, client, stalls


def warm_up(spec: LoadSpec) -> None:
    """Only warm up, with what `run_block` would; its caller may then leave it out. Errors as there; in any thread."""

    async def main() -> None:
        connections = _connections(spec)
        try:
            await _open(spec, connections)
            await _warm_up(spec, connections)
        finally:
            await asyncio.gather(*(connection.close() for connection in connections))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def run_block(
    spec: LoadSpec,
    *,
    before: Hook | None = None,
    after: Hook | None = None,
    progress: Progress | None = None,
) -> BlockResult:
    """Warm up, measure one block, parse it: `ask_block`, and what it has heard."""
    return ask_block(spec, before=before, after=after, progress=progress).parsed()


@dataclass(frozen=True)
class Heard:
    """A block as it came from the server, not yet parsed: that takes time in which nobody needs the server.

    spec: without its prompts. Plain values all, so that another process may parse them.
    """

    spec: LoadSpec
    exchanges: Sequence[Exchange]
    started_ns: int
    started: datetime
    duration_s: float
    client: ClientFacts
    stalls: Sequence[Span]

    def parsed(self) -> BlockResult:
        """Exchanges become records, in the order of issue; what only they tell of the client is added."""
        cpu = time.thread_time()
        ordered = sorted(self.exchanges, key=lambda e: e.index)
        with _no_gc():
            records = [record(e, expected_tokens=self.spec.expected_tokens, zero_ns=self.started_ns) for e in ordered]
        key = self.spec.api_key
        records = [replace(r, detail=hidden(r.detail, key)) if r.detail else r for r in records]
        client = structs.replace(
            self.client,
            parse_cpu_s=time.thread_time() - cpu,
            coalesced_share=_coalesced(records),
            concurrency_held=concurrency_held(spans(records), self.spec.concurrency),
        )
        return BlockResult(records, self.started, self.duration_s, client, self.stalls)


def ask_block(
    spec: LoadSpec,
    *,
    before: Hook | None = None,
    after: Hook | None = None,
    progress: Progress | None = None,
) -> Heard:
    """Warm up and measure one block.

    `before` is called after the warm-up, right before the clock starts; `after` right after it has stopped;
    both may be async. `progress(done, seconds)` is called once a second. Raises QuantbenchError if nothing
    listens or the server refuses such requests altogether; any other failed request is a record. Ctrl-C and
    SIGTERM cancel the block and are raised again.
    """
    terminated = False

    async def main() -> tuple[Phase, datetime, ClientFacts, list[Span]]:
        def cancel() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(_run(spec, before, after, progress))
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: signals are not ours
            loop.add_signal_handler(signal.SIGTERM, cancel)
        return await task

    previous = signal.getsignal(signal.SIGTERM)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            phase, started, client, stalls = runner.run(main())
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)
        if terminated:
            signal.raise_signal(signal.SIGTERM)
    return Heard(
        replace(spec, prompts=()), phase.exchanges, phase.started_ns, started, phase.duration_s(), client, stalls
    )


def _coalesced(records: list[RequestRecord]) -> float | None:
    """Share of the token-carrying chunks that had no read of their own."""
    chunks = sum(r.chunks for r in records)
    return 1 - sum(r.reads for r in records) / chunks if chunks else None
