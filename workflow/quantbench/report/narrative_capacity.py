"""The sections "Chat Capacity" and "Batch Capacity": what was measured, the ratios, and what they say. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from quantbench.report.document import Part, Section, Table, bullets, table, text, without_empty_columns
from quantbench.report.facts import Cell, Facts, Json, cell_of
from quantbench.report.narrative_ratios import ratio_table
from quantbench.report.narrative_words import CORRECTED, at_cells, decided, likely, refused_blocks, short_cell, subject
from quantbench.wording import (
    change,
    integer,
    is_number,
    listing,
    metric_name,
    number,
    ratio,
    reason_codes,
    reason_words,
    sentence,
)

FOCUS = {
    "interactive": ("p50_ttft_ms", "p95_ttft_ms", "p50_e2e_ms", "p95_e2e_ms", "throughput_tok_s"),
    "batch": ("throughput_tok_s", "p50_latency_ms", "p95_latency_ms", "p50_ttft_ms", "p95_ttft_ms"),
}
DECIDED = ("better", "worse", "equivalent")
_BLANKS = re.compile(r"P\d+_NEEDS_N\d+|FALLS_ON_FAILURE|FAILURES_AT_P\d+")
"""Reason codes of a tuple that leave a percentile blank; others concern its interval or other figures."""
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
    return f"{facts.label(facts.baseline)}{' vs Quant' if facts.variants else ''}"


def _suffix(name: str, names: Sequence[str]) -> str:
    return f" ({name})" if len(names) > 1 else ""


def _section(facts: Facts, workload: str, title: str) -> Section:
    parts: list[Part] = [focus_table(facts, workload)]
    if facts.variants:
        parts.append(ratio_table(facts, workload))
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
    codes, meanings = reason_codes(row.get("reasons")), facts.config.get("reason_words")
    name = f"{facts.label(row['model'])} at {facts.place(row['workload'], cell_of(row))}"
    found = []
    if missing:
        words = reason_words((code for code in codes if _BLANKS.fullmatch(code)), meanings)
        found.append(f"Blank {listing(missing)}: {words or 'no valid block gives it'}.")
    if row.get("valid") is False:
        # In capitals are remarks on single figures; what refuses a block is a guard.
        words = reason_words((code for code in codes if not code.isupper()), meanings)
        found.append(f"{name}: {refused_blocks(row)} ({words or 'no reason given'}).")
    return found


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
        told.append(f"{cells} → " + ", ".join(ratio(row["ratio"]) for row in some))
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
        return f"At no concurrency is a difference in tokens/sec shown{_suggested(rows)}." if rows else ""
    first = shown[0]
    if len({row["concurrency"] for row in rows}) == 1:
        return ""
    open_ = "" if _stands_out(first, rows) else ", though the interval of another cell overlaps with its own"
    return f"The difference matters most at {short_cell(first, rows)}: tokens/sec {change(first['ratio'])}{open_}."


def _stands_out(row: Json, among: Sequence[Json]) -> bool:
    """Whether the row's difference is larger than that of any other, error bars included."""
    sizes = [sorted(abs(math.log(other[end])) for end in ("ci_low", "ci_high")) for other in among if _has_ci(other)]
    own = min(abs(math.log(row["ci_low"])), abs(math.log(row["ci_high"])))
    return len(sizes) == len(among) and sum(largest >= own for _, largest in sizes) == 1


def _has_ci(row: Json) -> bool:
    return is_number(row.get("ci_low")) and is_number(row.get("ci_high"))


def _suggested(rows: Sequence[Json]) -> str:
    """Where one is likely all the same, with the correction that stands against it."""
    sides = {side: [short_cell(row, rows) for row in rows if likely(row) == side] for side in ("gain", "loss")}
    told = [f"a {side} is likely at {listing(cells)}" for side, cells in sides.items() if cells]
    return f" {CORRECTED}; {listing(told)}" if told else ""


def _mainly(facts: Facts, workload: str, variant: str) -> str:
    """Throughput, latency or neither, in the deciding cell."""
    cell = facts.deciding_cell(workload)
    if cell is None:
        return ""
    at = f"At {facts.place(workload, cell)}"
    metrics = ("throughput_tok_s", "p50_ttft_ms", "p50_e2e_ms", "p50_tpot_ms")
    found = [row for metric in metrics if (row := facts.row(workload, variant, cell, metric))]
    if all(row["code"] in ("invalid", "no_test") for row in found):
        return f"{at} nothing could be tested, so it is not known what quantization improves."
    better = [metric_name(row["metric"]) for row in found if row["code"] == "better"]
    worse = [metric_name(row["metric"]) for row in found if row["code"] == "worse"]
    told = ([f"improved {listing(better)}"] if better else []) + ([f"worsened {listing(worse)}"] if worse else [])
    shown = [f"quantization {listing(told)}"] if told else []
    guessed = _likely(found)
    if shown or guessed:
        return f"{at} {'; '.join([*shown, *guessed])}."
    if all(row["code"] == "equivalent" for row in found):
        return f"{at} quantization changed neither throughput nor latency by more than the margin."
    return f"{at} neither a gain nor a loss in throughput or latency is shown, and neither is excluded."


def _likely(rows: Sequence[Json]) -> list[str]:
    """What the single intervals suggest and the correction does not let stand, gains and losses apart."""
    sides = {side: [metric_name(row["metric"]) for row in rows if likely(row) == side] for side in ("gain", "loss")}
    return [
        f"a {side} in {listing(names)} is likely, but not proven {CORRECTED}" for side, names in sides.items() if names
    ]


def _overhead(facts: Facts, workload: str, variant: str) -> str:
    """TTFT worse while E2E is not: the first token pays for something that the others do not."""
    costly = []
    rows = _rows(facts, workload, variant, "p50_ttft_ms")
    for row in rows:
        other = facts.row(workload, variant, cell_of(row), "p50_e2e_ms")
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
    faster = {cell_of(row) for row in rows if row["code"] == "better"}
    odd = [short_cell(row, rows) for row in tails if cell_of(row) in faster]
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
        f"{facts.label(model)}: {BOTTLENECKS.get(part, part)} at {listing(facts.place(workload, c) for c in cells)}."
        for (model, part), cells in grouped.items()
    ]
