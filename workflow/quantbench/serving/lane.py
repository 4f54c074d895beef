"""Leases: one job at a time has a lane's devices, with the server that it wants awake and all others quiet.

The server outlives the lease, so that the next block of its model reuses it, and never its run: see `supervisor`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from quantbench.config.configuration import measured_part
from quantbench.engines import openai_api
from quantbench.errors import QuantbenchError
from quantbench.observe import gpu
from quantbench.records.base import read, write
from quantbench.records.block import LaneFacts, ServedWith
from quantbench.records.server import LaneRecord, Mode, Ready, ServerSpec
from quantbench.records.serving import Fallback, State
from quantbench.serving import (
    claims,
    memory,
    model_source,
    owner,
    ports,
    preflight,
    processes,
    registry,
    server,
    starts,
    trust,
)
from quantbench.serving.starts import FIRST, Start


@dataclass
class Lease:
    """What a job gets. Set `measured_s` to the seconds inside measured blocks; the session record adds them up.

    mode      how the lane changes models now
    note      why that is not the mode that was wanted, else ""
    state     None for an endpoint
    switch_s  from having the lock to a server that answers
    """

    spec: ServerSpec
    action: Literal["reused", "woken", "started", "endpoint"]
    mode: Mode
    note: str = ""
    state: State | None = None
    switch_s: float = 0.0
    measured_s: float | None = None

    @property
    def url(self) -> str:
        """The server's base URL."""
        return self.answering.url

    @property
    def ready(self) -> Ready | None:
        """What ready.json holds of a server of ours."""
        return self.state.ready if self.state else None

    @property
    def log(self) -> Path | None:
        """The server's log; None for an endpoint."""
        return Path(self.state.log) if self.state else None

    @property
    def pids(self) -> list[int]:
        """Processes of all servers of this machine that share the lease's devices, the sleeping ones too."""
        states = registry.servers(self.spec.devices) if self.state else []
        return [pid for state in states for pid in registry.members(state)]

    @property
    def answering(self) -> ServerSpec:
        """The spec of the server that really answers."""
        return self.state.spec if self.state else self.spec

    def served(self, planned: ServedWith) -> ServedWith:
        """The same of what results depend on, and the files that the server has loaded."""
        loaded = self.ready.source_id if self.ready else None
        return replace(planned, spec=measured_part(self.answering.as_dict()), source_id=loaded)

    def facts(self) -> LaneFacts:
        """The `lane` entry of a block's context."""
        switch_s = round(self.switch_s, 3)
        return LaneFacts(lane=self.spec.lane, mode=self.mode, action=self.action, switch_s=switch_s, note=self.note)


@contextlib.contextmanager
def lease(spec: ServerSpec, why: str = "lease", ahead: Lease | None = None, start: Start = FIRST) -> Iterator[Lease]:
    """Wait for the spec's devices, bring its server up alone on them, and hold them until the block ends.

    ahead: what `prepare` has done for this lease; if nobody came in between, its switch is this lease's.
    start: of which start the server is to be, or of a later one; one of an earlier start is stopped and started anew.
    Raises QuantbenchError if the server cannot be had. If the body fails, the server is stopped only if it is unwell.
    """
    registry.need_events(owner.server_home(spec.model))
    if spec.endpoint:
        with claims.hold([*spec.devices, spec.url]):
            preflight.check_endpoint(spec)
            yield Lease(spec, "endpoint", "endpoint")
        return
    claims.claim({*spec.devices, *owner.devices()})
    with claims.hold(spec.devices):
        # Held open for the switch: each of its looks at the memory would load NVML anew.
        with gpu.session():
            begin = time.monotonic()
            lent = _bring_up(spec, why, start)
        assert lent.state is not None
        if lent.action == "started":
            lent.state = starts.noted(lent.state, start)
        lent.switch_s = time.monotonic() - begin
        if ahead and lent.action == "reused" and ahead.spec == spec:
            lent.action, lent.note, lent.switch_s = ahead.action, ahead.note, lent.switch_s + ahead.switch_s
        used = registry.folder(lent.state.key) / "used"
        used.touch()
        try:
            yield lent
        except Exception:
            if not server.awake_and_well(lent.state):
                server.stop(lent.state, "unwell after a failed job")
            raise
        finally:
            if used.parent.exists():
                used.touch()
            held, measured = round(time.monotonic() - begin, 3), lent.measured_s
            registry.add_event(lent.state.home, "lease", seconds=held, action=lent.action, why=why, measured_s=measured)


