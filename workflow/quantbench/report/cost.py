"""The cost document: assumptions, tables, savings, sensitivity, and what the costs mean."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

from quantbench.judge.cost import price_age_days
from quantbench.records.cell import Cell
from quantbench.records.cost import Assumptions, Saving
from quantbench.records.finding import Finding, finding
from quantbench.records.run import Run
from quantbench.report.document import Part, Section, Table, bullets, table, text
from quantbench.report.say import Speech
from quantbench.wording import integer, number, percent

THROUGHPUT: Final = "throughput_tok_s"
STYLES: Final = {"interactive": "Chat", "batch": "Batch"}
VIEWS: Final = {
    # what energy costs, shown where it is known: column of cost.json, column head
    "energy_cost_per_1m_tokens": "{currency} of energy/1M",
    "j_per_token": "J/token",
}


def sections(run: Run, say: Speech) -> tuple[Section, ...]:
    """Assumptions, a section per workload, all cells, sensitivity; with a variant, what that means."""
    tables = [
        Section("Assumptions", bullets([say(found) for found in _assumptions(run)])),
        *(_workload(run, say, name) for name in run.workloads()),
    ]
    if _stated(run).hourly_price is not None:
        tables += [Section("All cells", (cells_table(run, say),)), Section("Sensitivity", _sensitivity(run, say))]
    if not run.variants:
        return tuple(tables)
    return (
        *tables,
        Section("Break-even", bullets([say(found) for found in break_even(run)])),
        Section("Narrative", (text(say.all(narrative(run))),)),
        Section("Business case", (text(say.all(business_case(run))),)),
    )


def price(run: Run) -> Finding:
    """Price, source, date and utilisation in one sentence."""
    stated = _stated(run)
    if stated.hourly_price is None:
        return finding("cost.no_price")
    return finding(
        "cost.here",
        price=exact(stated.hourly_price),
        currency=stated.currency,
        source=stated.source or finding("cost.source"),
        date=stated.date or finding("cost.date"),
        share=_utilisation(run),
    )


def saving(run: Run, workload: str, variant: str) -> Finding:
    """What a variant saves in the deciding cell, or why no saving is claimed."""
    row = run.saving(variant, run.deciding_cell(workload))
    if row is None or row.saving_pct is None:
        return finding("cost.no_figure", variant=variant)
    measured = _measured(row)
    if not run.trusted:
        return finding("cost.untrusted", variant=variant, measured=measured)
    if row.code == "better":
        return finding("cost.saved", variant=variant, by=row.saving_pct / 100, interval=_interval(row, 1))
    if row.code == "worse":
        return finding("cost.more", variant=variant, by=-row.saving_pct / 100, interval=_interval(row, -1))
    ids = {"equivalent": "cost.within_margin", "no_test": "cost.no_test"}
    undecided = "cost.corrected" if _one_sided(row) else "cost.undecided"
    return finding(ids.get(row.code, undecided), variant=variant, measured=measured)


def is_shown(run: Run, row: Saving | None) -> bool:
    """Whether a saving is shown; none is by a run that is not trusted."""
    return row is not None and row.saving_pct is not None and row.code == "better" and run.trusted


def exact(value: float) -> str:
    """A figure of the config as it was given, thousands with a comma: what a person stated is not rounded."""
    return f"{value:,.10g}"


def _stated(run: Run) -> Assumptions:
    return run.cost.assumptions if run.cost else Assumptions()


def _utilisation(run: Run) -> str:
    """The stated share of the hour: "50 %", "37.5 %"."""
    share = _stated(run).utilisation
    return f"{exact(100 * (1 if share is None else share))} %"


def _assumptions(run: Run) -> Iterator[Finding]:
    stated = _stated(run)
    yield finding("cost.gpu", gpu=run.plan.gpu_name)
    if stated.hourly_price is None:
        yield finding("cost.no_price")
    else:
        yield finding(
            "cost.price",
            price=exact(stated.hourly_price),
            currency=stated.currency,
            source=stated.source or finding("cost.source"),
            date=_price_date(run, stated.date),
        )
    yield finding("cost.utilisation", share=_utilisation(run))
    if any(row and row.saving_pct is not None for _, _, row in _savings(run)):
        yield finding("cost.paired")


def _price_date(run: Run, read_on: str | None) -> Finding | str:
    """The day the price was read, and how old it was when the run was measured."""
    if not read_on:
        return finding("cost.date")
    try:
        age = price_age_days(read_on, date.fromisoformat((run.measurement.first_block_at or "")[:10]))
    except ValueError:
        return read_on
    return finding("cost.age", date=read_on, age=age) if age and age > 0 else read_on


def _measured(row: Saving) -> Finding:
    """A saving as the change of cost."""
    if row.saving_pct is None or row.ci_low_pct is None or row.ci_high_pct is None:
        return finding("cost.measured", by=1 - (row.saving_pct or 0) / 100)
    low, high = 1 - row.ci_high_pct / 100, 1 - row.ci_low_pct / 100
    return finding("cost.measured_interval", by=1 - row.saving_pct / 100, low=low, high=high)


def _interval(row: Saving, sign: int) -> Finding | str:
    """The CI of a saving, or of a loss (sign −1)."""
    if row.ci_low_pct is None or row.ci_high_pct is None:
        return ""
    low, high = sorted((sign * row.ci_low_pct / 100, sign * row.ci_high_pct / 100))
    return finding("cost.interval", low=low, high=high)


def _one_sided(row: Saving) -> bool:
    """Whether the interval of the saving lies on one side of zero."""
    return row.ci_low_pct is not None and row.ci_high_pct is not None and (row.ci_low_pct > 0 or row.ci_high_pct < 0)


def _workload(run: Run, say: Speech, workload: str) -> Section:
    cell, style = run.deciding_cell(workload), run.style(workload)
    if cell is None:
        return Section(workload, (text(say("cost.no_cell")),))
    name = f" {workload}" if len(run.workloads(style)) > 1 else ""
    title = f"{STYLES[style]} workload{name} (conc={cell.concurrency}, max_tokens={cell.max_tokens})"
    savings = [saving(run, workload, variant) for variant in run.variants]
    dagger = [finding("cost.dagger")] if any(found.id == "cost.corrected" for found in savings) else []
    lines = bullets([say("cost.saving", saving=what) for what in savings])
    return Section(title, (_price_table(run, say, cell), *lines, *([text(say.all(dagger))] if dagger else [])))


def _price_table(run: Run, say: Speech, cell: Cell) -> Table:
    """Throughput and costs of the deciding cell, a row per model; energy where it is known."""
    by_model = {model: run.cost_row(model, cell) for model in run.models}
    views = [view for view in VIEWS if any(row and getattr(row, view) is not None for row in by_model.values())]
    rows = []
    for model, row in by_model.items():
        values = (
            [number(row.throughput_tok_s), integer(row.tokens_per_hour), number(row.cost_per_1m_tokens)] if row else []
        )
        values += [number(getattr(row, view)) for view in views]
        rows.append([say.label(model), *(values or [""] * (3 + len(views)))])
    currency = _stated(run).currency
    columns = ["Model", "Throughput (tok/s)", "Tokens/Hour", f"{currency}/1M Tokens"]
    notes = [say.all([_why_blank(run, model, cell)]) for model in run.models]
    return table([*columns, *(VIEWS[view].format(currency=currency) for view in views)], rows, notes=notes)


def _why_blank(run: Run, model: str, cell: Cell) -> Finding | None:
    """Why a cell has no price of its own, though a saving may stand beside it; None where it has one."""
    row = run.cost_row(model, cell)
    if row and row.tokens_per_hour:
        return None
    if row is None or "INVALID" not in row.reasons:
        return finding("cost.not_measured", model=model, workload=cell.workload, cell=cell)
    capacity, compared = run.capacity_row(model, cell), run.row(model, cell, THROUGHPUT)
    invalid, valid = (capacity.blocks_invalid, capacity.blocks) if capacity else (0, 0)
    pairs = compared.n_pairs if compared and compared.ratio is not None else 0
    return finding(
        "cost.refused",
        model=model,
        workload=cell.workload,
        cell=cell,
        refused=finding("cost.refused_blocks", n=invalid, total=invalid + valid),
        pairs=finding("cost.refused_pairs", pairs=pairs) if pairs else "",
    )


def cells_table(run: Run, say: Speech) -> Table:
    """The cost of output tokens in every cell, a column per model."""
    cells = sorted({row.cell for row in run.cost.rows} if run.cost else set(), key=lambda cell: cell.order)
    rows, notes = [], []
    for cell in cells:
        priced = [run.cost_row(model, cell) for model in run.models]
        costs = [number(row.cost_per_1m_tokens) if row else "" for row in priced]
        rows.append([f"{cell.workload} {run.place(cell)}", *costs])
        notes += [say.all([_why_blank(run, model, cell)]) for model in run.models]
    caption = f"{_stated(run).currency} per 1M output tokens"
    return table(["cell", *map(say.label, run.models)], rows, caption=caption, notes=notes)


def _sensitivity(run: Run, say: Speech) -> tuple[Part, ...]:
    """Cost against utilisation in one deciding cell; other cells and prices scale likewise."""
    every = [entry for entry in run.cost.sensitivity if entry.price_factor == 1] if run.cost else []
    cells = [cell for workload in run.workloads() if (cell := run.deciding_cell(workload))]
    cell = next((cell for cell in cells if any(entry.cell == cell for entry in every)), None)
    if cell is None:
        return (text(say("cost.no_cell")),)
    entries = [entry for entry in every if entry.cell == cell]
    costs = {(entry.model, entry.utilisation): entry.cost_per_1m_tokens for entry in entries}
    shares = list(dict.fromkeys(entry.utilisation for entry in entries))
    rows = [[say.label(model), *(number(costs.get((model, share))) for share in shares)] for model in run.models]
    columns = ["utilisation", *(f"{exact(share * 100)} %" for share in shares)]
    caption = f"{_stated(run).currency} per 1M output tokens, {cell.workload} at {run.place(cell)}"
    return (table(columns, rows, caption=caption, notes=[say("cost.scales")]),)


def break_even(run: Run) -> list[Finding]:
    """Which share of answers that the baseline has to give again uses up a saving.

    With a share s saved and a share r given again, a token costs (1 - s) + r of the baseline's: the saving is gone at
    r = s.
    """
    found = []
    for workload, variant, row in _savings(run):
        if is_shown(run, row) and row and row.saving_pct is not None:
            low = finding("cost.break_even_low", low=row.ci_low_pct / 100) if row.ci_low_pct is not None else ""
            details = run.quality.get(variant)
            bound = details.verdict.loss_rate_upper_95 if details else None
            lost = finding("cost.break_even_quality", bound=bound) if bound is not None else ""
            what = {"variant": variant, "workload": workload, "baseline": run.baseline, "by": row.saving_pct / 100}
            found.append(finding("cost.break_even", **what, low=low, quality=lost))
    return found or [finding("cost.break_even_none")]


def _savings(run: Run) -> Iterator[tuple[str, str, Saving | None]]:
    for workload in run.workloads():
        for variant in run.variants:
            yield workload, variant, run.saving(variant, run.deciding_cell(workload))


def narrative(run: Run) -> list[Finding]:
    """Two sentences: how quantization changes the economics of this machine."""
    changes = []
    for workload in run.workloads():
        gains = {v: row.saving_pct for w, v, row in _savings(run) if w == workload and row and is_shown(run, row)}
        known = {variant: gain for variant, gain in gains.items() if gain is not None}
        if not known:
            changes.append(finding("cost.not_cheaper", workload=workload))
            continue
        top = max(known, key=lambda variant: known[variant])
        changes.append(finding("cost.cheaper", workload=workload, variant=top, by=known[top] / 100))
    return [finding("cost.economics", changes=changes), finding("cost.bill")]


def business_case(run: Run) -> list[Finding]:
    """Three to five sentences, with the caveats about quality."""
    gains = [row.saving_pct / 100 for _, _, row in _savings(run) if row and is_shown(run, row) and row.saving_pct]
    gpu = run.plan.gpu_name
    if not gains:
        first = finding("cost.case_none", gpu=gpu) if run.trusted else finding("cost.case_untrusted", gpu=gpu)
    elif percent(min(gains)) == percent(max(gains)):
        first = finding("cost.case_one", gpu=gpu, low=gains[0])
    else:
        first = finding("cost.case_several", gpu=gpu, low=min(gains), high=max(gains))
    against = [
        finding(
            "cost.quality_of",
            variant=variant,
            word=details.verdict.word,
            lost=len(details.verdict.lost),
            n=details.verdict.n,
        )
        for variant in run.variants
        if (details := run.quality.get(variant))
    ]
    return [
        first,
        finding("cost.against", quality=against) if against else finding("cost.quality_unknown"),
        finding("cost.incident"),
        finding("cost.refuse"),
        finding("cost.other_gpu"),
    ]
