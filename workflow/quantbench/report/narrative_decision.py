"""The decision in words: headline sentences and the one-page memo. Pure."""

from __future__ import annotations

from quantbench.config import command_line
from quantbench.report.decision import USES, Choice, best, choices, confidence
from quantbench.report.document import Code, Part, Section, Table, bullets, table, text
from quantbench.report.facts import Facts, Json, cell_of
from quantbench.report.narrative_cost import cost_row, cost_sentences, currency
from quantbench.report.narrative_doubts import doubts
from quantbench.report.narrative_quality import lost_words
from quantbench.report.narrative_words import CI_NOTE, alone, clause
from quantbench.wording import (
    BLANK,
    at_most,
    change,
    integer,
    is_number,
    listing,
    metric_name,
    metric_unit,
    number,
    plural,
    ratio_interval,
    sentence,
    with_unit,
)


def headline(facts: Facts) -> list[str]:
    """One sentence per use: what to do, by how much, how sure; without a variant, that there is nothing to decide."""
    if not facts.variants:
        return [alone(facts)]
    told = [_use_headline(facts, style) for style in USES]
    return [line for line in (warning(facts), *told) if line]


def warning(facts: Facts) -> str:
    """What stands first on every page of a run that is not to be trusted; "" where it is."""
    if facts.verdict.get("trusted", True):
        return ""
    return "**Do not decide on this run:** " + sentence(str(facts.verdict.get("words", "the A/A control failed")))


def _use_headline(facts: Facts, style: str) -> str:
    found = choices(facts, style)
    if not found:
        return ""
    name = USES[style][0]
    top = best(found)
    if top and top.action == "use":
        return f"**{name}: use {facts.label(top.variant)}.** {reason_sentence(facts, top)}"
    if top:
        label = facts.label(top.variant)
        return f"**{name}: {label} {top.gain}, but check its answers first.** {reason_sentence(facts, top)}"
    base = facts.label(facts.baseline)
    reasons = " ".join(reason_sentence(facts, choice) for choice in found)
    if all(choice.action == "keep" for choice in found):
        return f"**{name}: keep {base}.** {reasons}"
    return f"**{name}: not decided, so keep {base} for now.** {reasons}"


def reason_sentence(facts: Facts, choice: Choice) -> str:
    """Speed, what got slower, quality: "INT8: tokens/sec improved by … at c=16; lost 0 of 15"."""
    at = f" at {facts.place(choice.workload, choice.cell)}" if choice.cell else ""
    told = [f"tokens/sec {clause(facts, choice.speed)}{at}"]
    told += [choice.got_worse] if choice.caveats else []
    quality = {"ok": "quality OK", "not acceptable": "quality not acceptable", "not shown": "quality not shown"}
    told.append(f"{quality.get(choice.quality, 'quality not measured')} ({choice.short_why})")
    return sentence(f"{facts.label(choice.variant)}: {'; '.join(told)}")


def memo(facts: Facts) -> list[Section]:
    """The decision memo: decision first, then the evidence; without a variant, what is known of the baseline."""
    if not facts.variants:
        return [
            Section("Decision", _decision_parts(facts)),
            Section("Scope", bullets(_scope(facts))),
            Section("What was not tested", bullets(_not_tested(facts))),
            Section("Cost", bullets(cost_sentences(facts))),
            _reproduce(facts),
        ]
    return [
        Section("Decision", _decision_parts(facts)),
        Section("Scope", bullets(_scope(facts))),
        Section("Evidence", (evidence_table(facts),)),
        Section("What got worse", bullets(what_got_worse(facts)) or (text("Nothing that was compared got worse."),)),
        Section("What was not tested", bullets(_not_tested(facts))),
        Section("Cost", bullets(cost_sentences(facts))),
        Section("Risks and rollback", bullets(_rollback(facts))),
        Section("Alternatives considered", bullets(_alternatives(facts))),
        _reproduce(facts),
    ]


