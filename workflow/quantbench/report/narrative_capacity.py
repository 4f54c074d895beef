"""The sections "Chat Capacity" and "Batch Capacity": what was measured, the ratios, and what they say. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from quantbench.report.document import Part, Section, Table, bullets, table, text, without_empty_columns
from quantbench.report.facts import Cell, Facts, Json
from quantbench.report.narrative_words import CI_NOTE, at_cells, decided, short_cell, subject, verdict_words
from quantbench.wording import (
    change,
    integer,
    is_number,
    listing,
    metric_name,
    number,
    plural,
    ratio_interval,
    reason_codes,
    reason_words,
    sentence,
)

FOCUS = {
    "interactive": ("p50_ttft_ms", "p95_ttft_ms", "p50_e2e_ms", "p95_e2e_ms", "throughput_tok_s"),
    "batch": ("throughput_tok_s", "p50_latency_ms", "p95_latency_ms", "p50_ttft_ms", "p95_ttft_ms"),
}
COMPARED = {
    "interactive": ("throughput_tok_s", "p95_ttft_ms", "p95_e2e_ms"),
    "batch": ("throughput_tok_s", "p95_e2e_ms"),
}
DECIDED = ("better", "worse", "equivalent")
LATENCIES = ("ttft_ms", "e2e_ms")
BOTTLENECKS = {
    "engine": "the engine (the model itself)",
    "front_end": "vLLM's front end",
    "client": "our client",
    "unknown": "unknown",
}


def sections(facts: Facts, style: str) -> list[Section]:
    """One section per workload of a style; the title names the workload where there are several."""
    title = "Chat Capacity" if style == "interactive" else "Batch Capacity"
    names = facts.workloads(style)
    return [_section(facts, name, f"{title}: {_versus(facts)}{_suffix(name, names)}") for name in names]


def _versus(facts: Facts) -> str:
    return f"{facts.label(facts.baseline)} vs Quant"


def _suffix(name: str, names: Sequence[str]) -> str:
    return f" ({name})" if len(names) > 1 else ""


def _section(facts: Facts, workload: str, title: str) -> Section:
    parts: list[Part] = [focus_table(facts, workload), ratio_table(facts, workload)]
    for variant in facts.variants:
        parts.append(text(f"**{facts.label(variant)}** against {facts.label(facts.baseline)}:"))
        parts += bullets(findings(facts, workload, variant))
    limits = bottleneck_sentences(facts, workload)
    if limits:
        parts += [text("What limited these cells:"), *bullets(limits)]
    return Section(title, tuple(parts))


def focus_table(facts: Facts, workload: str) -> Table:
    """The measured values, a row per cell and model."""
    metrics = FOCUS[facts.config["workloads"][workload]["style"]]
    rows, notes = [], []
    for cell in facts.cells(workload):
        for model in facts.models:
            row = facts.capacity_row(workload, model, cell)
            if row is None:
                continue
            values = [number(row.get(metric)) for metric in metrics]
            counts = [integer(row.get("n")), integer(row.get("failures")), integer(row.get("blocks"))]
            rows.append([*map(str, cell), facts.label(model), *values, *counts])
            notes += _blanks(facts, row, metrics)
    columns = ["concurrency", "max_tokens", "model", *metrics, "n", "failures", "blocks"]
    caption = f"Measured values, {workload}"
    return without_empty_columns(table(columns, rows, caption=caption, notes=notes, words=(2,)))


def _blanks(facts: Facts, row: Json, metrics: Sequence[str]) -> list[str]:
    missing = [metric for metric in metrics if not is_number(row.get(metric))]
    words = reason_words(reason_codes(row.get("reasons")), facts.config.get("reason_words"))
    found = [f"Blank {listing(missing)}: {words or 'no valid block gives it'}."] if missing else []
    if row.get("valid") is False:
        name = f"{facts.label(row['model'])} at c={row['concurrency']}"
        found.append(f"{name}: {_refused(row)} ({words or 'no reason given'}).")
    return found


def _refused(row: Json) -> str:
    count = row.get("blocks_invalid")
    return f"{plural(int(count), 'block')} refused" if is_number(count) else "not all blocks are valid"


def ratio_table(facts: Facts, workload: str) -> Table:
    """Ratios with CI, a row per cell and variant; a p95 that n cannot support gives way to the p50 beside it."""
    metrics = compared_metrics(facts, workload)
    rows: list[list[str]] = []
    remarked: list[Json] = []
    for cell in facts.cells(workload):
        for variant in facts.variants:
            found = [facts.row(workload, variant, cell, metric) for metric in metrics]
            if all(row is None for row in found):
                continue
            cells = [ratio_interval(row) if row else "" for row in found]
            pairs = next((integer(row["n_pairs"]) for row in found if row), "")
            rows.append([*map(str, cell), facts.label(variant), *cells, verdict_words(facts, found[0]), pairs])
            remarked += [row for row in found if row]
    columns = ["concurrency", "max_tokens", "model", *(metric_name(m) for m in metrics), "tokens/sec verdict", "pairs"]
    return table(
        columns,
        rows,
        caption=f"Ratios to {facts.label(facts.baseline)}, {workload}",
        notes=[CI_NOTE, *_remarks(facts, remarked)],
        words=(2, len(metrics) + 3),
    )


def _remarks(facts: Facts, rows: Sequence[Json]) -> list[str]:
    """What the rows' reason codes say, with the metrics that share it joined."""
    grouped: dict[str, dict[str, None]] = {}
    for row in rows:
        words = reason_words(reason_codes(row.get("reasons")), facts.config.get("reason_words"))
        if words:
            grouped.setdefault(words, {})[metric_name(row["metric"])] = None
    return [sentence(f"{listing(metrics)}: {words}") for words, metrics in grouped.items()]


