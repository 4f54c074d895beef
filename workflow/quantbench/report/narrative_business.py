"""What the costs mean: break-even, narrative and business case. Pure."""

from __future__ import annotations

from quantbench.report.document import Section, bullets, text
from quantbench.report.facts import Facts, Json
from quantbench.report.narrative_cost import cost_row, money, saving_row, utilisation
from quantbench.report.narrative_quality import lost_words
from quantbench.wording import is_number, number, percent

UNPROVEN = "Quality was not compared, so nothing says that the cheaper answers are still good."


def sections(facts: Facts) -> tuple[Section, ...]:
    """The prose of the cost document."""
    return (
        Section("Break-even", bullets(break_even(facts))),
        Section("Narrative", (text(*narrative(facts)),)),
        Section("Business case", (text(*business_case(facts)),)),
    )


def break_even(facts: Facts) -> list[str]:
    """What speed, and what loss of quality, would use the saving up."""
    found = []
    for workload in facts.workloads():
        for variant in facts.variants:
            row = saving_row(facts, workload, variant)
            if is_number(row.get("break_even_ratio")) and is_number(row.get("saving_pct")):
                found.append(_break_even(facts, workload, variant, row))
    return found or ["No valid comparison, so no break-even can be given."]


def _break_even(facts: Facts, workload: str, variant: str, row: Json) -> str:
    label = facts.label(variant)
    said = f"{label}, {workload}: it pays above a throughput ratio of {number(row['break_even_ratio'])}"
    if row["code"] != "better":
        return f"{said}, which is not shown here."
    redo = row["saving_pct"] / 100
    return (
        f"{said}; if more than {percent(redo)} of its answers had to be given again by {facts.label(facts.baseline)}, "
        "the saving would be gone."
    )


def narrative(facts: Facts) -> list[str]:
    """Two or three sentences: how quantization changes the economics of this machine."""
    told = []
    for workload in facts.workloads():
        rows = {variant: saving_row(facts, workload, variant) for variant in facts.variants}
        gains = {v: r["saving_pct"] for v, r in rows.items() if r.get("code") == "better"}
        if gains:
            top = max(gains, key=lambda variant: gains[variant])
            cheaper = f"{percent(gains[top] / 100)} cheaper{_prices(facts, workload, top)}"
            told.append(f"in {workload} {facts.label(top)} makes a token {cheaper}")
        else:
            told.append(f"in {workload} no variant makes a token cheaper by a difference that is shown")
    return [
        f"On this machine quantization changes economics like this: {'; '.join(told)}.",
        f"The costs assume {utilisation(facts)} utilisation; at half of that every token costs twice as much, while "
        "the saving in percent stays the same.",
        "The bill falls only if fewer machine hours are bought: a saving below one whole machine stays on paper.",
    ]


def _prices(facts: Facts, workload: str, variant: str) -> str:
    cell = facts.deciding_cell(workload)
    own, base = (cost_row(facts, workload, m, cell).get("cost_per_1m_tokens") for m in (variant, facts.baseline))
    if not (is_number(own) and is_number(base)):
        return ""
    return f" ({money(facts, own)} instead of {money(facts, base)} per 1M output tokens)"


def business_case(facts: Facts) -> list[str]:
    """Three to five sentences, with the caveats about quality."""
    savings = [saving_row(facts, w, v) for w in facts.workloads() for v in facts.variants]
    gains = [row["saving_pct"] / 100 for row in savings if row.get("code") == "better"]
    first = f"The business case for quantization on {facts.gpu_name}: "
    if not gains:
        trusted = facts.verdict.get("trusted", True)
        because = "speed alone gives no case" if trusted else "and its A/A control failed: measure again first"
        first += f"this run shows no saving, {'so ' if trusted else ''}{because}."
    elif (low := percent(min(gains))) == (high := percent(max(gains))):
        first += f"a saving of {low} per token is shown."
    else:
        first += f"savings between {low} and {high} per token are shown, by model and workload."
    quality = [f"{facts.label(v)}: {lost_words(facts, v)}, {d['verdict']['word']}" for v, d in facts.quality.items()]
    return [
        first,
        f"Against it stands quality: {'; '.join(quality)}." if quality else UNPROVEN,
        "One bad answer in front of a customer can cost more than months of such savings, so take it first where "
        "outputs are checked or sampled (internal tools, batch jobs).",
        "Refuse it where a wrong answer is dangerous or quality must be documented, until an evaluation on your own "
        "tasks allows it.",
        "Another GPU changes the figures: with more memory bandwidth the gain from smaller weights can shrink.",
    ]
