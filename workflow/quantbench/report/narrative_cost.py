"""The cost document: assumptions, tables, savings, sensitivity. Pure; narrative_business has the prose."""

from __future__ import annotations

from datetime import date
from typing import Any

from quantbench.judge.cost import price_age_days
from quantbench.report.document import Part, Section, Table, bullets, table, text, without_empty_columns
from quantbench.report.facts import Cell, Facts, Json, cell_of
from quantbench.report.narrative_words import CORRECTED, refused_blocks
from quantbench.wording import BLANK, change, integer, is_number, number, percent, plural, sentence

PAIRED = (
    "Throughput and prices here are those of all valid blocks of a model taken together; savings come from the ratio "
    "of paired blocks, each against its neighbour in time, so the two can differ a little."
)
NO_PRICE = "No hourly price is given (`cost.hourly_price` in the config), so costs are blank; savings need no price."
UNTRUSTED = "untrusted"


def tables(facts: Facts) -> tuple[Section, ...]:
    """Assumptions, a section per workload, all cells, sensitivity."""
    return (
        Section("Assumptions", bullets(assumptions(facts))),
        *(_workload_section(facts, name) for name in facts.workloads()),
        Section("All cells", (cells_table(facts),)),
        Section("Sensitivity", _sensitivity_parts(facts)),
    )


def given(facts: Facts) -> Json:
    """The assumptions of cost.json."""
    return dict(facts.cost.get("assumptions") or {})


def money(facts: Facts, value: Any) -> str:
    """An amount with its currency; "–" where blank."""
    text = number(value)
    shown = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{shown} {currency(facts)}" if is_number(value) else BLANK


def exact(value: float) -> str:
    """A figure of the config as it was given, thousands with a comma: what a person stated is not rounded."""
    return f"{value:,.10g}"


def utilisation(facts: Facts) -> str:
    """The stated share of the hour: "50 %", "37.5 %"."""
    value = given(facts).get("utilisation")
    return f"{exact(value * 100)} %" if is_number(value) else BLANK


def currency(facts: Facts) -> str:
    """The currency of all prices."""
    return str(given(facts).get("currency") or "USD")


def assumptions(facts: Facts) -> list[str]:
    """One line per assumption: GPU, price, source, date and age, utilisation, what is charged."""
    told = given(facts)
    if not is_number(told.get("hourly_price")):
        price = NO_PRICE
    else:
        price = f"Hourly price: {exact(told['hourly_price'])} {currency(facts)} per hour."
    return [
        f"GPU: {facts.gpu_name}.",
        price,
        sentence(f"Source of the price: {told.get('source') or 'not stated'}"),
        _price_date(facts),
        f"Utilisation: {utilisation(facts)} of each hour under the measured load.",
        sentence(f"Attribution: {told['attribution']}") if told.get("attribution") else "",
        *(
            f"{facts.label(model)} is charged {number(factor)} times the hourly price."
            for model, factor in (told.get("relative_price") or {}).items()
            if factor != 1
        ),
    ]


def _price_date(facts: Facts) -> str:
    read_on = given(facts).get("date")
    measured = str(facts.measurement.get("first_block_at") or "")[:10]
    if not read_on:
        return "Date of the price: not stated."
    try:
        age = price_age_days(str(read_on), date.fromisoformat(measured))
    except ValueError:
        return f"Date of the price: {read_on}."
    if age is None or age <= 0:
        return f"Date of the price: {read_on}."
    return f"Date of the price: {read_on}, {plural(age, 'day')} before the measurement; prices of rented GPUs move."


def assumptions_sentence(facts: Facts) -> str:
    """Price, source, date and utilisation in one sentence."""
    told = given(facts)
    if not is_number(told.get("hourly_price")):
        return NO_PRICE
    return (
        f"Here: {exact(told['hourly_price'])} {currency(facts)} per hour ({told.get('source') or 'source not stated'}, "
        f"{told.get('date') or 'date not stated'}) at {utilisation(facts)} utilisation."
    )


def cost_row(facts: Facts, workload: str, model: str, cell: Cell | None) -> Json:
    """The row of cost.json for one model and cell, empty where absent."""
    wanted = None if cell is None else (workload, model, *cell)
    keys = ("workload", "model", "concurrency", "max_tokens")
    return next((row for row in facts.cost.get("rows", []) if tuple(row[k] for k in keys) == wanted), {})