def compared_metrics(facts: Facts, workload: str) -> list[str]:
    """The metrics of the ratio table; p50 joins where some cell has no p95."""
    chosen: list[str] = []
    for metric in COMPARED[facts.config["workloads"][workload]["style"]]:
        rows = list(facts.compared(workload, metric=metric))
        if metric.startswith("p95_") and not all(is_number(row["ratio"]) for row in rows):
            chosen.append(metric.replace("p95_", "p50_"))
            if not any(is_number(row["ratio"]) for row in rows):
                continue
        chosen.append(metric)
    return chosen


def findings(facts: Facts, workload: str, variant: str) -> list[str]:
    """The sentences that one must be able to state about a variant in a workload."""
    return [
        _ratios(facts, workload, variant),
        sentence_about(facts, workload, variant, "throughput_tok_s"),
        *(_tail_sentence(facts, workload, variant, name) for name in LATENCIES),
        _matters_most(facts, workload, variant),
        _mainly(facts, workload, variant),
        _overhead(facts, workload, variant),
        _surprises(facts, workload, variant),
    ]


def _ratios(facts: Facts, workload: str, variant: str) -> str:
    """All throughput ratios in a row: "Tokens/sec ratios: c=1/8/16, max_tokens=128 → 1.43, 1.42, 1.40."."""
    rows = [row for row in _rows(facts, workload, variant, "throughput_tok_s") if is_number(row["ratio"])]
    told = []
    for tokens in dict.fromkeys(row["max_tokens"] for row in rows):
        some = [row for row in rows if row["max_tokens"] == tokens]
        cells = f"c={'/'.join(str(row['concurrency']) for row in some)}, max_tokens={tokens}"
        told.append(f"{cells} → " + ", ".join(f"{row['ratio']:.3f}" for row in some))
    return f"Tokens/sec ratios: {'; '.join(told)}." if told else ""


def sentence_about(facts: Facts, workload: str, variant: str, metric: str) -> str:
    """ "Tokens/sec improved by 12.3 % (95 % CI …) at c=8; …"."""
    rows = _rows(facts, workload, variant, metric)
    if not rows:
        return f"{subject(metric)} was not compared."
    return sentence(f"{subject(metric)} {at_cells(facts, rows)}")


def _rows(facts: Facts, workload: str, variant: str, metric: str) -> list[Json]:
    rows = facts.compared(workload, variant, metric)
    return sorted(rows, key=lambda row: (row["max_tokens"], row["concurrency"]))


