"""The sections "What could still be wrong" and "Provenance". Pure."""

from __future__ import annotations

from collections.abc import Sequence

from quantbench.config import command_line
from quantbench.config.configuration import AA_SUFFIX
from quantbench.report.document import Code, Part, Section, bullets, table, without_empty_columns
from quantbench.report.facts import Facts, Json, cell_of
from quantbench.report.narrative_words import blocks_to_decide, interleaved_of
from quantbench.wording import is_number, listing, percent, plural, seconds

OLD_S = 86_400.0  # a calibration of yesterday says little of today's machine


def doubts_section(facts: Facts) -> Section:
    """What could still be wrong, from what is absent or flagged in this run."""
    return Section("What could still be wrong", (*bullets(doubts(facts)), *measure_again(facts)))


def doubts(facts: Facts) -> list[str]:
    """One sentence per doubt."""
    return [
        *_trust_doubts(facts),
        *_coverage_doubts(facts),
        *_telemetry_doubts(facts),
        "Prompts are synthetic or few; other prompt and answer lengths give other ratios.",
        f"One machine was measured, {_days(facts)}; another card, driver or version of vLLM may differ.",
    ]


def _days(facts: Facts) -> str:
    first, last = (str(facts.measurement.get(f"{which}_block_at") or "")[:10] for which in ("first", "last"))
    return "on one day" if first == last else f"between {first} and {last}"


def _trust_doubts(facts: Facts) -> list[str]:
    aa = facts.verdict.get("aa") or {}
    found = []
    if not facts.verdict.get("trusted", True):
        found.append("**The A/A control says that the baseline differs from itself: do not trust this run.**")
    if not aa.get("present"):
        found.append(
            "The baseline was not measured against itself (A/A), so the resolution of the instrument is not known."
        )
    ordered, tellable = interleaved_of(facts)
    if ordered < tellable:
        found.append("Not all comparisons are interleaved; slow drift may look like a difference there.")
    for drift in facts.verdict.get("drift") or []:
        if drift.get("flagged"):
            cell = f"{drift['workload']} {facts.place(drift['workload'], cell_of(drift))}"
            found.append(f"The baseline itself drifted by {percent(drift['percent'] / 100)} in {cell} during the run.")
    return found


def _coverage_doubts(facts: Facts) -> list[str]:
    found = []
    few = [row for row in facts.rows if row["code"] == "no_test"]
    if few:
        found.append(
            f"{plural(len(few), 'comparison')} could not be tested (not measured, or too few blocks or values)."
        )
    found += _undecided(facts)
    refused = len(facts.measurement["blocks"]["invalid"])
    if refused:
        again = (
            "`notes.md` says how to measure it again" if refused == 1 else "`notes.md` says how to measure them again"
        )
        found.append(
            f"{plural(refused, 'block')} had to be refused; what caused it may have touched others unseen. {again}."
        )
    if facts.variants and not facts.quality:
        found.append("Answers were not compared, so nothing here says whether the quantized model still answers well.")
    dummies = [facts.label(m) for m in facts.models if facts.config.get("load_formats", {}).get(m) == "dummy"]
    if dummies:
        found.append(
            f"{listing(dummies)} ran with dummy weights: speed does not depend on the values, "
            "but answers and everything about quality do."
        )
    return found


def _undecided(facts: Facts) -> list[str]:
    """How many stayed undecided: those that more blocks would decide, and those that they would not."""
    rows = [row for row in facts.rows if row["code"] == "undecided"]
    if not rows:
        return []
    far = sum(blocks_to_decide(facts, row) is None for row in rows)
    near, limit = len(rows) - far, f"more than {facts.most_blocks} blocks, so less noise would help more"
    if not far:
        told = f"more blocks would decide {'it' if len(rows) == 1 else 'them'}"
    elif not near:
        told = f"{'it' if len(rows) == 1 else 'each'} would need {limit}"
    else:
        told = f"more blocks would decide {near}, the other {far} would need {limit}"
    return [f"{plural(len(rows), 'comparison')} stayed undecided: {told}."]


def measure_again(facts: Facts) -> tuple[Part, ...]:
    """The lines that measure refused blocks again, with their partners in the other arms; none where all are valid."""
    blocks: Sequence[Json] = facts.measurement["blocks"]["invalid"]
    places = dict.fromkeys((b["workload"], b["concurrency"], b["max_tokens"], b["block"]) for b in blocks)
    if not places:
        return ()
    lines = [f"rm {' '.join(_files(facts, *place))}" for place in places]
    caption = (
        "To measure refused blocks again, remove their cause, delete their files and those of the blocks "
        "that they pair with, and run the same command"
    )
    return (Code("\n".join([*lines, command_line.text(facts.command)]), caption=caption),)


def _files(facts: Facts, workload: str, concurrency: int, max_tokens: int, block: int) -> list[str]:
    """The files of one block of all arms: measured anew side by side, the pairs stay interleaved."""
    cell = f"{workload}/c{concurrency}_t{max_tokens}"
    control = [facts.baseline + AA_SUFFIX] if (facts.verdict.get("aa") or {}).get("cell") == cell else []
    arms = [facts.baseline, *control, *facts.variants]
    return [f"results/{facts.config['gpu']}/raw/{arm}/{cell}/b{block}.*" for arm in arms]


def _telemetry_doubts(facts: Facts) -> list[str]:
    missing: Json = facts.measurement["telemetry_missing"]
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(str(reason), []).append(f"`{name}`")
    found = [f"Not seen during the blocks: {listing(names)} ({reason})." for reason, names in by_reason.items()]
    total = facts.measurement["blocks"]["total"]
    gaps: Json = facts.measurement.get("telemetry_gaps") or {}
    found += [
        f"`{name}` was not seen in {gap['blocks']} of {total} blocks ({gap['reason']})." for name, gap in gaps.items()
    ]
    age = facts.measurement.get("calibration_age_s")
    if is_number(age) and age > OLD_S:
        found.append(
            f"The load client was calibrated {seconds(age)} before the last block; delete the `client/` folder of the "
            "results to have it calibrated again."
        )
    told = ("ok", "fail", "warn")
    guards: Sequence[Json] = facts.measurement["guards"]
    unknown = [f"`{guard['id']}`" for guard in guards if guard["unknown"] and not any(guard[s] for s in told)]
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
