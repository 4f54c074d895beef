"""Leases: one job at a time has a lane's devices, with the server that it wants awake and all others quiet.

The server outlives the lease, so that the next block of its model reuses it, and never its run: see `supervisor`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantbench import files
from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import Spec, spec_hash, url_of
from quantbench.errors import QuantbenchError
from quantbench.observe import gpu
from quantbench.serving import claims, memory, model_source, owner, preflight, processes, registry, server

State = registry.State


@dataclass
class Lease:
    """What a job gets. Set `measured_s` to the seconds inside measured blocks; the session record adds them up.

    action    reused | woken | started | endpoint
    mode      sleep | resident | restart | endpoint, as the lane works now
    switch_s  from having the lock to a server that answers
    note      why the lane is not in the mode that was wanted, else ""
    state     see `registry`; `state["ready"]` is what ready.json holds. {} for an endpoint
    """

    url: str
    action: str
    mode: str
    switch_s: float
    note: str = ""
    state: State = field(default_factory=dict)
    measured_s: float | None = None

    lane: str = ""

    @property
    def log(self) -> Path | None:
        """The server's log; None for an endpoint."""
        return Path(self.state["log"]) if self.state else None

    @property
    def pids(self) -> list[int]:
        """Processes of all servers of this machine that share the lease's devices, the sleeping ones too."""
        devices = self.state["spec"]["devices"] if self.state else []
        return [pid for state in registry.servers(devices) for pid in registry.members(state)]

    def facts(self) -> dict[str, Any]:
        """The `lane` entry of a block's context."""
        switch_s = round(self.switch_s, 3)
        return {"lane": self.lane, "mode": self.mode, "action": self.action, "switch_s": switch_s, "note": self.note}


@contextlib.contextmanager
def lease(spec: Spec, why: str = "lease") -> Iterator[Lease]:
    """Wait for the spec's devices, bring its server up alone on them, and hold them until the block ends.

    Raises QuantbenchError if the server cannot be had. If the body fails, the server is stopped only if it is unwell.
    """
    if spec["endpoint"]:
        with _endpoint_lease(spec) as lent:
            yield lent
        return
    claims.claim({*spec["devices"], *owner.devices()})
    with claims.hold(spec["devices"]):
        # Held open for the switch: each of its looks at the memory would load NVML anew.
        with gpu.session():
            begin = time.monotonic()
            lent = _bring_up(spec, why)
        lent.switch_s, lent.lane = time.monotonic() - begin, spec["lane"]
        used = registry.folder(lent.state) / "used"
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
            held = round(time.monotonic() - begin, 3)
            measured = {"measured_s": lent.measured_s} if lent.measured_s is not None else {}
            registry.add_event(lent.state["home"], "lease", seconds=held, action=lent.action, why=why, **measured)


@contextlib.contextmanager
def _endpoint_lease(spec: Spec) -> Iterator[Lease]:
    with claims.hold([*spec["devices"], url_of(spec)]):
        url = preflight.check_endpoint(spec)
        yield Lease(url, "endpoint", "endpoint", 0.0, lane=spec["lane"])


def _bring_up(spec: Spec, why: str) -> Lease:
    """The wanted server awake, the others quiet or gone. The devices are locked and claimed."""
    wanted, url, me = spec_hash(spec), url_of(spec), owner.current()
    mine, others = None, []
    for state in registry.servers(spec["devices"]):
        usable = state["owner"] == me and state["phase"] == "ready" and registry.is_up(state)
        if usable and state["spec_hash"] == wanted:
            mine = state
        elif usable and state["spec"]["model"] != spec["model"]:
            others.append(state)
        else:
            left_over = "left by another run" if state["owner"] != me else "was dead"
            server.stop(state, "replaced" if usable else left_over)
    awake = [state for state in others if not state["asleep"]]
    if mine and not awake and server.awake_and_well(mine):
        return Lease(url, "reused", _mode(spec)[0], 0.0, _mode(spec)[1], mine)
    if mine and not mine["asleep"] and not engine_of(spec).healthy(url, timeout=10):
        server.stop(mine, "unwell")
        mine = None
    return _switch(spec, mine, others, why)


def _switch(spec: Spec, mine: State | None, others: list[State], why: str) -> Lease:
    mode, note = _mode(spec)
    if mode != "restart":
        try:
            shortage = _shortage(spec, mine, others)
            if shortage:
                raise server.SwitchError(shortage)
            for other in others:
                if not other["asleep"]:
                    server.sleep(other, f"{spec['model']} is next")
            if mine:
                server.wake(mine, why)
                _note_lane(spec, None)
                return Lease(url_of(spec), "woken", mode, 0.0, note, mine)
            if others and (shortage := _gpu_shortage(spec)):
                raise server.SwitchError(shortage)
        except server.SwitchError as error:
            if died := _died([*others, *([mine] if mine else [])]):
                return _switch(spec, _without(mine, died), [s for s in others if s not in died], why)
            mode, note = _fall_back(spec, str(error))
    if mode == "restart":
        for state in [*others, *([mine] if mine else [])]:
            server.stop(state, f"{spec['model']} is next")
        others = []
    return Lease(url_of(spec), "started", mode, 0.0, note, _start_beside(spec, others, why))