def _tail_sentence(facts: Facts, workload: str, variant: str, name: str) -> str:
    """p95 where there is one, with the p50 of the cells that have none."""
    tail = _rows(facts, workload, variant, f"p95_{name}")
    told = [row for row in tail if is_number(row["ratio"])]
    if told and len(told) == len(tail):
        return sentence_about(facts, workload, variant, f"p95_{name}")
    middle = sentence_about(facts, workload, variant, f"p50_{name}")
    if not told:
        reason = reason_words(reason_codes(tail[0].get("reasons")), facts.config.get("reason_words")) if tail else ""
        because = f" ({reason})" if reason else ""
        return f"No p95 {name.removesuffix('_ms').upper()} can be given{because}. {middle}"
    tail_words = sentence(f"{subject(f'p95_{name}')} {at_cells(facts, told)}")
    return f"{tail_words} {middle}"


def _matters_most(facts: Facts, workload: str, variant: str) -> str:
    rows = _rows(facts, workload, variant, "throughput_tok_s")
    shown = decided(rows)
    if not shown:
        return "At no concurrency is a difference in tokens/sec shown." if rows else ""
    first = shown[0]
    if len({row["concurrency"] for row in rows}) == 1:
        return ""
    return f"The difference matters most at {short_cell(first, rows)}: tokens/sec {change(first['ratio'])}."


def _mainly(facts: Facts, workload: str, variant: str) -> str:
    """Throughput, latency or neither, in the deciding cell."""
    cell = facts.deciding_cell(workload)
    if cell is None:
        return ""
    metrics = ("throughput_tok_s", "p50_ttft_ms", "p50_e2e_ms", "p50_tpot_ms")
    found = [row for metric in metrics if (row := facts.row(workload, variant, cell, metric))]
    if all(row["code"] in ("invalid", "no_test") for row in found):
        return f"At c={cell[0]} nothing could be tested, so it is not known what quantization improves."
    better = [metric_name(row["metric"]) for row in found if row["code"] == "better"]
    worse = [metric_name(row["metric"]) for row in found if row["code"] == "worse"]
    at = f"At c={cell[0]} quantization"
    if not better and not worse:
        return f"{at} shows neither a gain nor a loss in throughput or latency."
    told = ([f"improved {listing(better)}"] if better else []) + ([f"worsened {listing(worse)}"] if worse else [])
    return f"{at} {listing(told)}."


def _overhead(facts: Facts, workload: str, variant: str) -> str:
    """TTFT worse while E2E is not: the first token pays for something that the others do not."""
    costly = []
    rows = _rows(facts, workload, variant, "p50_ttft_ms")
    for row in rows:
        other = facts.row(workload, variant, (int(row["concurrency"]), int(row["max_tokens"])), "p50_e2e_ms")
        if row["code"] == "worse" and other and other["code"] != "worse":
            costly.append(short_cell(row, rows))
    if not any(row["code"] in DECIDED for row in rows):
        return ""
    if costly:
        return f"TTFT got worse while E2E did not at {listing(costly)}: extra work before the first token (prefill)."
    return "TTFT against E2E shows no overhead that only the first token pays."


def _surprises(facts: Facts, workload: str, variant: str) -> str:
    """What the ratios say that a smaller model should not do."""
    rows = _rows(facts, workload, variant, "throughput_tok_s")
    slower = [short_cell(row, rows) for row in rows if row["code"] == "worse"]
    crossing = slower and any(row["code"] == "better" for row in rows)
    told = []
    if crossing:
        told.append(f"it gains at some concurrencies and loses at {listing(slower)}")
    elif slower:
        told.append(f"the quantized model is slower at {listing(slower)}")
    tails = [row for row in _rows(facts, workload, variant, "p95_e2e_ms") if row["code"] == "worse"]
    faster = {row["concurrency"] for row in rows if row["code"] == "better"}
    odd = [short_cell(row, tails) for row in tails if row["concurrency"] in faster]
    if odd:
        told.append(f"p95 E2E got worse although tokens/sec improved at {listing(odd)}")
    if not any(row["code"] in DECIDED for row in rows):
        return ""
    return sentence(f"Surprises: {'; '.join(told)}") if told else "No surprises in these ratios."


def bottleneck_sentences(facts: Facts, workload: str) -> list[str]:
    """Which part limited which cells, cells that say the same joined."""
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for model in facts.models:
        for cell in facts.cells(workload):
            seen = facts.measured_cell(workload, model, cell)
            if seen:
                grouped.setdefault((model, str(seen["bottleneck"])), []).append(cell)
    return [
        f"{facts.label(model)}: {BOTTLENECKS.get(part, part)} at {listing(f'c={c}' for c, _ in cells)}."
        for (model, part), cells in grouped.items()
    ]