def prepare(
    spec: ServerSpec, why: str, start: Start = FIRST, warm_up: Callable[[Lease], None] = lambda _: None
) -> Lease | None:
    """Wake a server of this run before its lease, where that is all there is to do; None where it is not up.

    warm_up: asks it what it is to be warmed up with.
    """
    if not can_wake(spec, start):
        return None
    with lease(spec, why) as lent:
        warm_up(lent)
        return lent


def can_wake(spec: ServerSpec, start: Start = FIRST) -> bool:
    """Whether the next lease finds a server of this run, of this start, that is awake or only has to be woken."""
    here = registry.servers(spec.devices)
    mine = next((s for s in here if s.owner == owner.current() and s.spec.hash == spec.hash), None)
    if spec.endpoint or mine is None or not (mine.ready and registry.is_up(mine)) or _mode(spec)[0] == "restart":
        return False
    return not starts.is_due(start, mine, [state for state in here if state is not mine])


def _bring_up(spec: ServerSpec, why: str, start: Start) -> Lease:
    """The wanted server awake, the others quiet or gone. The devices are locked and claimed."""
    wanted, me = spec.hash, owner.current()
    mine, others = None, []
    _clear_broken(f"{spec.model} is next")
    for state in registry.servers(spec.devices):
        usable = state.owner == me and state.ready is not None and registry.is_up(state)
        if usable and state.spec.hash == wanted:
            mine = state
        elif usable and state.spec.model != spec.model:
            others.append(state)
        else:
            left_over = "left by another run" if state.owner != me else "was dead"
            server.stop(state, "replaced" if usable else left_over)
    if mine and starts.is_due(start, mine, others):
        server.stop(mine, f"start {start.number} is next")
        mine = None
    if mine and all(state.asleep for state in others) and server.awake_and_well(mine):
        return Lease(spec, "reused", *_mode(spec), mine)
    if mine and not mine.asleep and not openai_api.healthy(mine.spec.url, spec.served_name, timeout=10):
        server.stop(mine, "unwell")
        mine = None
    return _switch(spec, mine, others, why)


def _switch(spec: ServerSpec, mine: State | None, others: list[State], why: str) -> Lease:
    mode, note = _mode(spec)
    if mode != "restart":
        try:
            if shortage := _shortage(spec, mine, others):
                raise server.SwitchError(shortage)
            for at, other in enumerate(others):
                if not other.asleep:
                    others[at] = server.sleep(other, f"{spec.model} is next")
            if mine:
                try:
                    mine = server.wake(mine, why)
                except server.AnswerChangedError as error:
                    return _start_anew(spec, mine, str(error), mode, others, why)
                _note_lane(spec, None)
                return Lease(spec, "woken", mode, note, mine)
            if others and (shortage := _gpu_shortage(spec)):
                raise server.SwitchError(shortage)
        except server.SwitchError as error:
            if died := _died([*others, *([mine] if mine else [])]):
                left = [state for state in others if state not in died]
                return _switch(spec, None if mine in died else mine, left, why)
            mode, note = _fall_back(spec, str(error))
    if mode == "restart":
        for state in [*others, *([mine] if mine else [])]:
            server.stop(state, f"{spec.model} is next")
        others = []
    return Lease(spec, "started", mode, note, _start_beside(spec, others, why))


def _start_anew(spec: ServerSpec, old: State, changed: str, mode: Mode, others: list[State], why: str) -> Lease:
    """In place of a server whose answer a sleep has changed: what it would be measured with is not the model."""
    server.stop(old, changed)
    new = _start_beside(spec, others, why)
    texts = [state.ready.test_completion.text if state.ready else None for state in (old, new)]
    # A start that gives a third answer acquits the sleep: this server answers otherwise each time.
    after = "as it did at first" if texts[0] == texts[1] else "otherwise again, so it is not deterministic"
    note = f"{changed}; started anew, it answers {after}"
    registry.add_event(new.home, "answer_changed", why=note)
    return Lease(spec, "started", mode, note, new)


def _start_beside(spec: ServerSpec, others: list[State], why: str) -> State:
    """Start the server beside those that stay, and keep the arithmetic of that."""
    if others and (sums := memory.check_gpu_memory(spec)):
        registry.add_event(owner.server_home(spec.model), "fits", why="; ".join(sums))
    state = server.start(spec, why)
    if others:
        _note_lane(spec, None)  # all are resident: a fallback of an earlier run need not last
    return state


def _died(states: list[State]) -> list[State]:
    """Stop and return those that a switch failed on because they are dead: no reason to give the mode up."""
    died = [s for s in states if not s.asleep or s.mode == "sleep"]
    died = [
        s for s in died if not (registry.is_up(s) and openai_api.healthy(s.spec.url, s.spec.served_name, timeout=5))
    ]
    for state in died:
        server.stop(state, "was dead")
    return died


