"""The supervisor with other programs than a server: whom it ends, and whom it never touches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from quantbench.records.base import write
from quantbench.records.serving import Launch
from quantbench.serving import owner, processes, registry, trust
from servers import PATIENCE_S

# Like vLLM: a child that forgets its environment and ignores SIGTERM, and a semaphore in /dev/shm.
SERVER = textwrap.dedent("""
    import multiprocessing, os, subprocess, sys, time
    semaphore = multiprocessing.get_context("spawn").Semaphore(1)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], env={})
    open(os.path.join(os.environ["TMPDIR"], "socket"), "w").close()
    print("up", os.getpid(), child.pid, semaphore._semlock.name, flush=True)
    time.sleep(600)
""")


@pytest.fixture
def supervised(tmp_path, monkeypatch):
    """Start SERVER under a supervisor of an owner; yields (state, owner's process, supervisor's process)."""
    monkeypatch.setenv(owner.STATE, str(tmp_path / "state"))
    boss = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    mark, folder = uuid.uuid4().hex, trust.folder(registry.folder("x"))
    scratch = trust.make_scratch()
    launch = Launch(
        argv=(sys.executable, "-c", SERVER), env={}, unset=(), owner=processes.token(boss.pid), mark=mark,
        log=str(tmp_path / "log"), home=str(tmp_path / "home"), devices=("cpu",), scratch=scratch,
        idle_s=600, grace_s=0.5,
    )  # fmt: skip
    write(folder / "launch.json", launch)
    env = {**os.environ, "PYTHONPATH": str(owner.LIBRARY), processes.SUPERVISES: mark}
    supervisor = subprocess.Popen([sys.executable, "-m", "quantbench.serving.supervisor", str(folder)], env=env)
    state = SimpleNamespace(key="x", mark=mark, log=launch.log, scratch=scratch)
    assert processes.until(lambda: (tmp_path / "log").exists() and "up" in (tmp_path / "log").read_text(), PATIENCE_S)
    assert processes.until(lambda: bool(registry.shared_memory("x")), PATIENCE_S)
    yield state, boss, supervisor
    processes.kill_members(mark, registry.leader("x"), launch.log)
    for process in (boss, supervisor):
        process.kill()
        process.wait()


def everything_gone(state, tmp_path):
    name = (tmp_path / "log").read_text().split()[3]
    assert not Path("/dev/shm", f"sem.{name.lstrip('/')}").exists()
    assert not Path(state.scratch).exists()
    assert registry.members(state) == []


def test_the_child_without_environment_is_a_member(supervised, tmp_path):
    state, _, supervisor = supervised
    server, child = map(int, (tmp_path / "log").read_text().split()[1:3])
    assert {server, child} <= set(registry.members(state))
    assert not processes._carries(child, processes.MARK, state.mark)
    assert supervisor.pid not in registry.members(state)
    assert os.getpid() not in registry.members(state)


@pytest.mark.fault(
    "`kill -9` of a supervisor, of its run, or of the server; SIGTERM to the supervisor",
    "no process, shared memory or temporary folder is left",
)
@pytest.mark.parametrize("cause", ["SIGTERM", "owner", "supervisor", "server"])
def test_nothing_is_left(supervised, tmp_path, cause):
    state, boss, supervisor = supervised
    bystander = Path("/dev/shm") / f"sem.mp-bystander-{state.mark[:8]}"
    bystander.write_bytes(b"")
    victim = {"SIGTERM": supervisor, "owner": boss, "supervisor": supervisor}.get(cause)
    try:
        if victim is None:
            os.kill(processes.pid_of(registry.leader("x")), signal.SIGKILL)
        else:
            victim.send_signal(signal.SIGTERM if cause == "SIGTERM" else signal.SIGKILL)
            victim.wait()
        assert processes.until(
            lambda: registry.ended("x") is not None and not processes.supervisors(state.mark), PATIENCE_S
        )
        everything_gone(state, tmp_path)
        assert bystander.exists()
    finally:
        bystander.unlink(missing_ok=True)
    expected = {
        "SIGTERM": "requested",
        "owner": "owner gone",
        "supervisor": "supervisor killed",
        "server": "ended by itself",
    }
    assert registry.ended("x").why == expected[cause]


@pytest.mark.fault("a server is frozen (SIGSTOP) when its run ends", "it is ended all the same")
def test_a_frozen_server_is_ended_too(supervised, tmp_path):
    state, boss, _ = supervised
    processes.signal_all(registry.members(state), signal.SIGSTOP)
    boss.kill()
    boss.wait()
    assert processes.until(lambda: registry.ended("x") is not None, PATIENCE_S)
    everything_gone(state, tmp_path)