def _reproduce(facts: Facts) -> Section:
    return Section("Reproduce", (Code(command_line.text(facts.command)),))


def _decision_parts(facts: Facts) -> tuple[Part, ...]:
    lines = headline(facts)
    for style in USES:
        found = choices(facts, style)
        top = best(found) or (found[0] if found else None)
        if top:
            level, reasons = confidence(facts, top)
            because = f" ({'; '.join(reasons)})" if reasons else ""
            lines.append(f"Confidence for {USES[style][0].lower()}: {level}{because}.")
    return bullets(lines)


def _scope(facts: Facts) -> list[str]:
    told = []
    for model in facts.models:
        seen = facts.ready.get(model, {}).get("quantization") or {}
        source = facts.ready.get(model, {}).get("source")
        details = listing(
            filter(None, [f"`{source}`" if source else "", str(seen.get("label") or ""), str(seen.get("kernel") or "")])
        )
        told.append(f"{facts.label(model)}: {details or 'not described'}.")
    versions: Json = facts.measurement["versions"].get(facts.baseline, {})
    known = [f"{name} {version}" for name, version in versions.items() if version]
    day = str(facts.measurement.get("first_block_at") or "")[:10]
    told.append(
        sentence(f"{facts.gpu_name}{f', {listing(known)}' if known else ''}{f', measured on {day}' if day else ''}")
    )
    told.append(f"Workloads: {listing(_workload(facts, name) for name in facts.workloads())}.")
    return told


def _workload(facts: Facts, name: str) -> str:
    cells = facts.cells(name)
    tokens = listing(str(t) for t in dict.fromkeys(t for _, t in cells))
    return f"{name} (c={', '.join(str(c) for c in dict.fromkeys(c for c, _ in cells))}; max_tokens={tokens})"


def evidence_table(facts: Facts) -> Table:
    """A row per figure, a column per model; variants show their value, the ratio with its CI, and the verdict."""
    rows: list[list[str]] = []
    for workload in facts.workloads():
        for metric in ("throughput_tok_s", "p50_ttft_ms", _tail(facts, workload), "p50_tpot_ms", "j_per_token"):
            rows += _speed_row(facts, workload, metric)
        rows += _cost_row(facts, workload)
    for key, name in (("weights_gib", "weights (GiB)"), ("kv_cache_tokens", "KV cache (tokens)")):
        values = [facts.memory_of(model).get(key) for model in facts.models]
        if any(is_number(value) for value in values):
            shown = integer if key == "kv_cache_tokens" else number
            rows.append([name, *(shown(value) for value in values)])
    if facts.quality:
        passed = next(iter(facts.quality.values()))["passed"]["baseline"]
        rows.append(["prompts passed", integer(passed), *(_passed(facts, variant) for variant in facts.variants)])
    return table(["figure", *map(facts.label, facts.models)], rows, notes=[CI_NOTE], words=range(len(facts.models) + 1))


def _tail(facts: Facts, workload: str) -> str:
    """p95 E2E if the deciding cell has it, else the median."""
    rows = [row for row in facts.compared(workload, metric="p95_e2e_ms") if _deciding(facts, row)]
    return "p95_e2e_ms" if rows and all(is_number(row["ratio"]) for row in rows) else "p50_e2e_ms"


def _deciding(facts: Facts, row: Json) -> bool:
    return facts.deciding_cell(row["workload"]) == cell_of(row)


def _speed_row(facts: Facts, workload: str, metric: str) -> list[list[str]]:
    found = {v: facts.row(workload, v, facts.deciding_cell(workload) or (0, 0), metric) for v in facts.variants}
    base = [row["baseline_value"] for row in found.values() if row and is_number(row["baseline_value"])]
    if not base and metric != "throughput_tok_s":
        return []  # what decides is told also where it could not be compared
    cell = facts.deciding_cell(workload) or (0, 0)
    name = f"{workload} {facts.place(workload, cell)}: {metric_name(metric)} ({metric_unit(metric)})"
    return [[name, number(base[0] if base else None), *(_against(row) for row in found.values())]]


