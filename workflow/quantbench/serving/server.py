"""The life of one server: start it under a supervisor, put it to sleep, wake it, stop it. The caller holds the lock."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from msgspec.structs import replace

from quantbench.config.secret_words import hidden
from quantbench.engines import endings, openai_api
from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import Diagnosis
from quantbench.errors import QuantbenchError
from quantbench.observe import given, programs
from quantbench.records.base import write
from quantbench.records.server import Event, Mode, ServerSpec, Session
from quantbench.records.serving import Launch, State
from quantbench.serving import memory, owner, ports, preflight, processes, registry, supervisor, trust
from quantbench.serving import ready as ready_facts

GRACE_S = 3.0
"""Seconds that a server gets after SIGTERM; with a request in flight it may wait for ever."""
_REPORT_S = 10.0


class SwitchError(Exception):
    """A server did not go to sleep or did not wake up; the message says how."""


class AnswerChangedError(SwitchError):
    """A server woke up and answers, but otherwise than at its start."""


def mode_of(spec: ServerSpec) -> tuple[Mode, str]:
    """How a lane changes models, and the reason: `auto` by platform and the engine's version, else what the spec says.

    sleep     all servers stay, one holds the GPU; a switch takes well under a second
    resident  all servers stay in memory, one runs (CPU)
    restart   one server at a time; drift between models is then part of every difference
    endpoint  the server is not ours, so nothing is changed
    """
    if spec.endpoint:
        return "endpoint", "the server is not ours"
    if spec.mode != "auto":
        return spec.mode, "set in config (lanes)"
    if spec.platform == "cpu":
        return "resident", "sleep mode needs a GPU; on the CPU all servers stay in memory"
    engine = engine_of(spec)
    if reason := engine.no_sleep_reason(engine.installed(spec).vllm):
        return "restart", reason
    return "sleep", "one GPU, all servers resident, one awake"


def start(spec: ServerSpec, why: str) -> State:
    """Start the server, wait until it answers, and gather what it is.

    Raises QuantbenchError with cause, remedy and log if it cannot start, or is not quantized as its config says;
    nothing is left of it then.
    """
    preflight.check(spec)
    memory.check_gpu_memory(spec)
    with ports.held(spec) as placed:
        return _started(placed, why)


def _started(spec: ServerSpec, why: str) -> State:
    idle_s, state, begin = owner.idle_s(), _prepare(spec), time.monotonic()
    try:
        # Before anything runs, so that whatever happens the server can be found by its mark.
        registry.save(state)
        _launch(state, idle_s)
        _wait_ready(state)
        state = replace(state, start_s=round(time.monotonic() - begin, 2))
        registry.add_event(state.home, "start", seconds=state.start_s, why=why, mode=state.mode)
        return registry.save(replace(state, ready=ready_facts.gather(state)))
    except BaseException as error:
        stop(state, f"start failed: {error}".splitlines()[0])
        raise


def _prepare(spec: ServerSpec) -> State:
    """Its state before anything runs; its log and its temporary folder are there."""
    mark = uuid.uuid4().hex
    home, mode = owner.server_home(spec.model), mode_of(spec)[0]
    log = home / "server.log"
    argv, _ = engine_of(spec).command(spec, mode)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with registry.open_log(log) as handle:
        handle.write(f"\n# quantbench {started}: {shlex.join(argv)}\n".encode())
    return State(
        key=registry.key_of(spec, mark),
        spec=spec,
        devices=given.cards(spec.devices),
        mode=mode,
        host=socket.gethostname(),
        owner=owner.current(),
        mark=mark,
        home=str(home),
        log=str(log),
        log_start=log.stat().st_size,
        started_at=started,
        started_unix=time.time(),
        before_mib=memory.used_mib(spec.devices),
        scratch=trust.make_scratch(),
    )


def _launch(state: State, idle_s: float) -> None:
    engine = engine_of(state.spec)
    argv, env = engine.command(state.spec, state.mode)
    folder = registry.folder(state.key)
    launch = Launch(
        argv=tuple(argv),
        env=env,
        unset=engine.UNSET,
        owner=state.owner,
        mark=state.mark,
        log=state.log,
        home=state.home,
        devices=state.devices,
        scratch=state.scratch,
        idle_s=idle_s,
        grace_s=GRACE_S,
    )
    write(folder / "launch.json", launch)
    with (folder / "supervisor.log").open("ab") as log:
        try:
            subprocess.Popen(
                [sys.executable, "-m", "quantbench.serving.supervisor", str(folder)],
                env={**os.environ, "PYTHONPATH": owner.library_path(), processes.SUPERVISES: state.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            why, remedy = programs.not_started(sys.executable, "this environment", error)
            what = f"server of {state.spec.model}: its supervisor could not be started: {why}"
            raise QuantbenchError(what, remedy=remedy) from error


def _wait_ready(state: State) -> None:
    """Poll until the server is healthy; report every ten seconds how far it is."""
    spec, begin, reported_s = state.spec, time.monotonic(), 0.0
    timeout = spec.settings.start_timeout_s
    before = [e.seconds for e in registry.read_events(state.home) if e.event == "start" and e.seconds]
    while True:
        elapsed = time.monotonic() - begin
        if registry.ended(state.key) or (elapsed > 2 and not registry.supervised(state)):
            raise _failure(state, "ended while it was starting")
        if registry.leader(state.key) and _answers(state):
            return
        if elapsed > timeout:
            raise _failure(state, f"does not answer after {timeout:.0f} s", "raise server.start_timeout_s")
        if elapsed - reported_s >= _REPORT_S:
            reported_s = elapsed
            _report_start(spec, elapsed, before)
        time.sleep(0.05 if elapsed < 2 else 0.2)


def _answers(state: State) -> bool:
    """Is the server up, and is it ours? Raises QuantbenchError for an answer that no waiting makes a right one."""
    spec = state.spec
    try:
        openai_api.check_server(spec.url, spec.served_name)
        wrong = None
    except openai_api.ClientError as error:
        if not error.lasting:
            return False
        wrong = error
    if holder := preflight.stranger_on(spec.port, registry.members(state)):
        raise QuantbenchError(
            f"server of {spec.model} lost its port {spec.port} to {holder} while it was starting",
            remedy=f"end that process, or set models.{spec.model}.port to another",
            log=ready_facts.display(state.log),
        ) from wrong
    if wrong is not None:
        raise _failure(
            state, f"is not the model server that was to start: {wrong}", _own_remedy(spec, wrong)
        ) from wrong
    return True


def _own_remedy(spec: ServerSpec, error: openai_api.ClientError) -> str:
    if error.status in (401, 403):
        return "take the API key out of its arguments and env: it listens on the loopback interface only"
    return f"check server.command and server.args of models.{spec.model}: they must start `vllm serve` as given"


def _report_start(spec: ServerSpec, elapsed: float, before: list[float]) -> None:
    line = f"server of {spec.model}: starting for {elapsed:.0f} s"
    if before:
        line += f", about {max(before[-1] - elapsed, 0):.0f} s to go (its last start took {before[-1]:.0f} s)"
    print(line, file=sys.stderr, flush=True)


def _failure(state: State, what: str, remedy: str = "") -> QuantbenchError:
    """The error for a failed start, with the cause that the supervisor or the log names."""
    text, log, end = registry.log_text(state), ready_facts.display(state.log), registry.ended(state.key)
    if end and end.remedy:
        what = f"server of {state.spec.model} could not be started: {end.why}"
        return QuantbenchError(what, remedy=end.remedy, log=log)
    if not text.strip():
        text = _supervisors_words(state)
    diagnosis = engine_of(state.spec).diagnose(text)
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    found: Diagnosis | endings.Ending | None = diagnosis
    if not diagnosis or not diagnosis.certain:  # a signal explains what a process could write nothing of
        by_code = endings.signal_of(end.returncode) if end and end.why == "ended by itself" else None
        if number := (diagnosis and diagnosis.signal) or by_code:
            found = endings.of_signal(number, endings.out_of_memory_kills())
    cause = found.cause if found else f"last line of its log: {last[:300]}" if last else "it printed nothing"
    return QuantbenchError(
        f"server of {state.spec.model} {what}: {cause}",
        remedy=(found.remedy if found else "") or remedy or ("read the log" if last else _RUN_BY_HAND),
        log=log,
    )


_RUN_BY_HAND = "run the command in the log's last line by hand, or correct server.command"


def _supervisors_words(state: State) -> str:
    """What the supervisor printed, moved to the server's log: its own goes with the state."""
    with contextlib.suppress(OSError, QuantbenchError):
        text = (registry.folder(state.key) / "supervisor.log").read_text(errors="replace")
        with registry.open_log(Path(state.log)) as log:
            log.write(text.encode())
        return hidden(text, os.environ)
    return ""


