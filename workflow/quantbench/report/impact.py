"""Chat against batch: does quantization help one more, and what may be the cause (chat_vs_batch.csv)?"""

from __future__ import annotations

from typing import Final, Literal

from msgspec.structs import replace

from quantbench.judge.impact import evidence, helps, why_not
from quantbench.records.comparison import Comparison
from quantbench.records.run import Run
from quantbench.records.tables import ImpactRow
from quantbench.report import speed
from quantbench.report.document import Section, bullets, table, text
from quantbench.report.say import Speech
from quantbench.wording import BLANK, ratio_ci

TITLE: Final = "Batch vs Chat quantization impact"
SIDES: Final[tuple[Literal["chat", "batch"], ...]] = ("chat", "batch")


def worded(run: Run, say: Speech, row: ImpactRow) -> ImpactRow:
    """The row with its sentences: hypothesis, evidence, and why there is no quotient."""
    return replace(
        row,
        hypothesis=say(row.hypothesis) if row.hypothesis else None,
        evidence=say.all(evidence(run, row), "; ") or None,
        reason=say.all(why_not(row), "; ") or None,
    )


def section(run: Run, say: Speech) -> Section:
    """Both changes in tokens/sec, their quotient, and a hypothesis where one side gains more."""
    if not run.impact:
        return Section(TITLE, (text(say("impact_page.nothing")),))
    columns = ["model", *(_column(run, side) for side in SIDES), "batch / chat", "reading"]
    lines = [_line(run, say, row) for row in run.impact]
    compared = [row for variant in run.variants for row in _sides(run, variant)]
    note = say("impact_page.legend", legend=speed.legend(say, compared)) if compared else ""
    shown = table(columns, lines, notes=[note], words=(0, 4))
    return Section(TITLE, (shown, *bullets(_causes(say, run))))


def _column(run: Run, side: Literal["chat", "batch"]) -> str:
    cell = next((cell for row in run.impact if (cell := row.side(side))), None)
    return f"{side} {run.place(cell)}" if cell else side


def _sides(run: Run, variant: str) -> list[Comparison]:
    rows = [row for row in run.impact if row.variant == variant]
    found = (run.row(variant, row.side(side), speed.THROUGHPUT) for row in rows for side in SIDES)
    return [row for row in found if row is not None and row.ratio is not None]


def _line(run: Run, say: Speech, row: ImpactRow) -> list[str]:
    cells = []
    for side in SIDES:
        compared = run.row(row.variant, row.side(side), speed.THROUGHPUT)
        cells.append(speed.change_cell(compared))
    reading = "; ".join(map(say, why_not(row))) or say(helps(row))
    quotient = BLANK if row.quotient is None else ratio_ci(row.quotient, row.quotient_ci_low, row.quotient_ci_high)
    return [run.label(row.variant), *cells, quotient, reading]


def _causes(say: Speech, run: Run) -> list[str]:
    """A sentence per hypothesis, with the evidence where there is a difference to explain."""
    by_cause: dict[tuple[str, str], list[str]] = {}
    for row in run.impact:
        if row.hypothesis:
            explained = row.evidence or "" if row.helps_more in SIDES else ""
            by_cause.setdefault((row.hypothesis, explained), []).append(row.variant)
    causes = [
        say("impact_page.cause", cause=cause)
        if len(by_cause) == 1
        else say("impact_page.cause_of", models=models, cause=cause)
        for (cause, _), models in by_cause.items()
    ]
    evidences = [say("impact_page.evidence", evidence=seen) if seen else "" for _, seen in by_cause]
    return [" ".join(filter(None, pair)) for pair in zip(causes, evidences, strict=True)]
