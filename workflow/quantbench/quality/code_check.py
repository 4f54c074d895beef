"""Run code that a model wrote, under limits: 5 s, little memory, no network, no writing, no processes.

These are limits, not a security boundary: they hold code that loops, eats memory, deletes files or forks; they
do not hold an attacker. An audit hook refuses what pure functions never need (it matters when the pipeline runs
as root). Where the kernel allows it the child also gets its own user, network and process namespace (`unshare`)
and dies with all it started; elsewhere resource limits and a process group must do.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from quantbench.quality.checks import Check, Outcome, fenced

SECONDS = 5
MEMORY = 512 * 2**20
FILE_SIZE = 2**20
# The child reads its tests and a secret word from stdin before the model's code runs, and says the word only
# after all tests held: code that exits early or prints a lot cannot pass by doing so.
HARNESS = """
import json, os, sys
job = json.loads(sys.stdin.readline())
sys.stdin.close()
space = {"__name__": "answer"}
file = open("outcome.json", "w")
def say(**outcome):
    json.dump(outcome, file)
    file.close()
def refuse(event, args, writing=os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
    family = event.partition(".")[0]
    listing = event in ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
    if family in REFUSED and not listing or event == "open" and args[2] & writing:
        raise PermissionError(event + " is not allowed here")
REFUSED = {"os", "pty", "shutil", "subprocess", "socket", "ctypes", "signal", "fcntl", "mmap", "tempfile", "resource"}
sys.addaudithook(refuse)
try:
    exec(compile(job["code"], "answer.py", "exec"), space)
    made = [v for v in space.values() if type(v) is type(say) and v.__module__ == "answer"]
    space["f"] = space[job["function"]] if job["function"] else made[0]
    for test in job["tests"]:
        if eval(compile(test, "test", "eval"), space) is not True:
            say(word="", failed="does not hold: " + test)
            break
    else:
        say(word=job["word"])
except BaseException as error:
    say(word="", failed=(type(error).__name__ + ": " + str(error))[:200])
"""
NAMESPACES = ["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]


@functools.cache
def isolation() -> tuple[str, ...]:
    """The `unshare` prefix where the kernel permits it, else nothing."""
    tool = shutil.which("unshare")
    if not tool:
        return ()
    prefix = (tool, *NAMESPACES)
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return prefix if done.returncode == 0 else ()


def _limit() -> None:
    """In the child, before it becomes Python: CPU time, memory, file size, open files, processes, no core."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 1, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(job: dict[str, object], folder: Path) -> str:
    """Run the harness in `folder`; returns what went wrong with the process itself, or an empty string."""
    process = subprocess.Popen(
        [*isolation(), sys.executable, "-I", "-S", "-c", HARNESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        start_new_session=True,
        preexec_fn=_limit,  # noqa: PLW1509 the caller has no threads
    )
    try:
        process.communicate(json.dumps(job).encode() + b"\n", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"no result within {SECONDS} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return "" if process.returncode == 0 else f"stopped by its limits or by itself (status {process.returncode})"


def _outcome(folder: Path) -> dict[str, object]:
    """What the harness wrote; an empty dict if it wrote nothing that can be read."""
    try:
        with (folder / "outcome.json").open("rb") as file:
            outcome = json.loads(file.read(FILE_SIZE))
    except (OSError, ValueError, RecursionError):
        return {}
    return outcome if isinstance(outcome, dict) else {}


def run_python(text: str, check: Check) -> Outcome:
    """The first fenced block (or all text) defines a function, and every expression of `tests` is True.

    In the tests `f` is the function named by `function`, or the first that the code defines.
    """
    code = fenced(text)
    word = secrets.token_hex(16)
    tests = [str(test) for test in check["tests"]]
    job = {"code": code, "function": check.get("function"), "tests": tests, "word": word}
    with tempfile.TemporaryDirectory(prefix="quantbench-code-", ignore_cleanup_errors=True) as folder:
        trouble = _run(job, Path(folder))
        outcome = _outcome(Path(folder))
    if outcome.get("word") == word:
        return True, f"{len(tests)} tests hold"
    return False, str(outcome.get("failed") or trouble or "ended before the tests")[:300]
