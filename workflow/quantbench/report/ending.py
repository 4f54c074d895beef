"""What a run says at its end: what it decided, what would decide the rest, and the rows that were asked for by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from quantbench import wording
from quantbench.config import command_line
from quantbench.records.base import read
from quantbench.records.comparison import Precision, Verdict
from quantbench.records.decision import Decision
from quantbench.records.layout import Results
from quantbench.records.metric import METRICS
from quantbench.records.tables import CapacityRow
from quantbench.report.decision import lead, untested
from quantbench.report.marks import plain
from quantbench.report.say import Speech
from quantbench.results import read_capacity
from quantbench.visible import visible


def words(results: Results, labels: Mapping[str, str], command: Sequence[str], since: float) -> str:
    """What decision.json says, a line per use, and the report's path; "" without a report since then (Unix time).

    command: the line that repeats the run.
    """
    report, decision, verdict = (results.file(name) for name in ("report", "decision", "verdict"))
    if not report.exists() or not decision.exists() or report.stat().st_mtime < since:
        return ""
    decided, say = read(decision, Decision), Speech(labels)
    precision = read(verdict, Verdict).precision if verdict.exists() else Precision(target=None, most_blocks=0)
    lines = [*summary(decided, say), *steps(decided, precision, command, str(results.file("page", page="notes")), say)]
    return "\n".join(["", *(f"- {' '.join(visible(plain(line)).split())}" for line in lines), f"Report: {report}", ""])


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
    left_out = list(map(say, decision.left_out))
    if not decision.uses:
        form = "fits" if left_out else "selected"
        return [*left_out, say("decision.alone", form=form, model=decision.baseline)]
    doubt = [] if decision.trusted else [say("decision.last_untrusted")]
    sure = (say("decision.confidence", level=use.confidence) for use in decision.uses)
    leads = (lead(say, use, decision.baseline) for use in decision.uses)
    return [*doubt, *left_out, *map(" ".join, zip(leads, sure, strict=True))]


def steps(decision: Decision, precision: Precision, command: Sequence[str], notes: str, say: Speech) -> Iterator[str]:
    """Where the speed of a use is not decided: what would decide it."""
    if not any(use.action == "undecided" or untested(use) for use in decision.uses):
        return
    refused = next((doubt.values["n"] for doubt in decision.doubts if doubt.id == "doubts.refused"), 0)
    if refused:
        yield say("ending.refused", n=refused, notes=notes)
    if precision.extra_blocks:
        more = command_line.with_value(command, "extra_blocks", precision.extra_blocks)
        yield say("ending.more", command=command_line.text(more))
    if not refused and not precision.extra_blocks:
        yield say("ending.open", notes=notes)
