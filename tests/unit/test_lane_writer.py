"""The process that writes blocks: it is there again after it was ended, and what it has written is not lost."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import runs
from quantbench import block, lane_writer
from quantbench.records.plan import ArmPlan
from quantbench.serving import owner
from source import ROOT


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "workflow"))
    monkeypatch.setenv(owner.OWNER, owner.current())
    made = lane_writer.Writer()
    yield made
    made._process.kill()
    made._process.wait()
    made._line.close()


def handed_over(writer: lane_writer.Writer, log: Path) -> socket.socket:
    """The line of a job whose files are there already."""
    job, other = socket.socketpair()
    job.settimeout(60)
    with other:
        writer.take(other, lane_writer.Measured(log, None, ArmPlan(), None))
    return job


def answered(job: socket.socket) -> Any:
    with job:
        return json.loads(job.makefile("rb").readline() or b"null")


@pytest.mark.fault("`kill -9` of the process that writes, between two blocks", "a new one writes the next block")
def test_an_ended_writer_is_started_anew(writer: lane_writer.Writer, tmp_path: Path) -> None:
    assert answered(handed_over(writer, tmp_path / "b1.log")) == {"code": 0}
    writer._process.kill()
    writer._process.wait()
    assert answered(handed_over(writer, tmp_path / "b2.log")) == {"code": 0}
    assert [path.read_text() for path in sorted(tmp_path.glob("*.log"))] == ["done\n", "done\n"]


@pytest.mark.fault("the process that writes blocks is frozen (SIGSTOP) and wakes up", "nothing is lost; its job waits")
def test_a_frozen_writer_writes_all_when_it_wakes_up(writer: lane_writer.Writer, tmp_path: Path) -> None:
    os.kill(writer._process.pid, signal.SIGSTOP)
    jobs = [handed_over(writer, tmp_path / f"b{n}.log") for n in (1, 2)]
    os.kill(writer._process.pid, signal.SIGCONT)
    assert [answered(job) for job in jobs] == [{"code": 0}] * 2


@pytest.mark.parametrize("error", [FileNotFoundError("b2.json"), psutil.NoSuchProcess(1), BrokenPipeError()])
def test_a_block_is_not_lost_for_a_word_on_it(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(*_: Any) -> None:
        raise error

    monkeypatch.setattr(block, "say_progress", say)
    monkeypatch.setattr(lane_writer, "read", lambda *_: runs.ready())
    asked: Any = SimpleNamespace(files=(tmp_path / "b1.json", tmp_path / "b1.parquet"), gpu="x", wanted=None)
    asked.spec = SimpleNamespace(model="bf16")
    heard: Any = SimpleNamespace(block=asked, parsed=lambda: ([], runs.block()))
    lane_writer.Measured(tmp_path / "b1.log", heard, ArmPlan(), None).write()
    assert all(path.exists() for path in asked.files)