def _shortage(spec: ServerSpec, mine: State | None, others: list[State]) -> str | None:
    """Does host memory hold the weights that are going to be parked in it (sleep mode only)?

    The servers that go to sleep now, and the new one, which will sleep later.
    """
    if _mode(spec)[0] != "sleep" or mine or not others:
        return None
    parked = sum(_weights_mib(state) for state in others if not state.asleep)
    # Dummy weights: taken like the largest known.
    new = model_source.checkpoint_mib(spec) or max(map(_weights_mib, others))
    fit = memory.host_fit(memory.host_available_mib(), parked + new)
    return None if fit.fits else fit.arithmetic


def _weights_mib(state: State) -> float:
    weights = state.ready.memory.weights_gib if state.ready else None
    return weights * 1024 if weights else model_source.checkpoint_mib(state.spec) or 0.0


def _gpu_shortage(spec: ServerSpec) -> str | None:
    """Does the GPU hold the new server beside the sleeping ones?"""
    try:
        memory.check_gpu_memory(spec)
    except QuantbenchError as error:
        return error.what
    return None


def _mode(spec: ServerSpec) -> tuple[Mode, str]:
    """(mode, note) of the lane now: what the spec asks for, unless this run has fallen back to restart."""
    for device in spec.devices:
        with contextlib.suppress(FileNotFoundError, QuantbenchError):
            entry = trust.read(claims.file_of(device, "fallback"), Fallback)
            if entry.owner == owner.current():
                return "restart", entry.note
    mode, reason = server.mode_of(spec)
    return mode, reason if mode == "restart" and spec.mode == "auto" else ""


def _fall_back(spec: ServerSpec, reason: str) -> tuple[Mode, str]:
    note = f"fell back to restart: {reason}"
    for device in spec.devices:
        write(claims.file_of(device, "fallback"), Fallback(owner=owner.current(), note=note))
    registry.add_event(owner.server_home(spec.model), "fallback", why=reason)
    _note_lane(spec, LaneRecord(mode="restart", reason=reason))
    return "restart", note


def _note_lane(spec: ServerSpec, entry: LaneRecord | None) -> None:
    """Note in lanes.json, for the next run's schedule, that a lane fell back to `entry`; None removes the note."""
    path = owner.server_home(spec.model).parent / "lanes.json"
    lanes = read(path, dict[str, LaneRecord]) if path.exists() else {}
    if lanes.get(spec.lane) != entry:
        lanes.pop(spec.lane, None)
        write(path, lanes | ({spec.lane: entry} if entry else {}))


def stop(spec: ServerSpec, why: str = "stop rule") -> bool:
    """Stop the spec's server if it is up; True if one was stopped."""
    if spec.endpoint:
        return False
    with claims.hold(spec.devices):
        running = [s for s in registry.servers(spec.devices) if s.spec.hash == spec.hash]
        for state in running:
            server.stop(state, why)
    return bool(running)


def clear(spec: ServerSpec, why: str) -> None:
    """Stop all servers on the spec's devices, the sleeping ones too: what comes next has them for itself."""
    claims.claim({*spec.devices, *owner.devices()})
    with claims.hold(spec.devices):
        for state in registry.servers(spec.devices):
            server.stop(state, why)


def sweep(why: str = "end of the run") -> list[str]:
    """Stop all servers of this run, and those that dead runs have left; give the devices back. Returns the models.

    Waits for no lock: it is called when the run's jobs have ended, and must not hang if one has not. What goes wrong
    is a line on stderr and no exception, which would hide what has ended the run.
    """
    stopped: list[str] = []
    with _said("what broken states name is not stopped"):
        _clear_broken(why)
    with _said("servers are not stopped"):
        me = owner.current()
        for state in [s for s in registry.servers() if s.owner == me or not processes.alive(s.owner)]:
            with _said(f"server of {state.spec.model} is not stopped"):
                server.stop(state, why)
                stopped.append(state.spec.model)
    with _said("devices are not given back"):
        claims.release()
    with _said("ports are not given back"):
        ports.release()
    return stopped


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """A line on stderr in place of an exception."""
    try:
        yield
    except Exception as error:
        how = str(error) if isinstance(error, QuantbenchError) else f"{type(error).__name__}: {error}"
        registry.say(f"{what}: {how}")


def _clear_broken(why: str) -> None:
    """Remove states that cannot be used, with a line each; what they have left running is ended, by its mark.

    Those of another run that lives are left alone.
    """
    for key, error in registry.broken().items():
        cleared = server.clear_broken(key)
        registry.say(f"{error.what}: {'removed' if cleared else 'left alone'} ({why})")
