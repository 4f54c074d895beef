"""The checklist "best practices", each item with what was measured here. Pure."""

from __future__ import annotations

from quantbench.report.document import Section, bullets
from quantbench.report.facts import Facts
from quantbench.report.impact import helps
from quantbench.report.narrative_cost import assumptions_sentence, saving_sentence
from quantbench.report.narrative_quality import lost_words
from quantbench.report.narrative_words import interleaved_of
from quantbench.wording import at_most, change, is_number, listing, plural


def sections(facts: Facts) -> tuple[Section, ...]:
    """The eight items of the specification, in two groups."""
    single = [_vram(facts), _gate(facts), _side_by_side(facts), _ports(facts)]
    return (
        Section("Comparing a quantized model", bullets(single)),
        Section("Batch and cost", bullets([_impact(facts), _cost_model(facts), _assumptions(facts), _adjusted(facts)])),
    )


def _vram(facts: Facts) -> str:
    told = []
    for variant in facts.variants:
        row = facts.memory_of(variant)
        if is_number(row.get("weights_reduction_pct")):
            words = f"{facts.label(variant)} weights {change(1 - row['weights_reduction_pct'] / 100)}"
            if is_number(row.get("vram_delta_reduction_pct")):
                words += f" (whole server {change(1 - row['vram_delta_reduction_pct'] / 100)})"
            told.append(words)
        elif is_number(row.get("checkpoint_reduction_pct")):
            told.append(f"{facts.label(variant)} checkpoint files {change(1 - row['checkpoint_reduction_pct'] / 100)}")
    unknown = "the log did not give the weight memory" if facts.variants else "no variant was measured"
    figures = listing(told) or unknown
    rule = "**Quantization VRAM savings**: read the weights and the KV cache, not NVML's total."
    return f"{rule} On {facts.gpu_name}: {figures}."


def _gate(facts: Facts) -> str:
    rule = "**Quality gating**: never ship a quantized model without a spot check of at least 10 prompts."
    if not facts.quality:
        return f"{rule} Here the answers were not compared, so this gate is not passed."
    told = [f"{facts.label(v)} {lost_words(facts, v)}, {d['verdict']['word']}" for v, d in facts.quality.items()]
    return f"{rule} Here: {'; '.join(told)}."


def _side_by_side(facts: Facts) -> str:
    interleaved, tellable = interleaved_of(facts)
    blocks = facts.measurement["blocks"]
    rule = "**Side-by-side comparison**: always run the baseline beside the variant, in turns, on the same machine."
    how = (
        f"{interleaved} of {plural(tellable, 'comparison')} interleaved"
        if tellable
        else "no pairs of blocks to compare"
    )
    return f"{rule} Here: {how}, {plural(blocks['total'], 'block')} in all."


def _ports(facts: Facts) -> str:
    ports = [
        f"{facts.label(model)} on {url.rsplit(':', 1)[-1].split('/')[0]}"
        for model in facts.models
        if (url := str(facts.ready.get(model, {}).get("url") or "")).count(":") > 1
    ]
    here = f" Here: {listing(ports)}." if ports else ""
    return f"**Port separation**: one port per model, so that no request reaches the wrong one.{here}"


def _impact(facts: Facts) -> str:
    told = [f"{facts.label(row['variant'])}: {helps(row)}" for row in facts.impact if not row.get("reason")]
    figures = "; ".join(told) or "chat and batch could not be set against each other"
    return f"**Batch vs chat quantization impact**: find out which workload gains more. Here {figures}."


def _cost_model(facts: Facts) -> str:
    told = [saving_sentence(facts, workload, variant) for workload in facts.workloads() for variant in facts.variants]
    return f"**Cost modeling**: tie throughput to a price per 1M tokens. {' '.join(told)}"


def _assumptions(facts: Facts) -> str:
    return f"**Assumptions transparency**: state price, source, date and utilisation. {assumptions_sentence(facts)}"


def _adjusted(facts: Facts) -> str:
    rule = "**Quality-adjusted cost**: a saving counts only for answers that are still acceptable."
    told = []
    for variant, details in facts.quality.items():
        bound = details["verdict"].get("loss_rate_upper_95")
        if is_number(bound):
            told.append(f"for {facts.label(variant)} up to {at_most(bound)} of the answers may be lost (95 % bound)")
    return f"{rule} {('Here ' + '; '.join(told) + '.') if told else 'Here the answers were not compared.'}"
