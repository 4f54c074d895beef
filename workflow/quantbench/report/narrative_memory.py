"""The section "Model & VRAM Baseline": what was picked, how vLLM sees it, what it takes, how it starts. Pure."""

from __future__ import annotations

from quantbench.report import narrative_startup
from quantbench.report.document import Code, Details, Part, Section, Table, bullets, table, text
from quantbench.report.facts import Facts, Json
from quantbench.report.narrative_surprises import NVML_ALIKE, surprises
from quantbench.wording import (
    change,
    integer,
    is_number,
    listing,
    number,
    reduction,
    with_unit,
)

FIGURES = {
    "vram_before_mib": ("{sensor} before start", "MiB"),
    "vram_after_mib": ("{sensor} after start", "MiB"),
    "vram_delta_mib": ("{sensor} difference", "MiB"),
    "weights_gib": ("Weights", "GiB"),
    "weights_reduction_pct": ("Weights, reduction", "%"),
    "checkpoint_gib": ("Checkpoint files", "GiB"),
    "checkpoint_reduction_pct": ("Checkpoint files, reduction", "%"),
    "kv_cache_gib": ("KV cache", "GiB"),
    "kv_cache_tokens": ("KV cache", "tokens"),
    "max_concurrency": ("Requests of full length that fit", ""),
    "activation_peak_gib": ("Activation peak", "GiB"),
    "cuda_graphs_gib": ("CUDA graphs", "GiB"),
    "non_torch_gib": ("Outside torch", "GiB"),
    "after_stop_mib": ("{sensor} after stop", "MiB"),
}


def section(facts: Facts) -> Section:
    """Tables of memory and start-up, and a paragraph per variant."""
    paragraphs: list[Part] = [text(*_about(facts, variant)) for variant in facts.variants]
    tests = [
        _test_completion(facts, model) for model in facts.models if facts.ready.get(model, {}).get("test_completion")
    ]
    folded = (Details("Test completions, verbatim", tuple(tests)),) if tests else ()
    parts = (
        *paragraphs,
        text(_nvml_sentence(facts)),
        memory_table(facts),
        *narrative_startup.parts(facts),
        *_surprise_list(facts),
        *folded,
    )
    return Section("Model & VRAM Baseline", parts)


def sensor(facts: Facts) -> str:
    """What the memory snapshots read."""
    sources = {row.get("vram_source") for row in facts.memory}
    return "RSS" if sources == {"rss"} else "NVML"


def memory_table(facts: Facts) -> Table:
    """A row per figure, a column per model; figures that no model has are left to the notes."""
    rows, notes = [], []
    for key, (name, unit) in FIGURES.items():
        if key.endswith("_pct") and not facts.variants:
            continue
        values = [row.get(key) for row in facts.memory]
        if not any(is_number(value) for value in values):
            notes.append(_no_figure(facts, key, name.format(sensor=sensor(facts))))
            continue
        title = f"{name.format(sensor=sensor(facts))}{f' ({unit})' if unit else ''}"
        whole = unit in ("MiB", "tokens")
        rows.append([title, *(integer(v) if whole else number(v) for v in values)])
        notes.extend(_blank_reasons(facts, key, title))
    for key, name in (("quantization", "Quantization"), ("kernel", "Kernel")):
        rows.insert(0 if key == "quantization" else 1, [name, *(str(row.get(key) or "") for row in facts.memory)])
    sources = next((row["sources"] for row in facts.memory if row.get("sources")), "")
    notes.append(f"Sources: {sources}." if sources else "")
    return table(["Figure", *(facts.label(row["model"]) for row in facts.memory)], rows, caption="Memory", notes=notes)


def _reasons(row: Json) -> dict[str, str]:
    pairs = (entry.partition(": ") for entry in str(row.get("missing") or "").split("; ") if entry)
    return {name: reason for name, _, reason in pairs}


def _no_figure(facts: Facts, key: str, title: str) -> str:
    if key.endswith("_pct") or key == "after_stop_mib":
        return ""
    reasons = dict.fromkeys(r for row in facts.memory if (r := _reasons(row).get(key)))
    return f"{title}: {listing(reasons) or 'not reported'}."


def _blank_reasons(facts: Facts, key: str, title: str) -> list[str]:
    return [
        f"{title}, {facts.label(row['model'])}: {reason}."
        for row in facts.memory
        if not is_number(row.get(key)) and (reason := _reasons(row).get(key))
    ]


def _about(facts: Facts, variant: str) -> list[str]:
    """Five to ten sentences about one variant; a sentence without its figure is left out."""
    record, row = facts.ready.get(variant, {}), facts.memory_of(variant)
    if not record:
        return [f"**{facts.label(variant)}** has no `ready.json`, so nothing is known about how it was served."]
    base = facts.memory_of(facts.baseline)
    return [
        _picked(facts, variant),
        _as_vllm_sees_it(record),
        _weights(facts, row, base),
        _snapshot(facts, row, base),
        _kv_cache(facts, row, base),
        narrative_startup.sentence(facts, variant),
        narrative_startup.phases_sentence(facts, variant),
        _answered(record),
    ]


