"""The sections "What could still be wrong" and "Provenance"."""

from __future__ import annotations

from quantbench.config import command_line
from quantbench.records.run import Run
from quantbench.report.document import Code, Section, bullets, table, without_empty_columns
from quantbench.report.say import Speech


def section(run: Run, say: Speech) -> Section:
    """What could still be wrong, from what is absent or flagged in this run (judge/doubts.py)."""
    found = run.decision.doubts if run.decision else ()
    return Section("What could still be wrong", bullets([say(doubt) for doubt in found]))


def provenance(run: Run, say: Speech) -> Section:
    """What exactly was served, and the command that makes it again."""
    rows = []
    for model, ready in run.ready.items():
        seen = ready.quantization
        cells = [ready.source, seen.method, seen.label, seen.kernel, ready.system_fingerprint, ready.spec_hash]
        rows.append([say.label(model), *(cell or "" for cell in cells)])
    columns = ["model", "source", "method", "label", "kernel", "fingerprint", "settings hash"]
    served = without_empty_columns(table(columns, rows, words=range(len(columns))))
    return Section("Provenance", (served, Code(command_line.text(run.command), caption="Reproduce")))
