"""The words of `comparison/chat_vs_batch.csv`: its columns hypothesis, evidence and reason are sentences there."""

from __future__ import annotations

from msgspec.structs import replace

from quantbench.judge.impact import evidence, why_not
from quantbench.records.run import Run
from quantbench.records.tables import ImpactRow
from quantbench.report.say import Speech


def with_words(run: Run, row: ImpactRow, say: Speech) -> ImpactRow:
    """The same row with its sentences."""
    return replace(
        row,
        hypothesis=say(row.hypothesis) if row.hypothesis else None,
        evidence=say.all(evidence(run, row), "; ") or None,
        reason=say.all(why_not(row), "; ") or None,
    )
