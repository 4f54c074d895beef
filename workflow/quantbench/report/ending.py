"""The last words of a run: what it decided, and where the report lies."""

from __future__ import annotations

from collections.abc import Mapping

from quantbench.records.base import read
from quantbench.records.decision import Decision
from quantbench.records.layout import Results
from quantbench.report.decision import lead
from quantbench.report.marks import plain
from quantbench.report.say import Speech
from quantbench.visible import visible


def words(results: Results, labels: Mapping[str, str], since: float) -> str:
    """What decision.json says, a line per use, and the report's path; "" without a report since then (Unix time)."""
    report, decision = results.file("report"), results.file("decision")
    if not report.exists() or not decision.exists() or report.stat().st_mtime < since:
        return ""
    lines = (f"- {line}" for line in summary(read(decision, Decision), Speech(labels)))
    return "\n".join(["", *lines, f"Report: {report}", ""])


def summary(decision: Decision, say: Speech) -> list[str]:
    """A line per use: what to do, and how sure that is."""
    if not decision.uses:
        return [_line(say("decision.alone", model=decision.baseline))]
    doubt = [] if decision.trusted else [say("decision.last_untrusted")]
    sure = (say("decision.confidence", level=use.confidence) for use in decision.uses)
    leads = (lead(say, use, decision.baseline) for use in decision.uses)
    return [_line(line) for line in (*doubt, *map(" ".join, zip(leads, sure, strict=True)))]


def _line(text: str) -> str:
    return " ".join(visible(plain(text)).split())