def saving_row(facts: Facts, workload: str, variant: str) -> Json:
    """The saving of a variant in the deciding cell, empty where absent; none is shown by a run that is not trusted."""
    cell = facts.deciding_cell(workload)
    wanted = None if cell is None else (workload, variant, *cell)
    keys = ("workload", "variant", "concurrency", "max_tokens")
    row: Json = next((row for row in facts.cost.get("savings", []) if tuple(row[k] for k in keys) == wanted), {})
    return row | {"code": UNTRUSTED} if row and not facts.verdict.get("trusted", True) else row


def _workload_section(facts: Facts, workload: str) -> Section:
    cell = facts.deciding_cell(workload)
    if cell is None:
        return Section(f"{workload}", (text("No cell was measured."),))
    style = {"interactive": "Chat", "batch": "Batch"}[facts.config["workloads"][workload]["style"]]
    several = len(facts.workloads(facts.config["workloads"][workload]["style"])) > 1
    title = f"{style} workload{f' {workload}' if several else ''} (conc={cell[0]}, max_tokens={cell[1]})"
    savings = [f"**Savings**: {saving_sentence(facts, workload, variant)}" for variant in facts.variants]
    return Section(title, (_price_table(facts, workload, cell), *bullets(savings)))


def _price_table(facts: Facts, workload: str, cell: Cell) -> Table:
    rows = []
    for model in facts.models:
        row = cost_row(facts, workload, model, cell)
        values = [number(row.get("throughput_tok_s")), integer(row.get("tokens_per_hour"))]
        rows.append([facts.label(model), *values, number(row.get("cost_per_1m_tokens"))])
    notes = [] if is_number(given(facts).get("hourly_price")) else [NO_PRICE]
    notes += [_why_blank(facts, cost_row(facts, workload, m, cell) or {"model": m}) for m in facts.models]
    notes += (
        [PAIRED] if any(is_number(saving_row(facts, workload, v).get("saving_pct")) for v in facts.variants) else []
    )
    columns = ["Model", "Throughput (tok/s)", "Tokens/Hour", f"{currency(facts)}/1M Tokens"]
    return table(columns, rows, notes=notes)


def _why_blank(facts: Facts, row: Json, where: str = "") -> str:
    """Why a row of cost.json has no price of its own, though a saving may stand beside it; "" where it has one."""
    if row.get("tokens_per_hour"):
        return ""
    start = f"Blank for {facts.label(row['model'])}{where}"
    if "INVALID" not in row.get("reasons", ()):
        return f"{start}: it was not measured here."
    cell = cell_of(row)
    refused = refused_blocks(facts.capacity_row(row["workload"], row["model"], cell) or {})
    compared = facts.row(row["workload"], row["model"], cell, "throughput_tok_s")
    pairs = int(compared["n_pairs"]) if compared and is_number(compared["ratio"]) else 0
    saved = f"; its saving rests on the {plural(pairs, 'pair')} of valid blocks" if pairs else ""
    return f"{start}: {refused}, so the cell is not valid and gets no price{saved}. `notes.md` says how to repeat it."


def _in(facts: Facts, row: Json) -> str:
    return f" in {row['workload']} at {facts.place(row['workload'], cell_of(row))}"


def saving_sentence(facts: Facts, workload: str, variant: str) -> str:
    """ "20.1 % cost reduction with INT8 in chat (95 % CI 18.0 % to 22.1 %)", or why none is claimed."""
    row = saving_row(facts, workload, variant)
    saved, label = row.get("saving_pct"), facts.label(variant)
    if not is_number(saved):
        return f"No figure for {label} in {workload}: the cell has no valid comparison."
    interval = ""
    if is_number(row.get("ci_low_pct")) and is_number(row.get("ci_high_pct")):
        interval = f" (95 % CI {percent(row['ci_low_pct'] / 100)} to {percent(row['ci_high_pct'] / 100)})"
    if row["code"] == "better":
        return f"{percent(saved / 100)} cost reduction with {label} in {workload}{interval}."
    if row["code"] == "worse":
        return f"No cost reduction: {label} costs {percent(-saved / 100)} more in {workload}{_more(row)}."
    measured = f"measured cost {change(1 - saved / 100)}{_cost_interval(row)}"
    if row["code"] == "equivalent":
        return f"No cost reduction: {label}'s cost in {workload} differs by less than the margin ({measured})."
    doubts = {"no_test": "", UNTRUSTED: ", but the A/A control says that this run is not to be trusted"}
    corrected = f" {CORRECTED}" if _one_sided(row) else ""
    doubt = doubts.get(row["code"], f", which is not significant{corrected}")
    return f"No cost reduction is shown for {label} in {workload}: {measured}{doubt}."


