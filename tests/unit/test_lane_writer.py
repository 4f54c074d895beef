"""The process that writes blocks: it is there again after it was ended, and what it has written is not lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest
import runs
from quantbench import block, lane_writer
from quantbench.ask_lane import RUN
from quantbench.errors import QuantbenchError
from quantbench.records.plan import ArmPlan
from quantbench.records.request import RequestRecord
from quantbench.serving import agenda, owner
from source import ROOT


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a run, for the journals of its lanes."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv(RUN, str(tmp_path / "run"))


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "workflow"))
    monkeypatch.setenv(owner.OWNER, owner.current())
    made = lane_writer.Writer()
    yield made
    made._process.kill()
    made._process.wait()
    made._line.close()


def there(log: Path) -> lane_writer.Measured:
    """A block whose files are there already."""
    return lane_writer.Measured(lane_writer.Place("one", ("bf16", "chat", 1, 16, 1), log), None, ArmPlan(), None)


def handed_over(writer: lane_writer.Writer, log: Path, *, last: bool = True) -> socket.socket:
    """The line of a job whose block was measured."""
    job, other = socket.socketpair()
    job.settimeout(60)
    with other:
        writer.take(other, there(log), 1, last=last)
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
    threading.Timer(0.5, os.kill, (writer._process.pid, signal.SIGCONT)).start()
    begun = time.monotonic()
    jobs = [handed_over(writer, tmp_path / f"b{n}.log") for n in (1, 2)]
    assert time.monotonic() > begun + 0.4, "the second is not taken before the first is written"
    assert [answered(job) for job in jobs] == [{"code": 0}] * 2


def test_a_job_is_answered_at_its_last_block(writer: lane_writer.Writer, tmp_path: Path) -> None:
    job, other = socket.socketpair()
    job.settimeout(60)
    with other:
        writer.take(other, there(tmp_path / "log"), 1, last=False)
        writer.take(other, there(tmp_path / "log"), 1, last=True)
    writer.finish()
    assert job.recv(100) == b'{"code": 0}\n', "once"
    job.close()
    assert (tmp_path / "log").read_text() == "done\n", "once"
    assert [json.loads(line) for line in (agenda.folder() / "one.journal").open()] == [
        ["measured", ["bf16", "chat", 1, 16, 1]]
    ] * 2


def fail() -> None:
    raise QuantbenchError("no room", remedy="make room")


def test_what_cannot_be_written_gives_the_jobs_code_and_is_noted(tmp_path: Path) -> None:
    assert lane_writer.attempt(there(tmp_path / "log").place, fail, 75, last=True) == 75
    assert "no room" in (tmp_path / "log").read_text()
    assert json.loads((agenda.folder() / "one.journal").read_text()) == ["failed", ["bf16", "chat", 1, 16]]


@pytest.mark.fault(
    "a lane's journal cannot be written",
    "the job fails with file and remedy; its block is not asked for again and again",
)
@pytest.mark.parametrize("last", [True, False])
def test_a_job_whose_block_cannot_be_noted_is_answered_and_the_writer_lives(
    writer: lane_writer.Writer, tmp_path: Path, last: bool
) -> None:
    journal = agenda.folder() / "one.journal"
    journal.mkdir()
    job, other = socket.socketpair()
    job.settimeout(60)
    with other:
        writer.take(other, there(tmp_path / "log"), 75, last=last)
    assert answered(job) == {"code": 1}
    assert "one.journal cannot be written: Is a directory" in (tmp_path / "log").read_text()
    journal.rmdir()
    assert answered(handed_over(writer, tmp_path / "log")) == {"code": 0}


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
    heard: Any = SimpleNamespace(block=asked, parsed=lambda: ([RequestRecord(0, "a", ok=True)], runs.block()))
    replace(there(tmp_path / "b1.log"), heard=heard).write()
    assert all(path.exists() for path in asked.files)


@pytest.mark.fault(
    "no request of a block succeeds (no usage in any reply, prompts longer than the context, time-outs)",
    "its job fails with the reasons and the server's first words; nothing of the block is kept",
)
def test_of_a_block_without_any_success_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_writer, "read", lambda *_: runs.ready())
    asked: Any = SimpleNamespace(
        files=(tmp_path / "b1.json", tmp_path / "b1.parquet"), gpu="x", wanted=None, arm="bf16", seed="chat/c1_t16/b1"
    )
    asked.spec = SimpleNamespace(model="bf16")
    failed = [RequestRecord(n, "a", reason="http_4xx", detail="too long") for n in range(2)]
    context = msgspec.structs.replace(
        runs.block(),
        metrics={"failures": 2.0, "n": 2.0},
        failure_reasons={"http_4xx": 2},
        failure_words={"http_4xx": "too long"},
    )
    heard: Any = SimpleNamespace(block=asked, parsed=lambda: (failed, context))
    with pytest.raises(
        QuantbenchError, match=r"bf16 chat/c1_t16/b1 at .*: no request succeeded; .*http_4xx: 2, the first “too long”"
    ):
        replace(there(tmp_path / "b1.log"), heard=heard).write()
    assert not list(tmp_path.glob("b1.*"))
