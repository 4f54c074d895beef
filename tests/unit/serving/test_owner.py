from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from quantbench.errors import QuantbenchError
from quantbench.serving import owner, processes, server
from servers import PATIENCE_S, fake_spec


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv(owner.STATE, str(tmp_path / "state"))
    for name in (owner.OWNER, owner.DEVICES, owner.SERVERS, "PYTHONPATH"):
        monkeypatch.setenv(name, "")


def test_become_owner_makes_this_process_the_owner_and_jobs_inherit_it():
    mine = owner.become_owner(["1", "0", "1"], "results/x/servers")
    assert mine == processes.token(os.getpid())
    assert owner.devices() == ["0", "1"]
    assert owner.server_home("bf16") == Path.cwd() / "results/x/servers/bf16"
    code = "from quantbench.serving import owner; print(owner.become_owner(owner.devices()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == mine
    assert os.environ["PYTHONPATH"].split(os.pathsep).count(str(owner.LIBRARY)) == 1
    owner.become_owner()
    assert os.environ["PYTHONPATH"].split(os.pathsep).count(str(owner.LIBRARY)) == 1


def test_a_dead_or_foreign_owner_is_not_inherited(monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    dead = processes.token(child.pid)
    child.wait()
    for inherited in (dead, "elsewhere:1:1", f"{processes.token(os.getpid())}0", "nonsense", "::"):
        monkeypatch.setenv(owner.OWNER, inherited)
        assert owner.current() == processes.token(os.getpid())


def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    token = processes.token(child.pid)
    assert processes.until(lambda: processes._stat(child.pid)[:1] == ["Z"], PATIENCE_S)
    assert not processes.alive(token)
    child.wait()
    assert processes.pidfd(token) is None


@pytest.mark.fault("a run is killed while a job of it starts", "the job does not begin")
def test_a_job_whose_owner_died_before_it_began_does_not_begin(monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    monkeypatch.setenv(owner.OWNER, processes.token(child.pid))
    child.wait()
    with pytest.raises(SystemExit) as caught:
        owner.end_with_owner()
    assert caught.value.code == 143


def test_a_job_ends_with_its_owner(monkeypatch, tmp_path):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    monkeypatch.setenv(owner.OWNER, processes.token(stranger.pid))
    monkeypatch.setenv("PYTHONPATH", str(owner.LIBRARY))
    code = "import time; from quantbench.serving import owner; owner.end_with_owner(); print('on', flush=True)"
    code += "; time.sleep(600)"
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "on\n"
    stranger.kill()
    stranger.wait()
    assert job.wait(PATIENCE_S) == 143


def test_a_pythonpath_of_the_user_stays_behind_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/some/site", str(owner.LIBRARY), "/other"]))
    assert owner.library_path().split(os.pathsep) == [str(owner.LIBRARY), "/some/site", "/other"]


@pytest.mark.fault(
    "a variable of ours means nothing (QUANTBENCH_IDLE_S=soon)",
    "named when the run is planned, before anything is made",
)
@pytest.mark.parametrize(
    ("name", "value"),
    [*((owner.IDLE, text) for text in ("soon", "nan", "inf", "-1", "0", "1e999")), (owner.SHARED, "yes")],
)
def test_a_variable_that_means_nothing_is_named_before_anything_is_made(tmp_path, monkeypatch, name, value):
    before = set(Path(tempfile.gettempdir()).glob("quantbench-*"))
    monkeypatch.setenv(name, value)
    with pytest.raises(QuantbenchError, match=f"{name} is '{value}'") as caught:
        owner.check_environment()
    assert name in caught.value.remedy
    if name == owner.IDLE:
        with pytest.raises(QuantbenchError, match=f"{name} is '{value}'"):
            server.start(fake_spec(tmp_path), "test")
    assert set(Path(tempfile.gettempdir()).glob("quantbench-*")) == before
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("name", "value"), [(owner.IDLE, "0.5"), (owner.IDLE, ""), (owner.SHARED, "1"), (owner.SHARED, "")]
)
def test_a_variable_that_means_something_is_taken_and_planning_makes_no_state(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    owner.check_environment()
    assert owner.idle_s() == (0.5 if value == "0.5" else 3600)
    assert owner.shared_folder() == (name == owner.SHARED and value == "1")
    assert not (tmp_path / "state").exists()
    monkeypatch.setenv(owner.BLOCKS, "many")
    assert owner.planned_blocks() == 0


def test_what_another_run_left_in_the_environment_is_dropped(monkeypatch):
    left = (processes.MARK, processes.SUPERVISES, "QUANTBENCH_VERSIONS_0123")
    for name in (*left, owner.IDLE):
        monkeypatch.setenv(name, "7")
    owner.check_environment()
    assert not [name for name in left if name in os.environ]
    assert owner.idle_s() == 7
