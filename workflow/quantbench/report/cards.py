"""The cards at the top of the report: one per use, with the change, its error bars and a line per variant."""

from __future__ import annotations

from dataclasses import dataclass

from quantbench.records.comparison import Comparison
from quantbench.records.decision import Choice, UseDecision
from quantbench.records.run import Run
from quantbench.report import decision, speed
from quantbench.report.say import Speech
from quantbench.wording import capitalized, change, sentence


@dataclass(frozen=True)
class Card:
    """One use at the top of the report: what to do, the change in tokens/sec with its CI, a line per variant.

    of: whose change it is. shown: whether it is a finding; else it is drawn no stronger than its interval.
    """

    use: str
    action: str
    title: str
    figure: str
    interval: str
    of: str
    shown: bool
    lines: tuple[str, ...]


def cards(run: Run, say: Speech) -> list[Card]:
    """A card per use, for the variant that the headline names."""
    return [_card(run, say, use) for use in (run.decision.uses if run.decision else ()) if use.choices]


def _card(run: Run, say: Speech, use: UseDecision) -> Card:
    top = use.chosen or max(use.choices, key=lambda choice: choice.ratio or 0)
    row = run.row(top.variant, top.cell, speed.THROUGHPUT)
    compared = row is not None and row.ratio is not None and row.code != "invalid"
    place = f", {run.place(top.cell)}" if top.cell else ""
    return Card(
        use=say(decision.USES[use.style]),
        action=use.action,
        title=capitalized(decision.lead(say, use, run.baseline).partition(": ")[2].rstrip(".")),
        figure=change(row.ratio) if row and compared else say("cards.not_compared"),
        interval=_interval(say, row) if row and compared else "",
        of=say("cards.of", model=top.variant, place=place),
        shown=run.trusted and row is not None and row.decided,
        lines=tuple(_line(run, say, choice) for choice in use.choices),
    )


def _interval(say: Speech, row: Comparison) -> str:
    if row.ci_low is None or row.ci_high is None:
        return say("cards.no_interval")
    return say("cards.interval", low=row.ci_low, high=row.ci_high)


def _line(run: Run, say: Speech, choice: Choice) -> str:
    """One variant in a card: speed, what got worse, quality."""
    row = run.row(choice.variant, choice.cell, speed.THROUGHPUT)
    if row is None or row.ratio is None or row.code == "invalid":
        clauses = [say("cards.no_change", model=choice.variant)]
    else:
        change_of = {"model": choice.variant, "change": speed.figure(row)}
        clauses = [say("cards.change", **change_of) if row.decided else say("cards.change_not_shown", **change_of)]
    if choice.got_worse and choice.code != "worse":
        clauses.append(decision.got_worse(say, choice))
    return sentence("; ".join([*clauses, decision.quality_clause(say, choice)]))
