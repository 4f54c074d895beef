"""Chat against batch: does quantization help one more, and what may be the cause (chat_vs_batch.csv)?"""

from __future__ import annotations

from typing import Final, Literal

from msgspec.structs import replace

from quantbench.judge.impact import evidence, helps, why_not
from quantbench.records.run import Run
from quantbench.records.tables import ImpactRow
from quantbench.report import speed
from quantbench.report.document import Section, bullets, grouped, table, text
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
    sides = {row.variant: [run.speed_row(row.variant, row.side(side)) for side in SIDES] for row in run.impact}
    lines = []
    for row in run.impact:
        reading = "; ".join(map(say, why_not(row))) or say(helps(row))
        quotient = BLANK if row.quotient is None else ratio_ci(row.quotient, row.quotient_ci_low, row.quotient_ci_high)
        lines.append([run.label(row.variant), *map(speed.change_cell, sides[row.variant]), quotient, reading])
    compared = [row for rows in sides.values() for row in rows if row is not None and row.ratio is not None]
    metrics = list(dict.fromkeys(row.metric for row in compared))
    note = say("impact_page.legend", metrics=metrics, legend=speed.legend(say, compared)) if compared else ""
    return Section(TITLE, (table(columns, lines, notes=[note]), *bullets(_causes(say, run))))


def _column(run: Run, side: Literal["chat", "batch"]) -> str:
    cell = next((cell for row in run.impact if (cell := row.side(side))), None)
    return f"{side} {run.place(cell)}" if cell else side


def _causes(say: Speech, run: Run) -> list[str]:
    """A sentence per hypothesis, with the evidence where there is a difference to explain."""
    causes = grouped(
        [row for row in run.impact if row.hypothesis],
        lambda row: (row.hypothesis, row.evidence if row.helps_more in SIDES else None),
    )
    return [
        say("impact_page.cause", cause=cause, evidence=seen, models=[row.variant for row in rows if len(causes) > 1])
        for (cause, seen), rows in causes.items()
    ]