def _against(row: Json | None) -> str:
    if row is None or not is_number(row["ratio"]):
        return "not compared"
    return f"{number(row['variant_value'])}; {ratio_interval(row)}, {str(row['code']).replace('_', ' ')}"


def _cost_row(facts: Facts, workload: str) -> list[list[str]]:
    cell = facts.deciding_cell(workload)
    costs = [cost_row(facts, workload, model, cell).get("cost_per_1m_tokens") for model in facts.models]
    if not any(is_number(value) for value in costs):
        return []
    return [[f"{workload}: {currency(facts)} per 1M output tokens", *map(number, costs)]]


def _passed(facts: Facts, variant: str) -> str:
    if variant not in facts.quality:
        return ""
    details = facts.quality[variant]
    return f"{integer(details['passed']['variant'])}; {details['verdict']['word']}"


def what_got_worse(facts: Facts) -> list[str]:
    """Worse metrics by cell, and prompts lost."""
    found = []
    for variant in facts.variants:
        worse = [row for row in facts.compared(variant=variant) if row["code"] == "worse"]
        by_metric: dict[str, list[str]] = {}
        for row in worse:
            by_metric.setdefault(row["metric"], []).append(
                f"{row['workload']} {facts.place(row['workload'], cell_of(row))}: {change(row['ratio'])}"
            )
        found += [f"{facts.label(variant)}: {metric_name(m)} in {listing(cells)}." for m, cells in by_metric.items()]
        if variant in facts.quality and facts.quality[variant]["worse"]:
            found.append(f"{facts.label(variant)}: {lost_words(facts, variant)}; verbatim in `notes.md`.")
    return found


def _not_tested(facts: Facts) -> list[str]:
    found = doubts(facts)
    for variant, details in facts.quality.items():
        bound = details["verdict"].get("loss_rate_upper_95")
        if is_number(bound):
            found.append(
                f"{facts.label(variant)}: {plural(details['verdict']['n'], 'prompt')} cannot exclude that "
                f"up to {at_most(bound)} of such answers are lost."
            )
    return found


def _rollback(facts: Facts) -> list[str]:
    """Live metrics and the measured thresholds at which to go back."""
    found = []
    name = facts.label(facts.baseline)
    for workload in facts.workloads():
        cell = facts.deciding_cell(workload)
        base = facts.capacity_row(workload, facts.baseline, cell) if cell else None
        if cell is None or base is None or not base.get("blocks"):
            continue  # thresholds come from valid blocks only
        tail = next((m for m in ("p95_e2e_ms", "p50_e2e_ms") if is_number(base.get(m))), None)
        if tail:
            found.append(
                f"{workload}: go back to {name} if {metric_name(tail)} at {facts.place(workload, cell)} stays above "
                f"{with_unit(base[tail], 'ms')} or tokens/sec below {number(base.get('throughput_tok_s'))}, "
                f"which is what {name} reaches."
            )
    found.append(
        "Answers: sample outputs every day and run the quality prompts after each change of model, vLLM or driver; go "
        "back at the first loop, empty answer or broken JSON that the baseline does not give."
    )
    return found


def _alternatives(facts: Facts) -> list[str]:
    """The baseline and each variant: its action per use."""
    found = []
    for variant in facts.variants:
        told = [f"{c.name.lower()}: {_outcome(c)}" for s in USES for c in choices(facts, s) if c.variant == variant]
        found.append(f"{facts.label(variant)}: {'; '.join(told) or BLANK}.")
    found.append(f"{facts.label(facts.baseline)} as it is, and a smaller unquantized model (not measured here).")
    return found


def _outcome(choice: Choice) -> str:
    """What an alternative came to, in a few words."""
    if choice.action == "keep":
        return "refused for its answers" if choice.quality == "not acceptable" else "no gain in speed"
    check = f"{choice.gain.removeprefix('is ')}, answers to be checked"
    return {"use": "usable", "check": check, "undecided": "not decided"}[choice.action]
