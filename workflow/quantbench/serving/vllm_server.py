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
from collections.abc import Mapping
from typing import Any

from quantbench import files
from quantbench.errors import QuantbenchError
from quantbench.observe import vllm_log
from quantbench.serving import (
    device_memory,
    memory_back,
    modes,
    owner,
    preflight,
    processes,
    registry,
    supervisor,
    vllm_client,
)
from quantbench.serving import ready as ready_facts
from quantbench.serving import vllm_command as command

Spec = Mapping[str, Any]
State = registry.State

GRACE_S = 3.0
"""Seconds that a server gets after SIGTERM; with a request in flight vLLM may wait for ever."""
_IDLE_S, _TELL_S = 3600.0, 10.0


class SwitchError(Exception):
    """A server did not go to sleep or did not wake up; the message says how."""


def mode_of(spec: Spec) -> str:
    """The mode that the spec's server is started for: `auto` resolved by platform and vLLM's version."""
    return modes.resolve(spec, preflight.versions(spec)["vllm"])[0]


def start(spec: Spec, why: str) -> State:
    """Start the server, wait until it answers, and gather what it is.

    Raises QuantbenchError with cause, remedy and log if it cannot start, or is not quantized as its config says;
    nothing is left of it then.
    """
    preflight.check(spec)
    preflight.check_gpu_memory(spec)
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
    home, spec_hash, mode = owner.server_home(spec["model"]), command.spec_hash(spec), mode_of(spec)
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    argv, _ = command.build(spec, mode)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with log.open("a") as handle:
        handle.write(f"\n# quantbench {started}: {shlex.join(argv)}\n")
    state: State = {
        "key": f"{spec['model']}-{spec_hash}",
        "spec": dict(spec),
        "mode": mode,
        "spec_hash": spec_hash,
        "owner": owner.current(),
        "mark": uuid.uuid4().hex,
        "url": command.url(spec),
        "phase": "starting",
        "asleep": False,
        "home": str(home),
        "log": str(log),
        "log_start": log.stat().st_size,
        "started_at": started,
        "started_unix": time.time(),
        "before_mib": device_memory.used_mib(spec),
    }
    registry.forget(state)
    return registry.save(state)


def _launch(state: State) -> None:
    argv, env = command.build(state["spec"], state["mode"])
    folder = registry.folder(state)
    launch = {key: state[key] for key in ("owner", "mark", "log", "home")} | {
        "argv": argv,
        "env": env,
        "unset": list(command.UNSET),
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
    """Poll until the server is healthy; tell every ten seconds how far it is."""
    spec, begin, told = state["spec"], time.monotonic(), 0.0
    timeout = float(spec["settings"]["start_timeout_s"])
    before = [e["seconds"] for e in registry.read_events(state["home"]) if e["event"] == "start"]
    while True:
        elapsed = time.monotonic() - begin
        if registry.ended(state) or (elapsed > 2 and not registry.supervised(state)):
            raise _failure(state, "ended while it was starting")
        if registry.leader(state) and vllm_client.healthy(state["url"]):
            break
        if elapsed > timeout:
            raise _failure(state, f"does not answer after {timeout:.0f} s", "raise server.start_timeout_s")
        if elapsed - told >= _TELL_S:
            told = elapsed
            _tell(spec, elapsed, before)
        time.sleep(0.05 if elapsed < 2 else 0.2)
    try:
        served = [entry.get("id") for entry in vllm_client.models(state["url"])]
    except vllm_client.ClientError as error:
        raise _failure(state, f"is up, but does not say what it serves: {error}") from error
    if spec["served_name"] not in served:
        raise _failure(state, f"serves {served} instead of '{spec['served_name']}'")


def _tell(spec: Spec, elapsed: float, before: list[float]) -> None:
    line = f"server of {spec['model']}: starting for {elapsed:.0f} s"
    if before:
        line += f", about {max(before[-1] - elapsed, 0):.0f} s to go (its last start took {before[-1]:.0f} s)"
    print(line, file=sys.stderr, flush=True)


def _failure(state: State, what: str, remedy: str = "") -> QuantbenchError:
    """The error for a failed start, with the cause that the log tells."""
    text = registry.log_text(state)
    diagnosis = vllm_log.diagnose(text)
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
    return ready and registry.is_up(state) and vllm_client.healthy(state["url"], timeout=5)


def sleep(state: State, why: str) -> None:
    """Free the device for another server: sleep mode on CUDA, a frozen process set on the CPU. Raises SwitchError."""
    begin, spec = time.monotonic(), state["spec"]
    used = device_memory.used_mib(spec)
    if state["mode"] == "sleep":
        _sleep_mode(state, used)
    elif spec["platform"] == "cpu":
        # An idle engine still polls (1.5 % of a core each, measured); a frozen one takes nothing from the others.
        processes.signal_all(registry.members(state), signal.SIGSTOP)
    state["asleep"] = True
    registry.save(state)
    registry.add_event(state["home"], "sleep", seconds=round(time.monotonic() - begin, 3), why=why)


def _sleep_mode(state: State, used: float | None) -> None:
    try:
        vllm_client.sleep(state["url"])
        if vllm_client.is_sleeping(state["url"]) is False:
            raise SwitchError(f"{state['spec']['model']} says that it is awake after /sleep")
    except vllm_client.ClientError as error:
        raise SwitchError(f"{state['spec']['model']} did not go to sleep: {error}") from error
    held = state.get("ready", {}).get("vram", {}).get("delta_mib")
    if used is None or not held:
        return  # no NVML: the next start or wake-up is the test
    freed = memory_back.freed_mib(state["spec"], used, held / 2)
    if freed is None:
        registry.add_event(state["home"], "untold", why=f"asleep, but {memory_back.UNTOLD}")
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
        if not vllm_client.healthy(state["url"], timeout=10):
            raise SwitchError(f"{spec['model']} is not healthy after it was woken")
        answer = vllm_client.complete(state["url"], spec["served_name"], tokens=4, timeout=30)
    except vllm_client.ClientError as error:
        raise SwitchError(f"{spec['model']} does not answer after it was woken: {error}") from error
    if not answer["tokens"]:
        raise SwitchError(f"{spec['model']} answers without tokens after it was woken")
    state["asleep"] = False
    registry.save(state)
    registry.add_event(state["home"], "wake", seconds=round(time.monotonic() - begin, 3), why=why)


def _wake_mode(state: State) -> None:
    card, need = device_memory.snapshot(state["spec"]["devices"]), state.get("freed_mib")
    if card and need and card["free_mib"] < need:
        raise SwitchError(
            f"{state['spec']['model']} needs {need} MiB to wake up, {card['free_mib']} MiB are free; "
            f"on the GPU: {device_memory.users(card)}"
        )
    try:
        vllm_client.wake(state["url"])
    except vllm_client.ClientError as error:
        raise SwitchError(f"{state['spec']['model']} did not wake up: {error}") from error
    if vllm_client.is_sleeping(state["url"]):
        raise SwitchError(f"{state['spec']['model']} says that it sleeps after /wake_up")


def stop(state: State, why: str) -> dict[str, Any]:
    """End the server and prove that its memory came back; returns the event that is also recorded."""
    begin, spec = time.monotonic(), state["spec"]
    folder = registry.folder(state)
    held = memory_back.held_mib(spec, registry.members(state))
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
    event |= memory_back.after_stop(state, held, left, others)
    registry.forget(state)
    registry.add_event(state["home"], "stop", **event)
    return event