def _start_beside(spec: Spec, others: list[State], why: str) -> State:
    """Start the server beside those that stay, and keep the arithmetic of that."""
    if others and (sums := memory.check_gpu_memory(spec)):
        registry.add_event(owner.server_home(spec["model"]), "fits", why="; ".join(sums))
    state = server.start(spec, why)
    if others:
        _note_lane(spec, None)  # all are resident: a fallback of an earlier run need not last
    return state


def _died(states: list[State]) -> list[State]:
    """Stop and return those that a switch failed on because they are dead: no reason to give the mode up."""
    died = [s for s in states if not s["asleep"] or s["mode"] == "sleep"]
    died = [s for s in died if not (registry.is_up(s) and engine_of(s["spec"]).healthy(s["url"], timeout=5))]
    for state in died:
        server.stop(state, "was dead")
    return died


def _without(mine: State | None, died: list[State]) -> State | None:
    return None if mine in died else mine


def _shortage(spec: Spec, mine: State | None, others: list[State]) -> str | None:
    """Does host memory hold the weights that are going to be parked in it (sleep mode only)?

    The servers that go to sleep now, and the new one, which will sleep later.
    """
    if _mode(spec)[0] != "sleep" or mine or not others:
        return None
    parked = [_weights_mib(state) for state in others if not state["asleep"]]
    known = [_weights_mib(state) for state in others]
    new = model_source.checkpoint_mib(spec) or max(known, default=0.0)  # dummy weights: taken like the largest known
    fit = memory.host_fit(memory.host_available_mib(), sum(parked) + new)
    return None if fit.fits else fit.arithmetic


def _weights_mib(state: State) -> float:
    weights = (state.get("ready") or {}).get("memory", {}).get("weights_gib")
    return float(weights) * 1024 if weights else model_source.checkpoint_mib(state["spec"]) or 0.0


def _gpu_shortage(spec: Spec) -> str | None:
    """Does the GPU hold the new server beside the sleeping ones?"""
    try:
        memory.check_gpu_memory(spec)
    except QuantbenchError as error:
        return error.what
    return None


def _mode(spec: Spec) -> tuple[str, str]:
    """(mode, note) of the lane now: what the spec asks for, unless this run has fallen back to restart."""
    for device in spec["devices"]:
        path = _fallback_file(device)
        with contextlib.suppress(FileNotFoundError, QuantbenchError):
            entry = files.read_json(path)
            if entry["owner"] == owner.current():
                return "restart", str(entry["note"])
    mode, reason = server.mode_of(spec)
    return mode, reason if mode == "restart" and spec["mode"] == "auto" else ""


def _fallback_file(device: str) -> Any:
    return owner.state_dir() / "devices" / f"{device}.fallback"


def _fall_back(spec: Spec, reason: str) -> tuple[str, str]:
    note = f"fell back to restart: {reason}"
    for device in spec["devices"]:
        files.write_json(_fallback_file(device), {"owner": owner.current(), "note": note})
    registry.add_event(owner.server_home(spec["model"]), "fallback", why=reason)
    _note_lane(spec, {"mode": "restart", "reason": reason})
    return "restart", note


def _note_lane(spec: Spec, entry: dict[str, str] | None) -> None:
    """Note in lanes.json, for the next run's schedule, that a lane fell back to `entry`; None removes the note."""
    path = owner.server_home(spec["model"]).parent / "lanes.json"
    lanes = files.read_json(path) if path.exists() else {}
    if lanes.get(spec["lane"]) != entry:
        lanes.pop(spec["lane"], None)
        files.write_json(path, lanes | ({spec["lane"]: entry} if entry else {}))


def stop(spec: Spec, why: str = "stop rule") -> bool:
    """Stop the spec's server if it is up; True if one was stopped."""
    if spec["endpoint"]:
        return False
    with claims.hold(spec["devices"]):
        running = [s for s in registry.servers(spec["devices"]) if s["spec_hash"] == spec_hash(spec)]
        for state in running:
            server.stop(state, why)
    return bool(running)


def clear(spec: Spec, why: str) -> None:
    """Stop all servers on the spec's devices, the sleeping ones too: what comes next has them for itself."""
    claims.claim({*spec["devices"], *owner.devices()})
    with claims.hold(spec["devices"]):
        for state in registry.servers(spec["devices"]):
            server.stop(state, why)


def sweep(why: str = "end of the run") -> list[str]:
    """Stop all servers of this run, and those that dead runs have left; give the devices back. Returns the models.

    Waits for no lock: it is called when the run's jobs have ended, and must not hang if one has not.
    """
    me, stopped = owner.current(), []
    gone = [s for s in registry.servers() if s["owner"] == me or not processes.alive(s["owner"])]
    for state in gone:
        server.stop(state, why)
        stopped.append(str(state["spec"]["model"]))
    claims.release(me)
    return stopped
