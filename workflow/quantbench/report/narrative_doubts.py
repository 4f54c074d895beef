"""The sections "What could still be wrong" and "Provenance". Pure."""

from __future__ import annotations

from quantbench.config import command_line
from quantbench.report.document import Code, Section, bullets, table, without_empty_columns
from quantbench.report.facts import Facts, Json
from quantbench.wording import listing, percent, plural


def doubts_section(facts: Facts) -> Section:
    """What could still be wrong, from what is absent or flagged in this run."""
    return Section("What could still be wrong", bullets(doubts(facts)))


def doubts(facts: Facts) -> list[str]:
    """One sentence per doubt."""
    return [
        *_trust_doubts(facts),
        *_coverage_doubts(facts),
        *_telemetry_doubts(facts),
        "Prompts are synthetic or few; other prompt and answer lengths give other ratios.",
        "One machine was measured, on one day; another card, driver or version of vLLM may differ.",
    ]


def _trust_doubts(facts: Facts) -> list[str]:
    aa = facts.verdict.get("aa") or {}
    found = []
    if not facts.verdict.get("trusted", True):
        found.append("**The A/A control says that the baseline differs from itself: do not trust this run.**")
    if not aa.get("present"):
        found.append(
            "The baseline was not measured against itself (A/A), so the resolution of the instrument is not known."
        )
    if facts.rows and not all(row["interleaved"] for row in facts.rows):
        found.append("Not all comparisons are interleaved; slow drift may look like a difference there.")
    for drift in facts.verdict.get("drift") or []:
        if drift.get("flagged"):
            cell = f"{drift['workload']} c={drift['concurrency']}"
            found.append(f"The baseline itself drifted by {percent(drift['percent'] / 100)} in {cell} during the run.")
    return found


def _coverage_doubts(facts: Facts) -> list[str]:
    found = []
    few = [row for row in facts.rows if row["code"] == "no_test"]
    if few:
        found.append(f"{plural(len(few), 'comparison')} could not be tested (too few blocks or values).")
    undecided = [row for row in facts.rows if row["code"] == "undecided"]
    if undecided:
        found.append(f"{plural(len(undecided), 'comparison')} stayed undecided; more blocks would decide them.")
    refused = len(facts.measurement["blocks"]["invalid"])
    if refused:
        found.append(f"{plural(refused, 'block')} had to be refused; what caused it may have touched others unseen.")
    if not facts.quality:
        found.append("Answers were not compared, so nothing here says whether the quantized model still answers well.")
    dummies = [facts.label(m) for m in facts.models if facts.config.get("load_formats", {}).get(m) == "dummy"]
    if dummies:
        found.append(
            f"{listing(dummies)} ran with dummy weights: speed does not depend on the values, "
            "but answers and everything about quality do."
        )
    return found


def _telemetry_doubts(facts: Facts) -> list[str]:
    missing: Json = facts.measurement["telemetry_missing"]
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(str(reason), []).append(f"`{name}`")
    found = [f"Not seen during the blocks: {listing(names)} ({reason})." for reason, names in by_reason.items()]
    unknown = [f"`{guard['id']}`" for guard in facts.measurement["guards"] if guard["unknown"] and not guard["ok"]]
    if unknown:
        found.append(f"These guards could not tell in any block: {listing(unknown)}.")
    return found


def provenance(facts: Facts) -> Section:
    """What exactly was served, and the command that makes it again."""
    rows = []
    for model in facts.models:
        record = facts.ready.get(model, {})
        seen: Json = record.get("quantization") or {}
        cells = [
            record.get("source"),
            seen.get("method"),
            seen.get("label"),
            seen.get("kernel"),
            record.get("system_fingerprint"),
        ]
        rows.append([facts.label(model), *(str(cell or "") for cell in cells), str(record.get("spec_hash") or "")])
    columns = ["model", "source", "method", "label", "kernel", "fingerprint", "settings hash"]
    served = without_empty_columns(table(columns, rows, words=range(7)))
    return Section("Provenance", (served, Code(command_line.text(facts.command), caption="Reproduce")))
