"""The section "Batch vs Chat quantization impact". Pure."""

from __future__ import annotations

from quantbench.report.document import Part, Section, bullets, text
from quantbench.report.facts import Facts, Json
from quantbench.report.impact import helps
from quantbench.report.narrative_words import clause
from quantbench.wording import is_number, ratio


def section(facts: Facts) -> Section:
    """Batch vs Chat quantization impact, a list per variant."""
    parts: list[Part] = []
    for row in facts.impact:
        parts.append(text(f"**{facts.label(row['variant'])}**:"))
        parts += bullets(sentences(facts, row))
    return Section("Batch vs Chat quantization impact", tuple(parts))


def sentences(facts: Facts, row: Json) -> list[str]:
    """The three sentences of the comparison, or the reason why there are none."""
    told = []
    for side in ("chat", "batch"):
        if row[f"{side}_workload"] is None:
            continue
        cell = (int(row[f"{side}_concurrency"]), int(row[f"{side}_max_tokens"]))
        at = facts.place(row[f"{side}_workload"], cell)
        compared = facts.row(row[f"{side}_workload"], row["variant"], cell, "throughput_tok_s")
        told.append(f"{side.capitalize()} at {at}: tokens/sec {clause(facts, compared)}.")
    if row.get("reason"):
        return [*told, f"Chat and batch are not set against each other: {row['reason']}."]
    if is_number(row.get("quotient_ci_low")):
        told.append(
            f"Ratio in batch over ratio in chat: {ratio(row['quotient'])} "
            f"[{ratio(row['quotient_ci_low'])}, {ratio(row['quotient_ci_high'])}]: {helps(row)}."
        )
    told.append(f"Why (a hypothesis, not tested): {row['hypothesis']}." if row.get("hypothesis") else "")
    told.append(f"Evidence: {row['evidence']}." if row.get("evidence") else "")
    return told
