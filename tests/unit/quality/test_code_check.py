"""Code of a model is run where it has nothing to decide with; whatever it does, the check answers and nothing leaks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from quantbench.errors import QuantbenchError
from quantbench.quality import checks, code_check, code_worker, prompt_set

TESTS = {"tests": ["f('abc') == 'cba'"]}
RIGHT = "def g(s):\n    return s[::-1]"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The children run as a user without rights, where root can become one."""
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        worker = Path(shutil.copy(code_check.WORKER, folder))
        worker.chmod(0o644)
        become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        monkeypatch.setattr(code_check, "PYTHON", (*become, sys._base_executable, "-s", "-P", "-S", str(worker)))
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For code that never ends."""
    monkeypatch.setattr(code_check, "CPU_S", 1)


def run(code: str, *tests: str, **check: Any) -> checks.Outcome:
    return code_check.run_python(code, {"tests": list(tests) or TESTS["tests"], **check})


HONEST = """
from __future__ import annotations
import base64, bisect, calendar, codecs, collections, copy, csv, dataclasses, datetime, decimal, enum, fractions
import functools, hashlib, heapq, io, itertools, json, math, operator, os.path, random, re, statistics, string
import collections.abc, textwrap, time, typing, urllib.parse
try:
    import numpy
except ImportError:
    numpy = None

@dataclasses.dataclass
class P:
    x: int

@functools.singledispatch
def kind(v): return "any"

class Colour(enum.Enum):
    RED = 1

def every(s):
    print("noise", s)
    assert kind(1) == "any" and numpy is None and Colour(1) is Colour.RED and copy.deepcopy(P(1)) == P(1)
    assert datetime.datetime.strptime("2024-02-29", "%Y-%m-%d").strftime("%A") == "Thursday"
    assert time.strptime("1", "%d") and datetime.datetime.now() and calendar.isleap(2024)
    assert codecs.encode("abc", "rot13") == "nop" and "ä".encode("latin-1") and "\\N{BULLET}" == "•"
    assert re.findall(r"\\w+", "a b") == ["a", "b"] and json.loads("[1]") == [1] and statistics.median([1, 3]) == 2
    assert hashlib.md5(b"").hexdigest() and base64.b64encode(b"a") and string.Template("$a").substitute(a=1) == "1"
    assert decimal.Decimal("0.1") + decimal.Decimal("0.2") == decimal.Decimal("0.3") and textwrap.wrap("a b", 1)
    assert list(csv.reader(io.StringIO("a,b"))) == [["a", "b"]] and urllib.parse.quote(" ") == "%20"
    assert random.Random(1).random() and heapq.nsmallest(1, [2, 1]) == [1] and math.isqrt(9) == 3
    return os.path.join("a", s)
