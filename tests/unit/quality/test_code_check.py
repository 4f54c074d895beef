"""Code of a model is run under limits; whatever it does, the check answers and nothing is left or lost."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from quantbench.quality import code_check

TESTS = {"tests": ["f('abc') == 'cba'"]}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine even Python's start can take seconds."""
    monkeypatch.setattr(code_check, "SECONDS", 60)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, _patient: None) -> None:
    """For code that never ends."""
    monkeypatch.setattr(code_check, "SECONDS", 1)


@pytest.mark.parametrize(
    "answer",
    [
        "def g(s):\n    return s[::-1]",
        "Here it is:\n```python\ndef g(s):\n    return s[::-1]\n```\nIt slices.",
        "import re, math, collections\ndef g(s):\n    return ''.join(reversed(s))\nprint(g('x'))",
    ],
)
def test_right_code_passes(answer: str) -> None:
    assert code_check.run_python(answer, TESTS) == (True, "1 tests hold")


def test_the_named_function_is_tested() -> None:
    code = "def helper(s):\n    return s\ndef rev(s):\n    return s[::-1]"
    assert code_check.run_python(code, {**TESTS, "function": "rev"})[0]
    assert not code_check.run_python(code, {**TESTS, "function": "absent"})[0]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def g(s):\n    return s", "does not hold"),
        ("def g(s) return", "SyntaxError"),
        ("", "IndexError"),
        ("\x00", "Error"),
        ("\ud800", "Error"),
        ("x = 'a' * 10 ** 10", "MemoryError"),
        ("import os\nos._exit(0)", "before the tests"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("import os\nwhile True: os.fork()", "not allowed"),
        ("import subprocess\nsubprocess.run(['true'])", "not allowed"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)", "not allowed"),
        ("def g(s): return g(s)", "RecursionError"),
        ("class Yes:\n    def __eq__(self, other): return 1\ndef g(s): return Yes()", "does not"),
    ],
)
def test_wrong_and_hostile_code_fails_with_a_reason(code: str, why: str) -> None:
    passed, detail = code_check.run_python(code, {**TESTS, "function": None})
    assert not passed
    assert why in detail


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", ["while True: pass", "while True: print('a' * 10000)"])
def test_code_that_never_ends_is_ended(code: str) -> None:
    assert code_check.run_python(code, TESTS) == (False, "no result within 1 s")


def test_code_can_neither_write_nor_delete(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    for code in (f"import os\nos.remove({str(victim)!r})", f"open({str(victim)!r}, 'w')"):
        assert "not allowed" in code_check.run_python(code, TESTS)[1]
    assert victim.read_text() == "kept"


@pytest.mark.usefixtures("impatient")
def test_nothing_is_left_running() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    code_check.run_python("while True: pass", TESTS)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_without_namespaces_the_limits_still_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_check, "isolation", lambda: ())
    assert code_check.run_python("def g(s): return s[::-1]", TESTS)[0]
    monkeypatch.setattr(code_check, "SECONDS", 1)
    assert not code_check.run_python("while True: pass", TESTS)[0]
