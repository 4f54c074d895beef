"""docs/reliability.md is as the tests make it."""

from __future__ import annotations

import json
import subprocess
import sys

from source import ROOT

MADE = (
    r"import json, fault_table; old, new = fault_table.made_anew(); print(json.dumps([old == new, new.count('\n| ')]))"
)


def test_the_fault_table_is_as_the_tests_make_it() -> None:
    """In a process of its own, as pytest cannot collect within itself."""
    line = [sys.executable, "-c", MADE]
    ran = subprocess.run(line, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    fresh, rows = json.loads(ran.stdout.splitlines()[-1])
    assert fresh, "run `python tests/fault_table.py`"
    assert rows >= 60
