"""What is said to a pipe or terminal that is gone is lost, and no error."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from source import ROOT

SAYS = """
import os, sys, time
from quantbench import terminal
terminal.outlive()
print("first", flush=True)
sys.stdin.readline()
# What is being said in the very moment is not caught.
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until and any(os.readlink(f"/proc/self/fd/{n}") != os.devnull for n in (1, 2)):
    time.sleep(0.01)
for handle in (sys.stdout, sys.stderr):
    print("nobody hears this", file=handle, flush=True)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_process_outlives_its_listener(kind: str, tmp_path: Path) -> None:
    heard, said = os.pipe() if kind == "pipe" else pty.openpty()
    done = tmp_path / "done"
    process = subprocess.Popen(
        [sys.executable, "-c", SAYS, str(done), "30"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=said,
        start_new_session=True,
    )
    os.close(said)
    said_first = b""
    while not said_first.endswith(b"\n"):  # unbuffered, the line's end is a write of its own
        said_first += os.read(heard, 64)
    assert said_first.split() == [b"first"]
    os.close(heard)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
    assert done.exists()


def test_handles_that_are_closed_or_files_are_left_alone(tmp_path: Path) -> None:
    code = SAYS.replace("(sys.stdout, sys.stderr)", "(sys.stdout,)")
    line = f"exec {sys.executable} -c '{code}' {tmp_path / 'done'} 0 2>&-"
    where = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    ran = subprocess.run(["sh", "-c", line], env=where, input="\n", capture_output=True, text=True, check=True)
    assert ran.stdout == "first\nnobody hears this\n"
