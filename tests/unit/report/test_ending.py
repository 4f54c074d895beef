"""The last words of a run come from decision.json, if the report is of this run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from quantbench.judge.decision import decide
from quantbench.records.base import write
from quantbench.records.comparison import Precision
from quantbench.records.layout import Results
from quantbench.report.ending import words
from runs import CHAT, comparison, quality, run, verdict


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


@pytest.mark.fault("a run decides nothing", "the last lines on the terminal say what would decide it, as a command")
def test_where_nothing_is_decided_the_next_command_is_said(tmp_path: Path) -> None:
    results, rows = Results("cpu", tmp_path), [comparison(CHAT, ratio=1.1, ci_low=0.8, ci_high=1.5, code="undecided")]
    more = Precision(target=0.02, most_blocks=40, extra_blocks={CHAT.key: 4})
    found = run(verdict=verdict(rows, precision=more))
    results.file("report").parent.mkdir(parents=True)
    results.file("report").write_text("x")
    results.file("verdict").parent.mkdir(parents=True)
    write(results.file("decision"), decide(found))
    write(results.file("verdict"), found.verdict)
    said = words(results, found.plan.labels, ["snakemake", "--cores", "1"], 0)
    assert "- Next: more blocks, `snakemake --cores 1 'extra_blocks={\"chat/c16_t128\": 4}'`." in said
    results.file("verdict").unlink()
    assert "report/notes.md` says what is missing" in words(results, found.plan.labels, [], 0)
