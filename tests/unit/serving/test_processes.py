"""Which processes belong to a server, and what they hold."""

from __future__ import annotations

import os
import subprocess
import sys

from quantbench.serving import processes


def test_a_process_that_overwrote_the_beginning_of_its_environment_keeps_its_mark(tmp_path, monkeypatch):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/environ").write_bytes(b"VLLM::EngineCore\0\0\0\0QUANTBENCH_SERVER=m\0HOME=/\0")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes._carries(7, processes.MARK, "m")
    assert not processes._carries(7, processes.MARK, "other")
    assert not processes._carries(8, processes.MARK, "m")


def test_a_token_names_a_process_and_not_its_pid():
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=pipe, stdout=pipe)
    child.stdout.readline()
    token = processes.token(child.pid)
    assert processes.alive(token)
    assert not processes.alive(f"{token}1"), "the same pid, started at another time"
    assert processes.rss_mib([child.pid]) > 1
    child.communicate(b"\n")
    assert not processes.alive(token)
    assert processes.rss_mib([child.pid]) == 0
    assert processes.pid_of(processes.token(os.getpid())) == os.getpid()