def awake_and_well(state: State) -> bool:
    """Is it up, awake, and does it answer?"""
    url, name = state.spec.url, state.spec.served_name
    return not state.asleep and registry.is_up(state) and openai_api.healthy(url, name, timeout=5)


def sleep(state: State, why: str) -> State:
    """Free the device for another server: sleep mode on CUDA, a frozen process set on the CPU. Raises SwitchError."""
    begin, freed = time.monotonic(), state.freed_mib
    if state.mode == "sleep":
        freed = _sleep_mode(state) or freed
    elif state.spec.platform == "cpu":
        # An idle engine still polls (1.5 % of a core each, measured); a frozen one takes nothing from the others.
        processes.signal_all(registry.members(state), signal.SIGSTOP)
    registry.add_event(state.home, "sleep", seconds=round(time.monotonic() - begin, 3), why=why)
    return registry.save(replace(state, asleep=True, freed_mib=freed))


def _sleep_mode(state: State) -> float | None:
    """Send it to sleep and see that it gave memory back: MiB, None where NVML does not tell."""
    engine, spec, used = engine_of(state.spec), state.spec, memory.used_mib(state.devices)
    try:
        engine.sleep(spec.url)
        if engine.is_sleeping(spec.url) is False:
            raise SwitchError(f"{spec.model} says that it is awake after /sleep")
    except openai_api.ClientError as error:
        raise SwitchError(f"{spec.model} did not go to sleep: {error}") from error
    held = state.ready.vram.delta_mib if state.ready and state.ready.vram else None
    if used is None or not held:
        return None  # no NVML: the next start or wake-up is the test
    freed = memory.freed_mib(state.devices, used, held / 2)
    if freed is None:
        registry.add_event(state.home, "memory_not_reported", why=f"asleep, but {memory.NOT_REPORTED}")
        return None
    if freed < held / 2:
        raise SwitchError(f"{spec.model} sleeps but freed too little: {used} → {used - freed} MiB, it held {held} MiB")
    return round(freed, 1)


