"""What a run says at its end: what it decided and where the report lies, or the rows that were asked for by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantbench import wording
from quantbench.records.base import read
from quantbench.records.decision import Decision
from quantbench.records.layout import Results
from quantbench.records.metric import METRICS
from quantbench.records.tables import CapacityRow
from quantbench.report.decision import lead
from quantbench.report.say import Speech
from quantbench.results import read_capacity


def words(results: Results, labels: Mapping[str, str], since: float) -> str:
    """What decision.json says, a line per use, and the report's path; "" without a report since then (Unix time)."""
    report, decision = results.file("report"), results.file("decision")
    if not report.exists() or not decision.exists() or report.stat().st_mtime < since:
        return ""
    lines = summary(read(decision, Decision), Speech(labels))
    return "\n".join(["", *lines, f"Report: {report}", ""])


def rows(paths: Iterable[str]) -> str:
    """What was measured in the tuples that a run was asked for by name, a line each."""
    return "".join(f"{path}: {_figures(row)}\n" for path in paths for row in read_capacity([path]))


def _figures(row: CapacityRow) -> str:
    shown = [(name, row.values.get(name)) for name in ("throughput_tok_s", "p50_ttft_ms", "p95_e2e_ms")]
    known = [f"{METRICS[name].words} {wording.with_unit(value, METRICS[name].unit)}" for name, value in shown if value]
    how = "valid" if row.valid else f"not valid: {'; '.join(row.reasons)}"
    return ", ".join([*known, wording.plural(row.blocks or 0, "block"), how])


def summary(decision: Decision, say: Speech) -> list[str]:
    """A line per use: what to do, and how sure that is."""
    if not decision.uses:
        return [f"- {say('decision.alone', model=decision.baseline)}"]
    doubt = [] if decision.trusted else [say("decision.last_untrusted")]
    sure = (say("decision.confidence", level=use.confidence) for use in decision.uses)
    leads = (lead(say, use, decision.baseline) for use in decision.uses)
    return [f"- {line}" for line in (*doubt, *map(" ".join, zip(leads, sure, strict=True)))]
