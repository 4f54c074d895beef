"""The folder of a run, and what is left of dead ones."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from quantbench.ask_lane import RUN
from quantbench.serving import agenda, owner, processes


@pytest.mark.fault(
    "the process of a lane is frozen (SIGSTOP) when its run ends or is killed",
    "the next run ends it, and gets the lane",
)
def test_what_a_dead_run_has_left_is_ended_but_not_its_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(owner.STATE, str(tmp_path))
    monkeypatch.setenv(owner.OWNER, owner.current())
    monkeypatch.setenv(RUN, "")
    tmp_path.chmod(0o700)
    dead = owner.state_dir() / "runs/4194305-1"
    dead.mkdir(mode=0o700, parents=True)
    dead.parent.chmod(0o700)
    of_run = {**os.environ, RUN: str(dead)}
    frozen, server = (
        subprocess.Popen(["sleep", "60"], env=env) for env in (of_run, of_run | {processes.MARK: "a" * 32})
    )
    try:
        frozen.send_signal(signal.SIGSTOP)
        agenda.announce({}, {}, [], {}, [])
        assert frozen.wait(10) == -signal.SIGKILL
        assert server.poll() is None, "it has a supervisor, and the sweep"
        assert not dead.exists()
        assert agenda.folder().exists()
    finally:
        for process in (frozen, server):
            process.kill()
            process.wait()
        agenda.forget()