"""


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        (RIGHT, ["f('abc') == 'cba'", "f('') == ''"]),
        (f"Here it is:\n```python\n{RIGHT}\n```\nIt slices.", ["f('abc') == 'cba'"]),
        ("import re, math\ndef g(s):\n    return ''.join(reversed(s))\nprint(g('x'))", ["f('abc') == 'cba'"]),
        ("import functools\n@functools.cache\ndef g(n): return n if n < 2 else g(n-1) + g(n-2)", ["f(80) > 1e16"]),
        ("def g(n):\n    for i in range(n): yield i * i", ["list(f(3)) == [0, 1, 4]", "sum(f(3)) == 5"]),
        ("def g(x): return x", [
            "f(True) is True", "f((1, 2)) == (1, 2)", "f([1]) == [1]", "f({1: {2}}) == {1: {2}}", "f(b'a') == b'a'",
            "f(None) is None", "f(2.5) == 2.5", "f(1j) == 1j", "f('\\ud800') == '\\ud800'", "f(10**99) == 10**99",
            "f(frozenset([1])) == {1}", "math.isnan(f(float('nan')))", "f(x=3) == 3", "isinstance(f(1), int)",
            "all(f(n) == n for n in range(50))", "not f(0)", "f(float('inf')) > 1", "f({'a': 1})['a'] == 1",
        ]),
        ("from fractions import Fraction\nfrom collections import Counter, namedtuple\nP = namedtuple('P', 'x')\n"
         "def g(k): return {1: Fraction(1, 2), 2: Counter('aab'), 3: P(1), 4: range(3)}[k]",
         ["f(1) == 0.5", "f(2) == {'a': 2, 'b': 1}", "f(3) == (1,)", "list(f(4)) == [0, 1, 2]"]),
    ],
)  # fmt: skip
def test_right_code_passes(code: str, tests: list[str]) -> None:
    assert run(code, *tests) == (True, f"{len(tests)} tests hold")
    for test in tests:
        assert not prompt_set._test_problem(test)


def test_the_standard_library_is_there_for_right_code() -> None:
    assert run(HONEST, "f('b') == 'a/b'", function="every") == (True, "1 tests hold")


def test_the_named_function_is_tested() -> None:
    code = "def helper(s):\n    return s\ndef rev(s):\n    return s[::-1]"
    assert run(code, function="rev")[0]
    assert run(code, function="absent") == (False, "the code defines no such function: f('abc') == 'cba'")


def fault(code: str, why: str, what: str) -> Any:
    outcome = f"The check fails (“{why} …”); nothing outside of its process is touched"
    return pytest.param(code, why, marks=pytest.mark.fault(what, outcome), id=what)


REFUSED = "the code raises PermissionError"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("code", "why"), [
    ("def g(s):\n    return s", "does not hold"),
    ("def g(s) return", "the code raises SyntaxError"),
    ("", "the code defines no such function"),
    ("\x00", "the code raises"),
    ("\ud800", "the code raises UnicodeEncodeError"),
    ("(" * 10**5, "the code raises"),
    ("x = " + "+".join("1" * 10**5), "the code raises"),
    ("def g(s): return g(s)", "the code raises RecursionError"),
    ("def g(s): return lambda: 1", "the function returns no plain value"),
    ("def g(s):\n    x = []\n    for _ in range(10**5): x = [x]\n    return x", "the function returns no plain value"),
    ("def g(s):\n    while True: yield 1", "does not hold"),
    fault("import sys\nsys.exit(0)", "the code raises SystemExit", "An answer's code ends the interpreter"),
    fault("import os\nos._exit(0)", "ended by itself", "An answer's code ends its process"),
    fault("import __main__\nfor name in list(vars(__main__)):\n    if name[0] != '_': delattr(__main__, name)\n"
          "def g(s): return s", "ended by itself", "An answer's code clears what its host program holds"),
    fault("import builtins, json\nbuiltins.eval = lambda *a: True\njson.dumps = lambda *a: '{\"holds\": true}'\n"
          "def g(s): return 1", "no value", "An answer's code replaces builtins and json"),
    fault("import os\nfor file in range(3, 30):\n    try: os.write(file, b'{\"holds\": true}\\n' * 9)\n"
          "    except OSError: pass\ndef g(s): return 1",
          "no value", "An answer's code writes a forged verdict to every open file"),
    fault("import sys\ndef g(s):\n    frame = sys._getframe()\n    while frame:\n"
          "        channel, frame = frame.f_locals.get('channel'), frame.f_back\n"
          "        if channel: channel.say({'why': 'holds', 'holds': True, 'test': 0})",
          "no value", "An answer's code forges a verdict through its host's own channel"),
    fault("class Yes(str):\n    def __eq__(self, other): return True\n    __hash__ = None\ndef g(s): return Yes('x')",
          "does not hold", "An answer returns an object that equals everything"),
    fault("import os\ndef g(s): os.fork()", REFUSED, "An answer's code forks"),
    fault("import subprocess\ndef g(s): subprocess.run(['true'])", REFUSED, "An answer's code starts a program"),
    fault("import threading\ndef g(s): threading.Thread(target=print).start()", "the code raises RuntimeError",
          "An answer's code starts a thread"),
    fault("import os\ndef g(s): os.setsid()", REFUSED, "An answer's code leaves its session"),
    fault("import os\ndef g(s): os.kill(os.getpid() - 1, 0)", REFUSED, "An answer's code sends a signal"),
    fault("import os\ndef g(s): os.listdir('/')", REFUSED, "An answer's code lists a folder"),
    fault("import os\ndef g(s): os.symlink('/', 'x')", REFUSED, "An answer's code makes a link"),
    fault("def g(s): open('/dev/shm/x', 'w')", REFUSED, "An answer's code fills /dev/shm"),
    fault("import os\ndef g(s): os.memfd_create('x')", REFUSED, "An answer's code makes a file in memory"),
    fault("def g(s): open('/proc/self/oom_score_adj', 'w')", REFUSED, "An answer's code writes below /proc/self"),
    fault("import importlib\ndef g(s): importlib.import_module('antigravity')", "the code raises ModuleNotFoundError",
          "An answer's code imports what it did not name"),
    fault("x = 'a' * 10 ** 10", "the code raises MemoryError", "An answer's code takes 10 GB of memory"),
    fault("import ctypes\ndef g(s): return ctypes.string_at(0)", "crashed (signal 11)", "An answer's code crashes"),
    fault("def g(s): raise Exception('x' * 10**8)", "the code raises Exception", "An answer's exception is huge"),
    fault("def g(s): return 'x' * 10**7", "a value is too large", "An answer returns a huge value"),
    fault("import os\nos.closerange(0, 100)\ndef g(s): return s", "ended by itself", "An answer closes its files"),
    fault("while True: pass", "ended at its limit of 1 s of CPU time", "An answer's code never ends"),
    fault("while True: print('a' * 10000)", "ended at its limit of 1 s of CPU time", "An answer prints for ever"),
])  # fmt: skip
def test_wrong_and_hostile_code_fails_with_a_reason(code: str, why: str) -> None:
    passed, detail = run(code)
    assert passed is False
    assert detail.startswith(why)
    assert detail.endswith(": f('abc') == 'cba'")


@pytest.mark.fault(
    "An answer's code makes system calls of its own, past Python", "Each is refused by the kernel's filter"
)
def test_the_filter_is_the_kernels() -> None:
    syscall = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.syscall.restype = ctypes.c_long\n"
    calls = {  # socket, connect, fork, clone3, execve, kill, ptrace, open, openat, prctl, process_vm_readv, x32's open
        "x86_64": (41, 42, 57, 435, 59, 62, 101, 2, 257, 157, 310, 0x40000002),
        "aarch64": (198, 203, 220, 435, 221, 129, 117, 56, 38, 167, 270, 35),
    }[os.uname().machine]
    code = f"{syscall}def g(n):\n    return libc.syscall(n, 0, 0, 0, 0, 0), ctypes.get_errno()"
    assert run(code, f"[f(n) for n in {calls}] == [(-1, 1)] * {len(calls)}")[0]


@pytest.mark.usefixtures("nobody")
@pytest.mark.fault(
    "A run as an ordinary user judges code", "The same fence holds: right code passes, no system call does"
)
def test_the_fence_needs_no_rights() -> None:
    assert run(RIGHT)[0]
    test_the_filter_is_the_kernels()
    for code in ("import os\ndef g(s): os.kill(os.getpid(), 0)", "def g(s): open('/etc/passwd')"):
        assert run(code)[1].startswith(REFUSED)


@pytest.mark.fault("An answer's code sleeps for ever", "Ended after the time on the clock; the check fails")
def test_code_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_check, "CLOCK_S", 3)
    with code_check._Child(code="import time\ntime.sleep(1000)", function=None) as child:
        pid = child.process.pid
        with pytest.raises(code_check._EndedError, match="no value within 3 s"):
            [child.hear() for _ in range(2)]
    assert not psutil.pid_exists(pid)


@pytest.mark.fault("An answer's code reads a file of its user, and raises, prints and returns what is in it",
                   "It cannot open the file; no text of its exception, print or value is in the detail")  # fmt: skip
def test_code_reads_nothing_and_none_of_its_text_is_kept(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    for code in (
        f"raise Exception(open({str(secret)!r}).read() + 'hunter2')",
        f"def g(s):\n    print('hunter2')\n    return 'hunter2'\nopen({str(secret)!r})",
        "class hunter2(Exception): pass\ndef g(s): raise hunter2('hunter2')",
        "def g(s): raise type('<img src=hunter2>', (Exception,), {})",
        "def g(s): return 'hunter2'",
    ):
        passed, detail = run(code)
        assert passed is False
        assert "hunter2" not in detail


@pytest.mark.fault("An answer's code writes, deletes or renames files outside its process", "Nothing changes on disk")
def test_code_changes_no_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    victim = tmp_path / "victim"
    victim.write_text("kept")
    victim.chmod(0o666)
    deeds = (f"os.remove({str(victim)!r})", f"open({str(victim)!r}, 'w')", f"os.mkdir({str(tmp_path / 'x')!r})")
    for deed in deeds:
        assert run(f"import os\n{deed}")[1].startswith(REFUSED)
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert victim.read_text() == "kept"


@pytest.mark.fault("An answer's code connects to a server on this machine", "No connection arrives")
def test_code_reaches_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        code = f"import _socket\ndef g(s):\n    _socket.socket().connect(('127.0.0.1', {port}))"
        assert run(f"import socket\n{code}")[1].startswith(REFUSED)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.usefixtures("impatient")
@pytest.mark.fault("An answer's code is ended by a limit", "No process of it is left")
def test_nothing_is_left_running() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    run("while True: pass")
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def fenced_in(process: psutil.Process) -> bool:
    return "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()


@pytest.mark.fault("The job that judges code is killed with SIGKILL", "Its children are ended by the kernel at once")
def test_children_die_with_the_job() -> None:
    library = Path(code_check.__file__).parents[2]
    code = "import time\ntime.sleep(1000)"
    check = f"from quantbench.quality import code_check as c; c.run_python({code!r}, {TESTS!r})"
    with subprocess.Popen([sys.executable, "-c", check], env={**os.environ, "PYTHONPATH": str(library)}) as job:
        mine = psutil.Process(job.pid)
        while len(children := mine.children()) < 2 or not all(map(fenced_in, children)):
            time.sleep(0.05)
        job.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_the_child_with_the_code_never_sees_a_test() -> None:
    """All its memory that Python can see, searched for the expected value."""
    every = "(o for o in gc.get_objects() if isinstance(o, dict | list))"
    look = f"import gc\ndef g(s):\n    return any(s[::-1] in repr(o) for o in {every})"
    assert run(look, "f('7-yranac') is False", "'canary-7' != f('')")[0]
    assert run(f"{look}\nknown = ['canary-7']", "f('7-yranac') is True")[0]


@pytest.mark.fault("This kernel or processor has no filter of system calls",
                   "Code is not run: the prompt neither passes nor fails, and the report says why")  # fmt: skip
def test_without_a_fence_code_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        code_check.WORKER.read_text().replace('"x86_64": 0x', '"x": 0x').replace('"aarch64": 0x', '"a": 0x')
    )
    monkeypatch.setattr(code_check, "PYTHON", (sys.executable, "-s", "-P", "-S", str(worker)))
    passed, detail = run(RIGHT)
    assert passed is None
    assert detail.startswith("not run: no fence to run it in (no list of system calls for ")


@pytest.mark.fault(
    "The child for an answer's code cannot be started", "An error with the key that leaves such checks out"
)
@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_a_child_that_does_not_start_is_no_failure_of_the_answer(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_check, "PYTHON", (program, "x"))
    with pytest.raises(QuantbenchError, match="did not start") as error:
        run(RIGHT)
    assert "`quality.code: off`" in str(error.value.remedy)


def test_a_value_survives_its_way() -> None:
    for value in (None, True, 1, -2.5, "é", [1, [2]], (1,), {1}, frozenset([2]), {"a": (1, 2), 3: None}, b"\xff", 2j):
        assert code_worker.unpack(code_worker.pack(value)) == value
        assert type(code_worker.unpack(code_worker.pack(value))) is type(value)
