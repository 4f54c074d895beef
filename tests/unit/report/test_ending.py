"""The last words of a run come from decision.json, if the report is of this run."""

from __future__ import annotations

import os
from pathlib import Path

from quantbench.judge.decision import decide
from quantbench.records.base import write
from quantbench.records.layout import Results
from quantbench.report.ending import words
from runs import quality, run


def test_the_decision_and_the_path_are_said_if_the_report_is_of_this_run(tmp_path: Path) -> None:
    results, found = Results("cpu", tmp_path), run(quality={"awq": quality()})
    assert words(results, {}, [], 0) == ""
    report = results.file("report")
    report.parent.mkdir(parents=True)
    report.write_text("x")
    write(results.file("decision"), decide(found))
    os.utime(report, (100.0, 100.0))
    assert words(results, {}, [], 100.5) == ""
    lines = words(results, found.plan.labels, [], 99.5).splitlines()
    assert lines[1] == "- Chat: use AWQ 4-bit. Confidence: high."
    assert lines[-1] == f"Report: {report}"
    assert words(results, {"awq": "A\x1b[2J\nB"}, [], 99.5).splitlines()[1].startswith("- Chat: use A⟦U+001B⟧[2J B.")