def _one_sided(row: Json) -> bool:
    """Whether the interval of the saving lies on one side of zero."""
    low, high = row.get("ci_low_pct"), row.get("ci_high_pct")
    return is_number(low) and is_number(high) and (low > 0 or high < 0)


def _cost_interval(row: Json) -> str:
    """The CI of a saving, as change of cost."""
    if not (is_number(row.get("ci_low_pct")) and is_number(row.get("ci_high_pct"))):
        return ", without a test"
    return f", 95 % CI {change(1 - row['ci_high_pct'] / 100)} to {change(1 - row['ci_low_pct'] / 100)}"


def _more(row: Json) -> str:
    """The CI of a loss, as extra cost."""
    if not (is_number(row.get("ci_low_pct")) and is_number(row.get("ci_high_pct"))):
        return ""
    return f" (95 % CI {percent(-row['ci_high_pct'] / 100)} to {percent(-row['ci_low_pct'] / 100)})"


def cells_table(facts: Facts) -> Table:
    """Every cell: output tokens, all tokens, one request, energy."""
    names = {
        "cost_per_1m_tokens": "per 1M output tokens",
        "cost_per_1m_total_tokens": "per 1M tokens in and out",
        "cost_per_request": "per request",
        "energy_cost_per_1m_tokens": "energy per 1M output tokens",
    }
    rows = [
        [
            row["workload"],
            str(row["concurrency"]),
            str(row["max_tokens"]),
            facts.label(row["model"]),
            number(row["throughput_tok_s"]),
            *(number(row.get(key)) for key in names),
            number(row.get("j_per_token")),
        ]
        for row in facts.cost.get("rows", [])
    ]
    costs = [f"{currency(facts)} {name}" for name in names.values()]
    columns = ["workload", "concurrency", "max_tokens", "model", "tok/s", *costs, "J/token"]
    entries: list[Json] = facts.cost.get("rows", [])
    notes = [NO_PRICE] if any("NO_PRICE" in row["reasons"] for row in entries) else []
    notes += [_why_blank(facts, row, _in(facts, row)) for row in entries]
    return without_empty_columns(table(columns, rows, notes=notes, words=(0, 3)))


def _sensitivity_parts(facts: Facts) -> tuple[Part, ...]:
    """Cost against utilisation and price in the deciding cells."""
    parts: list[Part] = []
    for workload in facts.workloads():
        entries = _entries(facts, workload)
        if entries:
            parts.append(_sensitivity_table(facts, workload, entries))
    return tuple(parts) or (text(NO_PRICE),)


def _entries(facts: Facts, workload: str) -> list[Json]:
    cell = facts.deciding_cell(workload)
    found = [e for e in facts.cost.get("sensitivity", []) if e["workload"] == workload]
    return [e for e in found if cell == (e["concurrency"], e["max_tokens"])]


def _sensitivity_table(facts: Facts, workload: str, entries: list[Json]) -> Table:
    points: dict[tuple[float, float], dict[str, Json]] = {}
    for entry in entries:
        points.setdefault((entry["utilisation"], entry["price_factor"]), {})[entry["model"]] = entry
    rows = []
    for (share, factor), by_model in points.items():
        costs = [number(by_model.get(model, {}).get("cost_per_1m_tokens")) for model in facts.models]
        price = (
            next(iter(by_model.values()))["hourly_price"]
            if len(given(facts).get("relative_price") or {}) == 0
            else None
        )
        rows.append([f"{exact(share * 100)} %", exact(price) if is_number(price) else f"× {number(factor)}", *costs])
    columns = ["utilisation", f"{currency(facts)}/hour", *map(facts.label, facts.models)]
    caption = f"{currency(facts)} per 1M output tokens, {workload}"
    return table(columns, rows, caption=caption, words=())


def cost_sentences(facts: Facts) -> list[str]:
    """For the memo: assumptions, savings in the deciding cells, break-even."""
    savings = [saving_sentence(facts, w, v) for w in facts.workloads() for v in facts.variants]
    return [assumptions_sentence(facts), *savings]


def chart_entries(facts: Facts) -> list[Json]:
    """{model, workload, cost} in the deciding cells."""
    return [
        {"model": model, "workload": workload, "cost": row["cost_per_1m_tokens"]}
        for workload in facts.workloads()
        for model in facts.models
        if (row := cost_row(facts, workload, model, facts.deciding_cell(workload)))
    ]
