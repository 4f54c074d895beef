"""The fault table of docs/reliability.md, from the marks of the tests: `python tests/fault_table.py [--measure]`.

A test that proves what a fault does carries `@pytest.mark.fault(what, outcome)`. `--measure` runs the tests that wait
until nothing is left of a run, and keeps how long that took.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGE, SECONDS = ROOT / "docs/reliability.md", ROOT / "tests/data/clean_up_seconds.json"
RECORD: Final = "QUANTBENCH_CLEAN_UP_RECORD"
"""Names the file to which `Box.assert_none_left` adds a line per test: its id, and seconds from the fault on."""
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
CHAPTERS: Final = {
    "tests/test_lifecycle.py": "Whole runs",
    "tests/slurm": "A fleet on SLURM (docs/fleet-slurm.md; these tests run only when asked for)",
    "tests/test_planted": "What guards see in a block",
    "tests/unit/judge": "What guards see in a block",
    "tests/unit/serving": "Servers, shared machines, the state folder",
    "tests/unit/engines": "What servers say",
    "tests/unit/client": "What servers say",
    "tests/unit/quality": "Answers, and code that a model wrote",
    "tests/unit/report": "Pages",
    "tests/unit": "Configuration, commands, files",
    "tests/": "Whole runs",
}
"""Chapter of the table by the beginning of a test's path; the first that fits."""


class Row(NamedTuple):
    """One fault, what it leads to, and the test that proves it."""

    what: str
    outcome: str
    test: str
    chapter: str


class Collector:
    """A plugin of pytest that keeps the marks of what was collected."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            test = item.nodeid.partition("[")[0]
            chapter = next(title for start, title in CHAPTERS.items() if test.startswith(start))
            for mark in reversed(list(item.iter_markers("fault"))):
                what, outcome = mark.args
                self.rows.append(Row(what, outcome, test, chapter))


def collected() -> list[Row]:
    """All marks of all tests, by chapter; tests of one fault with one outcome are one row."""
    collector = Collector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", str(ROOT / "tests")], plugins=[collector])
    if code:
        raise SystemExit(f"tests cannot be collected:\n{said.getvalue()[-3000:]}")
    order = list(dict.fromkeys(CHAPTERS.values()))
    unique: dict[tuple[str, str], Row] = {}
    for row in collector.rows:
        unique.setdefault((row.what, row.outcome), row)
    return sorted(unique.values(), key=lambda row: order.index(row.chapter))


def table(rows: Iterable[Row], seconds: dict[str, float]) -> str:
    """Markdown: a table per chapter."""
    lines: list[str] = []
    chapter = None
    for row in rows:
        if row.chapter != chapter:
            chapter = row.chapter
            lines += ["", f"### {chapter}", "", "| fault | outcome | nothing left after | test |", "|---|---|---|---|"]
        took = f"{seconds[row.test]:.1f} s" if row.test in seconds else ""
        cells = (row.what, row.outcome, took, f"`{row.test.removeprefix('tests/').replace('.py::test_', ': ')}`")
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def made_anew() -> tuple[str, str]:
    """The page as it is, and as the tests make it."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = collected()
    seconds = json.loads(SECONDS.read_text())
    head = f"\n{len(rows)} faults, each with the test that proves its outcome.\n"
    return page, f"{before}{BEGIN}{head}{table(rows, seconds)}{END}{after}"


def measure() -> None:
    """Run the tests of whole runs and keep the longest clean-up of each."""
    record = SECONDS.with_suffix(".lines")
    record.unlink(missing_ok=True)
    tests = sorted({row.test for row in collected() if row.chapter == CHAPTERS["tests/test_lifecycle.py"]})
    subprocess.run(
        [sys.executable, "-m", "pytest", *tests], cwd=ROOT, env={**os.environ, RECORD: str(record)}, check=True
    )
    longest: dict[str, float] = {}
    for line in record.read_text().splitlines():
        test, took = json.loads(line)
        longest[test] = max(took, longest.get(test, 0.0))
    record.unlink()
    SECONDS.write_text(json.dumps(longest, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measure()
    PAGE.write_text(made_anew()[1], encoding="utf-8")
