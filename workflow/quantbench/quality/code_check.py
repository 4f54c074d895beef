"""Run code that a model wrote, and judge it from outside: the child with the code has nothing to decide with.

One child runs the code, another evaluates the tests (`code_worker`); here arguments and values are handed from one to
the other. The code sees arguments only: no test, no expected value, no word that means "passed". It can return what it
likes, but has to know what is right. Its prints, values and exceptions' texts are kept nowhere; of an exception
the name is told if it is one of Python's own.

Both children are fenced in by a seccomp filter that leaves system calls to compute, and to use files that are open:
a socket to here and /dev/null. So code can, as root and as any user, open, make, change or list no file, start no
process or thread, send no signal, reach no network. Limits: 5 s of CPU time, 60 s on the clock, 512 MiB. What does not
hold: a fault of the kernel in one of these few calls, and what code does with its CPU time. Where a kernel has no such
filter, code is not run, and the check neither holds nor fails.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quantbench.errors import QuantbenchError
from quantbench.quality.checks import Check, Outcome, answered
from quantbench.quality.readings import python_code

CPU_S = 5
CLOCK_S = 60
MEMORY = 512 * 2**20
LINE = 2**20
"""Most bytes of one call or value."""
WORKER = Path(__file__).with_name("code_worker.py")
# Not -I, which would make the order of sets, and so some answers, differ from run to run.
PYTHON = (sys.executable, "-s", "-P", "-S", str(WORKER))
WHY = {
    "no": "does not hold",
    "no function": "the code defines no such function",
    "kind": "the function returns no plain value",
}


class _EndedError(Exception):
    """A child that says nothing more; why."""


class _Child:
    """One child of a check, as a context: it is gone at the end."""

    def __init__(self, **job: object) -> None:
        self.ends = time.monotonic() + CLOCK_S
        self.unread = b""
        self.socket, theirs = socket.socketpair()
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        with theirs:
            try:
                self.process = subprocess.Popen(
                    PYTHON,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", **kept},
                    start_new_session=True,
                )
            except OSError as error:
                self.socket.close()
                raise _cannot_start(str(error)) from error
        with contextlib.suppress(_EndedError):  # `trouble` says why
            self.say(json.dumps({**job, "cpu_s": CPU_S, "memory": MEMORY}).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill it: it has no other process. The kernel does so too when this process dies."""
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def trouble(self) -> str:
        """Why it cannot fence itself in, or an empty string. Raises QuantbenchError if it did not start."""
        try:
            return str(json.loads(self.hear())["trouble"])
        except (_EndedError, ValueError, KeyError, TypeError) as error:
            raise _cannot_start(str(error)) from error

    def say(self, line: bytes) -> None:
        """Send a line. Raises _EndedError if it is not taken."""
        try:
            self.socket.settimeout(max(self.ends - time.monotonic(), 0.001))
            self.socket.sendall(line)
        except OSError as error:
            raise _EndedError(self._why(error)) from None

    def hear(self) -> bytes:
        """The next line. Raises _EndedError if there is none, or none that ends."""
        while b"\n" not in self.unread:
            try:
                self.socket.settimeout(max(self.ends - time.monotonic(), 0.001))
                more = self.socket.recv(LINE)
            except OSError as error:
                raise _EndedError(self._why(error)) from None
            if not more:
                raise _EndedError(self._why(None))
            self.unread += more
            if len(self.unread) > LINE:
                raise _EndedError("a value is too large")
        line, _, self.unread = self.unread.partition(b"\n")
        return line + b"\n"

    def _why(self, error: OSError | None) -> str:
        if isinstance(error, TimeoutError):
            return f"no value within {CLOCK_S} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        status = self.process.returncode
        if status == -signal.SIGKILL:
            return f"ended at its limit of {CPU_S} s of CPU time"
        return "ended by itself" if status is None or status >= 0 else f"crashed (signal {-status})"


def _cannot_start(why: str) -> QuantbenchError:
    return QuantbenchError(
        f"the child that is to run the code of an answer did not start: {why}",
        remedy=f"try `{' '.join(PYTHON[:-1])} -c pass`; `quality.code: off` leaves such checks out",
    )


def run_python(text: str, check: Check) -> Outcome:
    """The code of the answer (`readings.python_code`) defines a function, and every expression of `tests` is True.

    In the tests `f` is the function named by `function`, or the first that the code defines. None for whether it
    holds where the kernel has no fence. Raises QuantbenchError when no child can be started.
    """
    tests, function = [str(test) for test in check["tests"]], check.get("function")
    with _Child(code=python_code(answered(text), function), function=function) as answer, _Child(tests=tests) as judge:
        if trouble := answer.trouble() or judge.trouble():
            return None, f"not run: no fence to run it in ({trouble})"
        return _outcome(answer, judge, tests)


def _outcome(answer: _Child, judge: _Child, tests: list[str]) -> Outcome:
    """Hand calls and values over until the tests are judged."""
    number = 0
    try:
        while True:
            said: dict[str, Any] = json.loads(judge.hear())
            if said.get("holds"):
                return True, f"{len(tests)} tests hold"
            number = said["test"]
            if "call" not in said:
                return False, f"{_words(said)}: {tests[number]}"[:300]
            answer.say(json.dumps(said["call"]).encode() + b"\n")
            judge.say(answer.hear())
    except _EndedError as ended:
        return False, f"{ended}: {tests[number]}"[:300]


def _words(said: dict[str, Any]) -> str:
    """Why a test does not hold, in words of ours only: names of exceptions come from the child."""
    why, error = said.get("why"), said.get("error")
    if why in ("raised", "test raised"):
        known = getattr(builtins, error, None) if isinstance(error, str) else None
        name = error if isinstance(known, type) and issubclass(known, BaseException) else "an error of its own"
        return f"{'the code' if why == 'raised' else 'the comparison'} raises {name}"
    return WHY.get(str(why), "no value")
