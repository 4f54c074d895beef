"""The life of one server: start it under a supervisor, put it to sleep, wake it, stop it. The caller holds the lock."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from typing import Any

from quantbench import files
from quantbench.engines import openai_api
from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import Spec, spec_hash, url_of
from quantbench.errors import QuantbenchError
from quantbench.serving import memory, owner, preflight, processes, registry, supervisor
from quantbench.serving import ready as ready_facts

State = registry.State

GRACE_S = 3.0
"""Seconds that a server gets after SIGTERM; with a request in flight it may wait for ever."""
_IDLE_S, _REPORT_S = 3600.0, 10.0


class SwitchError(Exception):
    """A server did not go to sleep or did not wake up; the message says how."""


def mode_of(spec: Spec) -> tuple[str, str]:
    """(mode, reason) that the spec's server is started for: `auto` resolved by platform and the engine's version."""
    engine = engine_of(spec)
    return resolve_mode(spec, engine.installed(spec)[engine.NAME])


def resolve_mode(spec: Spec, version: str | None) -> tuple[str, str]:
    """How a lane changes models, and the reason; a mode other than `auto` is taken as it is.

    sleep     all servers stay, one holds the GPU; a switch takes well under a second
    resident  all servers stay in memory, one runs (CPU)
    restart   one server at a time; drift between models is then part of every difference
    endpoint  the server is not ours, so nothing is changed
    """
    if spec["endpoint"]:
        return "endpoint", "the server is not ours"
    if spec["mode"] != "auto":
        return str(spec["mode"]), "set in config (lanes)"
    if spec["platform"] == "cpu":
        return "resident", "sleep mode needs a GPU; on the CPU all servers stay in memory"
    if reason := engine_of(spec).no_sleep_reason(version):
        return "restart", reason
    return "sleep", "one GPU, all servers resident, one awake"


def start(spec: Spec, why: str) -> State:
    """Start the server, wait until it answers, and gather what it is.

    Raises QuantbenchError with cause, remedy and log if it cannot start, or is not quantized as its config says;
    nothing is left of it then.
    """
    preflight.check(spec)
    memory.check_gpu_memory(spec)
    state, begin = _prepare(spec), time.monotonic()
    try:
        _launch(state)
        _wait_ready(state)
        state |= {"phase": "ready", "start_s": round(time.monotonic() - begin, 2)}
        registry.save(state)
        registry.add_event(state["home"], "start", seconds=state["start_s"], why=why, mode=state["mode"])
        state["ready"] = ready_facts.gather(state)
        return registry.save(state)
    except BaseException as error:
        stop(state, f"start failed: {error}".splitlines()[0])
        raise


def _prepare(spec: Spec) -> State:
    """Write the state before anything runs, so that whatever happens the server can be found by its mark."""
    home, wanted, mode = owner.server_home(spec["model"]), spec_hash(spec), mode_of(spec)[0]
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    argv, _ = engine_of(spec).command(spec, mode)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with log.open("a") as handle:
        handle.write(f"\n# quantbench {started}: {shlex.join(argv)}\n")
    state: State = {
        "key": f"{spec['model']}-{wanted}",
        "spec": dict(spec),
        "mode": mode,
        "spec_hash": wanted,
        "owner": owner.current(),
        "mark": uuid.uuid4().hex,
        "url": url_of(spec),
        "phase": "starting",
        "asleep": False,
        "home": str(home),
        "log": str(log),
        "log_start": log.stat().st_size,
        "started_at": started,
        "started_unix": time.time(),
        "before_mib": memory.used_mib(spec),
    }
    registry.forget(state)
    return registry.save(state)


def _launch(state: State) -> None:
    engine = engine_of(state["spec"])
    argv, env = engine.command(state["spec"], state["mode"])
    folder = registry.folder(state)
    launch = {key: state[key] for key in ("owner", "mark", "log", "home")} | {
        "argv": argv,
        "env": env,
        "unset": list(engine.UNSET),
        "devices": state["spec"]["devices"],
        "scratch": tempfile.mkdtemp(prefix="quantbench-"),
        "idle_s": float(os.environ.get("QUANTBENCH_IDLE_S", _IDLE_S)),
        "grace_s": GRACE_S,
    }
    files.write_json(folder / "launch.json", launch)
    with (folder / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "quantbench.serving.supervisor", str(folder)],
            env={**os.environ, "PYTHONPATH": owner.library_path(), processes.SUPERVISES: state["mark"]},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_ready(state: State) -> None:
    """Poll until the server is healthy; report every ten seconds how far it is."""
    spec, begin, reported_s = state["spec"], time.monotonic(), 0.0
    timeout = float(spec["settings"]["start_timeout_s"])
    before = [e["seconds"] for e in registry.read_events(state["home"]) if e["event"] == "start"]
    while True:
        elapsed = time.monotonic() - begin
        if registry.ended(state) or (elapsed > 2 and not registry.supervised(state)):
            raise _failure(state, "ended while it was starting")
        if registry.leader(state) and engine_of(spec).healthy(state["url"]):
            break
        if elapsed > timeout:
            raise _failure(state, f"does not answer after {timeout:.0f} s", "raise server.start_timeout_s")
        if elapsed - reported_s >= _REPORT_S:
            reported_s = elapsed
            _report_start(spec, elapsed, before)
        time.sleep(0.05 if elapsed < 2 else 0.2)
    try:
        served = [entry.get("id") for entry in openai_api.models(state["url"])]
    except openai_api.ClientError as error:
        raise _failure(state, f"is up, but does not say what it serves: {error}") from error
    if spec["served_name"] not in served:
        raise _failure(state, f"serves {served} instead of '{spec['served_name']}'")


def _report_start(spec: Spec, elapsed: float, before: list[float]) -> None:
    line = f"server of {spec['model']}: starting for {elapsed:.0f} s"
    if before:
        line += f", about {max(before[-1] - elapsed, 0):.0f} s to go (its last start took {before[-1]:.0f} s)"
    print(line, file=sys.stderr, flush=True)


def _failure(state: State, what: str, remedy: str = "") -> QuantbenchError:
    """The error for a failed start, with the cause that the log names."""
    text = registry.log_text(state)
    diagnosis = engine_of(state["spec"]).diagnose(text)
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "the log is empty")
    cause = diagnosis.cause if diagnosis else f"last line of its log: {last[:300]}"
    return QuantbenchError(
        f"server of {state['spec']['model']} {what}: {cause}",
        remedy=(diagnosis.remedy if diagnosis else "") or remedy or "read the log",
        log=ready_facts.display(state["log"]),
    )


def awake_and_well(state: State) -> bool:
    """Is it up, awake, and does it answer?"""
    ready = state["phase"] == "ready" and not state["asleep"]
    return ready and registry.is_up(state) and engine_of(state["spec"]).healthy(state["url"], timeout=5)


def sleep(state: State, why: str) -> None:
    """Free the device for another server: sleep mode on CUDA, a frozen process set on the CPU. Raises SwitchError."""
    begin, spec = time.monotonic(), state["spec"]
    used = memory.used_mib(spec)
    if state["mode"] == "sleep":
        _sleep_mode(state, used)
    elif spec["platform"] == "cpu":
        # An idle engine still polls (1.5 % of a core each, measured); a frozen one takes nothing from the others.
        processes.signal_all(registry.members(state), signal.SIGSTOP)
    state["asleep"] = True
    registry.save(state)
    registry.add_event(state["home"], "sleep", seconds=round(time.monotonic() - begin, 3), why=why)


def _sleep_mode(state: State, used: float | None) -> None:
    engine = engine_of(state["spec"])
    try:
        engine.sleep(state["url"])
        if engine.is_sleeping(state["url"]) is False:
            raise SwitchError(f"{state['spec']['model']} says that it is awake after /sleep")
    except openai_api.ClientError as error:
        raise SwitchError(f"{state['spec']['model']} did not go to sleep: {error}") from error
    held = state.get("ready", {}).get("vram", {}).get("delta_mib")
    if used is None or not held:
        return  # no NVML: the next start or wake-up is the test
    freed = memory.freed_mib(state["spec"], used, held / 2)
    if freed is None:
        registry.add_event(state["home"], "memory_not_reported", why=f"asleep, but {memory.NOT_REPORTED}")
        return
    if freed < held / 2:
        raise SwitchError(
            f"{state['spec']['model']} sleeps but freed too little: {used} → {used - freed} MiB, it held {held} MiB"
        )
    state["freed_mib"] = round(freed, 1)


def wake(state: State, why: str) -> None:
    """Wake a sleeping server and check that it answers with tokens. Raises SwitchError."""
    begin, spec = time.monotonic(), state["spec"]
    if state["asleep"] and state["mode"] == "sleep":
        _wake_mode(state)
    elif spec["platform"] == "cpu":
        processes.signal_all(registry.members(state), signal.SIGCONT)
    try:
        if not engine_of(spec).healthy(state["url"], timeout=10):
            raise SwitchError(f"{spec['model']} is not healthy after it was woken")
        answer = openai_api.complete(state["url"], spec["served_name"], tokens=4, timeout=30)
    except openai_api.ClientError as error:
        raise SwitchError(f"{spec['model']} does not answer after it was woken: {error}") from error
    if not answer["tokens"]:
        raise SwitchError(f"{spec['model']} answers without tokens after it was woken")
    state["asleep"] = False
    registry.save(state)
    registry.add_event(state["home"], "wake", seconds=round(time.monotonic() - begin, 3), why=why)


def _wake_mode(state: State) -> None:
    card, need = memory.snapshot(state["spec"]["devices"]), state.get("freed_mib")
    if card and need and card["free_mib"] < need:
        raise SwitchError(
            f"{state['spec']['model']} needs {need} MiB to wake up, {card['free_mib']} MiB are free; "
            f"on the GPU: {memory.users(card)}"
        )
    engine = engine_of(state["spec"])
    try:
        engine.wake(state["url"])
    except openai_api.ClientError as error:
        raise SwitchError(f"{state['spec']['model']} did not wake up: {error}") from error
    if engine.is_sleeping(state["url"]):
        raise SwitchError(f"{state['spec']['model']} says that it sleeps after /wake_up")


def stop(state: State, why: str) -> dict[str, Any]:
    """End the server and prove that its memory came back; returns the event that is also recorded."""
    begin, spec = time.monotonic(), state["spec"]
    folder = registry.folder(state)
    held = memory.held_mib(spec, registry.members(state))
    parents = processes.supervisors(state["mark"])
    processes.signal_all(parents, signal.SIGTERM)
    processes.until(lambda: not processes.supervisors(state["mark"]), GRACE_S + 5)
    processes.signal_all(processes.supervisors(state["mark"]), signal.SIGKILL)
    left: list[int] = []
    if (folder / "launch.json").exists():
        supervisor.clean(folder, files.read_json(folder / "launch.json"))
        left = registry.members(state)
    end = registry.ended(state) or {}
    event = {"seconds": round(time.monotonic() - begin, 3), "why": why, "returncode": end.get("returncode")}
    others = [s["spec"]["model"] for s in registry.servers(spec["devices"]) if s["key"] != state["key"]]
    event |= memory.after_stop(state, held, left, others)
    registry.forget(state)
    registry.add_event(state["home"], "stop", **event)
    return event


def session_record(spec: Spec) -> dict[str, Any]:
    """session.json of a spec's server, over all runs that its folder has seen."""
    events = registry.read_events(owner.server_home(spec["model"]))
    return registry.session_of(spec["model"], mode_of(spec)[0], events)
