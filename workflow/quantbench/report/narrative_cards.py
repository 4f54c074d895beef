"""The cards at the top of the report: one per use, with the change, its error bars and a line per variant. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from quantbench.report.decision import USES, Choice, best, choices
from quantbench.report.facts import Facts, Json
from quantbench.report.narrative_words import likely
from quantbench.wording import change, change_interval, is_number, sentence


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


def cards(facts: Facts) -> list[Card]:
    """A card per use, for the variant that the headline names."""
    found = []
    for style in USES:
        options = choices(facts, style)
        if not options:
            continue
        top = best(options) or max(options, key=lambda choice: (choice.speed or {}).get("ratio") or 0)
        speed = top.speed or {}
        compared = is_number(speed.get("ratio"))
        interval = f"95 % CI {change_interval(speed)}" if is_number(speed.get("ci_low")) else "no confidence interval"
        trusted = facts.verdict.get("trusted", True)
        found.append(
            Card(
                use=USES[style][0],
                action=(action := _overall(options) if trusted else "undecided"),
                title=_title(facts, top, action),
                figure=change(speed["ratio"]) if compared else "not compared",
                interval=interval if compared else "",
                of=f"tokens/sec, {facts.label(top.variant)}"
                + (f", {facts.place(top.workload, top.cell)}" if top.cell else ""),
                shown=trusted and speed.get("code") in ("better", "worse", "equivalent"),
                lines=tuple(_card_line(facts, choice) for choice in options),
            )
        )
    return found


def _card_line(facts: Facts, choice: Choice) -> str:
    """One variant in a card: speed, what got slower, quality."""
    label, row = f"**{facts.label(choice.variant)}**", choice.speed
    compared = row and is_number(row["ratio"])
    told = [f"{label} {change(row['ratio'])} tokens/sec{_doubt(row)}" if row and compared else f"{label} not compared"]
    told += [choice.got_worse] if choice.caveats else []
    told.append(f"quality {choice.quality}{'' if choice.quality == 'not measured' else f': {choice.short_why}'}")
    return sentence("; ".join(told))


def _doubt(row: Json | None) -> str:
    """What keeps a change from being a finding, in brackets."""
    if row is None or row["code"] not in ("undecided", "no_test"):
        return ""
    side = likely(row)
    return f" ({side} likely, not proven)" if side else " (not decided)"


def _overall(options: list[Choice]) -> str:
    top = best(options)
    if top:
        return top.action
    return "keep" if all(choice.action == "keep" for choice in options) else "undecided"


def _title(facts: Facts, top: Choice, action: str) -> str:
    label, base = facts.label(top.variant), facts.label(facts.baseline)
    words = {
        "use": f"Use {label}",
        "check": f"{label} {top.gain}; check its answers first",
        "keep": f"Keep {base}",
        "undecided": f"Not decided; keep {base} for now",
    }
    return words[action]