def wake(state: State, why: str) -> State:
    """Wake a sleeping server and check that it answers, after sleep mode with what it answered at its start.

    Raises SwitchError.
    """
    begin, spec = time.monotonic(), state.spec
    if state.asleep and state.mode == "sleep":
        _wake_mode(state)
    elif spec.platform == "cpu":
        processes.signal_all(registry.members(state), signal.SIGCONT)
    try:
        openai_api.check_server(spec.url, spec.served_name, timeout=10)
        _check_answer(state)
    except openai_api.ClientError as error:
        raise SwitchError(f"{spec.model} does not answer after it was woken: {error}") from error
    registry.add_event(state.home, "wake", seconds=round(time.monotonic() - begin, 3), why=why)
    return registry.save(replace(state, asleep=False))


def _wake_mode(state: State) -> None:
    spec, need = state.spec, state.freed_mib
    card = memory.snapshot(state.devices)
    if card and need and card.free_mib < need:
        raise SwitchError(
            f"{spec.model} needs {need} MiB to wake up, {card.free_mib} MiB are free; on the GPU: {memory.users(card)}"
        )
    engine = engine_of(spec)
    try:
        engine.wake(spec.url)
    except openai_api.ClientError as error:
        raise SwitchError(f"{spec.model} did not wake up: {error}") from error
    if engine.is_sleeping(spec.url):
        raise SwitchError(f"{spec.model} says that it sleeps after /wake_up")


def _check_answer(state: State) -> None:
    """One short completion. Raises SwitchError, ClientError."""
    spec = state.spec
    # Only sleep mode moves the weights; a process that was frozen has them where they were.
    before = state.ready.test_completion.text if state.ready and state.mode == "sleep" else ""
    if before.strip():
        if changed := engine_of(spec).changed_answer(spec.url, spec.served_name, before):
            raise AnswerChangedError(f"{spec.model} is not what it was after a sleep: {changed}")
    elif not openai_api.complete(spec.url, spec.served_name, tokens=4, timeout=30).completion.tokens:
        raise SwitchError(f"{spec.model} answers without tokens after it was woken")


def stop(state: State, why: str) -> Event:
    """End the server and prove that its memory came back; returns the event that is also recorded."""
    begin = time.monotonic()
    held = memory.held_mib(state, registry.members(state))
    _end_supervisors(state.mark)
    supervisor.clean(registry.folder(state.key), state)
    left = registry.members(state)
    end = registry.ended(state.key)
    seconds = round(time.monotonic() - begin, 3)
    event = registry.new_event(state.home, "stop", seconds=seconds, why=why, returncode=end and end.returncode)
    others = [s.spec.model for s in registry.servers(state.devices) if s.key != state.key]
    event = memory.after_stop(event, state, held, left, others)
    registry.forget(state.key)
    registry.append_event(state.home, event)
    return event


def _end_supervisors(mark: str) -> None:
    processes.signal_all(processes.supervisors(mark), signal.SIGTERM)
    processes.until(lambda: not processes.supervisors(mark), GRACE_S + 5)
    processes.signal_all(processes.supervisors(mark), signal.SIGKILL)


def clear_broken(key: str) -> bool:
    """Remove a server's folder whose state cannot be used, and end what is left of that server.

    The mark comes from launch.json, or from its supervisor, which has it in its environment and all else in memory.
    False, and nothing is touched, if the folder is not ours or the run that started the server lives and is not this.
    """
    folder, launch = registry.folder(key), registry.launch(key)
    marks = processes.supervising(folder)
    owners = [launch.owner] if launch else [processes.variable(pid, owner.OWNER) for pid in marks]
    if not trust.is_ours(folder) or any(processes.alive(tok) for tok in owners if tok != owner.current()):
        return False
    for mark in {*marks.values(), *([launch.mark] if launch else [])}:
        _end_supervisors(mark)
        processes.kill_members(mark, None)
    if launch:
        supervisor.clean(folder, launch)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def session_record(spec: ServerSpec) -> Session:
    """session.json of a spec's server, over all runs that its folder has seen."""
    events = [*registry.read_events(owner.server_home(spec.model))]
    return registry.session_of(spec.model, mode_of(spec)[0], events)