def _picked(facts: Facts, variant: str) -> str:
    source = facts.ready[variant].get("source")
    return f"**{facts.label(variant)}** was picked as the quantized model" + (f" (`{source}`)." if source else ".")


def _as_vllm_sees_it(record: Json) -> str:
    seen = record.get("quantization") or {}
    method, kernel = seen.get("method"), seen.get("kernel")
    if not method and not seen.get("label"):
        return "How vLLM sees it is not known: its log names no quantization."
    label = f", {seen['label']}" if seen.get("label") else ""
    sentence = f"vLLM sees it as `{method}`{label}"
    sentence += f" and computes with the kernel `{kernel}`." if kernel else "; the log names no kernel."
    if is_number(seen.get("bits_per_weight")):
        stored = any(str(line).startswith("The checkpoint stores") for line in seen.get("evidence") or [])
        source = "By the files of its checkpoint" if stored else "By its weight memory"
        sentence += f" {source} its linear layers hold {number(seen['bits_per_weight'])} bits per weight."
    return sentence


def _weights(facts: Facts, row: Json, base: Json) -> str:
    if not is_number(row.get("weights_reduction_pct")):
        files = row.get("checkpoint_reduction_pct")
        told = f", only the files on disk, which take {reduction(files)}" if is_number(files) else ""
        return f"The log does not give the weight memory of both models, so it cannot be compared{told}."
    return (
        f"Its weights take {with_unit(row['weights_gib'], 'GiB')} instead of {with_unit(base['weights_gib'], 'GiB')}: "
        f"{reduction(row['weights_reduction_pct'])}."
    )


def _snapshot(facts: Facts, row: Json, base: Json) -> str:
    if not (is_number(row.get("vram_delta_mib")) and is_number(base.get("vram_delta_mib"))):
        return ""
    what = "The server's resident memory" if row["vram_source"] == "rss" else "VRAM in use by NVML"
    own, other = integer(row["vram_delta_mib"]), integer(base["vram_delta_mib"])
    sentence = f"{what} grew by {own} MiB at start, {facts.label(facts.baseline)}'s by {other} MiB"
    return (
        f"{sentence}: {reduction(row['vram_delta_reduction_pct'])}."
        if is_number(row.get("vram_delta_reduction_pct"))
        else f"{sentence}."
    )


def _kv_cache(facts: Facts, row: Json, base: Json) -> str:
    if not is_number(row.get("kv_cache_tokens_ratio")):
        return ""
    sentence = f"The KV cache holds {integer(row['kv_cache_tokens'])} tokens against {integer(base['kv_cache_tokens'])}"
    ratio = row["kv_cache_tokens_ratio"]
    return f"{sentence} ({change(ratio)})." if abs(ratio - 1) >= 0.0005 else f"{sentence}, as its size is set the same."


def _answered(record: Json) -> str:
    test = record.get("test_completion") or {}
    if not is_number(test.get("tokens")):
        return ""
    return f"A test prompt was answered with {integer(test['tokens'])} tokens in {with_unit(test.get('e2e_ms'), 'ms')}."


def _test_completion(facts: Facts, model: str) -> Code:
    test = facts.ready[model]["test_completion"]
    return Code(f"{test.get('prompt', '')}{test.get('text', '')}", caption=facts.label(model))


def _nvml_sentence(facts: Facts) -> str:
    if sensor(facts) == "RSS":
        return (
            "There is no GPU here, so the snapshots are the resident memory of the server's processes; it holds "
            "libraries and a KV cache of fixed size besides the weights."
        )
    if not facts.variants:
        return ""
    deltas = [row["vram_delta_mib"] for row in facts.memory if is_number(row.get("vram_delta_mib"))]
    if len(deltas) < len(facts.memory):
        return "NVML's used memory is not known for all models."
    spread = f" (here {integer(min(deltas))} to {integer(max(deltas))} MiB)"
    if min(deltas) < (1 - NVML_ALIKE) * max(deltas):
        return f"NVML's used memory differs{spread}: vLLM did not fill the same share of the card for all models."
    return (
        f"NVML's used memory is about equal for all models{spread} because vLLM fills its share of the card whatever "
        "the weights take; what quantization saves in weights becomes KV cache."
    )


def _surprise_list(facts: Facts) -> tuple[Part, ...]:
    found = surprises(facts)
    if not facts.variants:
        return ()
    return (
        (text("Surprises in these figures:"), *bullets(found)) if found else (text("No surprises in these figures."),)
    )
