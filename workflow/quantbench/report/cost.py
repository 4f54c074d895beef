"""The cost document: assumptions, tables, savings, sensitivity, and what the costs mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

from quantbench.judge.cost import price_age_days
from quantbench.records.cell import Cell
from quantbench.records.cost import Assumptions, CorrectCost, Saving
from quantbench.records.metric import SPEED
from quantbench.records.natural import Natural, Rates
from quantbench.records.run import Run
from quantbench.records.suite import Estimate, GateVerdict
from quantbench.report.document import Part, Section, Table, bullets, table, text, without_empty_columns
from quantbench.report.say import Speech
from quantbench.wording import change, integer, listing, number, percent, ratio_ci

STYLES: Final = {"interactive": "Chat", "batch": "Batch"}
ENDS: Final = ("cut", "cut_in_thought", "loops", "broken")
"""Ways in which an answer can end badly: fields of `Natural`."""
VIEWS: Final = {
    # what energy costs, shown where it is known: column of cost.json, column head
    "energy_cost_per_1m_tokens": "{currency} of energy/1M",
    "j_per_token": "J/token",
}


def sections(run: Run, say: Speech) -> tuple[Section, ...]:
    """Assumptions, a section per workload, all cells, sensitivity; with a variant, what that means."""
    tables = [
        Section("Assumptions", bullets(list(_assumptions(run, say)))),
        *(_workload(run, say, name) for name in run.workloads()),
    ]
    if _stated(run).known:
        tables += [Section("All cells", (cells_table(run, say),)), Section("Sensitivity", _sensitivity(run, say))]
    if correct := _correct(run, say):
        tables.append(Section("Correct answers", correct))
    if not run.variants:
        return tuple(tables)
    return (
        *tables,
        Section("Break-even", (text(break_even(run, say)),)),
        Section("Narrative", (text(*narrative(run, say)),)),
        Section("Business case", (text(*business_case(run, say)),)),
    )


def price(run: Run, say: Speech) -> str:
    """Price, source, date and utilisation in one sentence."""
    return say("cost.here", **_price(run, say)) if _stated(run).known else say("cost.no_price")


def saving(run: Run, say: Speech, workload: str, variant: str, *, brief: bool = False) -> str:
    """ "16.5 % [6.6, 25.3] cost reduction with INT8", of the deciding cell; or why no saving is claimed.

    brief: without the figures of what is not shown.
    """
    cell = run.deciding_cell(workload)
    row = run.saving(variant, cell)
    if row is None or row.saving_pct is None:
        return say("cost.saving", form="unknown", model=variant)
    if not run.trusted:
        return say("cost.saving", form="untrusted", model=variant)
    sign = -1 if row.code == "worse" else 1
    ends = sorted(sign * end / 100 for end in (row.ci_low_pct, row.ci_high_pct) if end is not None)
    interval = f" [{', '.join(percent(end).removesuffix(' %') for end in ends)}]" if ends else ""
    by = f"{percent(sign * row.saving_pct / 100)}{interval}"
    form = (row.likely if row.code == "undecided" else None) or row.code
    silent = brief and form not in ("better", "worse")
    return say("cost.saving", form=form, model=variant, by=None if silent else by)


def shown(run: Run) -> Iterator[tuple[str, str, Saving, float]]:
    """(workload, variant, row, saved fraction) of all savings that are shown; a run that is not trusted shows none."""
    for workload in run.workloads():
        for variant in run.variants:
            row = run.saving(variant, run.deciding_cell(workload))
            if row and row.saving_pct is not None and row.code == "better" and run.trusted:
                yield workload, variant, row, row.saving_pct / 100


def exact(value: float) -> str:
    """A figure of the config as it was given, thousands with a comma: what a person stated is not rounded."""
    return f"{value:,.10g}"


def _stated(run: Run) -> Assumptions:
    return run.cost.assumptions if run.cost else Assumptions()


def _price(run: Run, say: Speech) -> dict[str, Any]:
    """What a sentence needs to state the price."""
    stated = _stated(run)
    return {
        "price": _hourly(stated, say),
        "source": stated.source or say("cost.source"),
        "date": stated.date or say("cost.date"),
        "share": f"{exact(100 * (1 if stated.utilisation is None else stated.utilisation))} %",
    }


def _hourly(stated: Assumptions, say: Speech) -> str:
    """The price per hour; of models with one of their own each, and for how many GPUs it is."""
    each = [
        say("cost.own_price", model=model, price=exact(price), currency=stated.currency, gpus=stated.gpus.get(model, 1))
        for model, price in stated.per_hour.items()
    ]
    return listing(each) if each else f"{exact(stated.hourly_price or 0)} {stated.currency}"


def _assumptions(run: Run, say: Speech) -> Iterator[str]:
    stated = _price(run, say)
    yield say("cost.gpu", gpu=run.plan.gpu_name)
    yield say("cost.price", **stated, age=_age(run)) if _stated(run).known else say("cost.no_price")
    if len(counts := {run.plan.arm(model).gpus for model in run.models}) > 1 and not _stated(run).per_hour:
        yield say("cost.one_price", counts=sorted(counts))
    yield say("cost.utilisation", **stated)


def _age(run: Run) -> int | None:
    """How many days before the measurement the price was read; None where that cannot be told."""
    try:
        measured = date.fromisoformat((run.measurement.first_block_at or "")[:10])
        return max(0, price_age_days(_stated(run).date, measured) or 0) or None
    except ValueError:
        return None


def _workload(run: Run, say: Speech, workload: str) -> Section:
    cell, style = run.deciding_cell(workload), run.style(workload)
    if cell is None:
        return Section(workload, (text(say("cost.no_cell")),))
    name = f" {workload}" if len(run.workloads(style)) > 1 else ""
    title = f"{STYLES[style]} workload{name} (conc={cell.concurrency}, max_tokens={cell.max_tokens})"
    lines = [say("cost.savings", saving=saving(run, say, workload, variant)) for variant in run.variants]
    if servers := _replicas(run, say, cell):
        lines.append(f"{servers} {say('cost.whole_servers')}" if workload == run.workloads()[0] else servers)
    return Section(title, (_price_table(run, say, cell, first=workload == run.workloads()[0]), *bullets(lines)))


def _price_table(run: Run, say: Speech, cell: Cell, *, first: bool) -> Table:
    """Throughput and costs of the deciding cell, a row per model; energy where it is known.

    Under the first it is said why savings are not quotients of its costs.
    """
    by_model = {model: run.cost_row(model, cell) for model in run.models}
    views = [view for view in VIEWS if any(row and getattr(row, view) is not None for row in by_model.values())]
    figures = {"throughput_tok_s": number, "tokens_per_hour": integer, "cost_per_1m_tokens": number}
    figures |= dict.fromkeys(views, number)
    rows = [
        [say.label(model), *(show(getattr(row, name, None)) for name, show in figures.items())]
        for model, row in by_model.items()
    ]
    currency = _stated(run).currency
    columns = ["Model", "Throughput (tok/s)", "Tokens/Hour", f"{currency}/1M Tokens"]
    columns += [VIEWS[view].format(currency=currency) for view in views]
    notes = [_why_blank(run, say, model, cell) for model in run.models]
    known = [variant for variant in run.variants if (row := run.saving(variant, cell)) and row.saving_pct is not None]
    if first and known and run.trusted:
        notes.append(say("cost.not_a_quotient"))
    return table(columns, rows, notes=notes)


def _why_blank(run: Run, say: Speech, model: str, cell: Cell) -> str:
    """Why a cell has no price of its own, though a saving may stand beside it; "" where it has one."""
    row = run.cost_row(model, cell)
    if row and row.tokens_per_hour:
        return ""
    where = {"model": model, "workload": cell.workload, "cell": cell}
    if row is None or "INVALID" not in row.reasons:
        return say("cost.not_measured", **where)
    capacity, compared = run.capacity_row(model, cell), run.row(model, cell, SPEED)
    invalid, valid = (capacity.blocks_invalid, capacity.blocks) if capacity else (0, 0)
    pairs = compared.n_pairs if compared and compared.ratio is not None else None
    return say("cost.refused", **where, n=invalid, total=invalid + valid, pairs=pairs or None)


def cells_table(run: Run, say: Speech) -> Table:
    """The cost of output tokens in every cell, a column per model."""
    cells = sorted({row.cell for row in run.cost.rows} if run.cost else set(), key=lambda cell: cell.order)
    rows = []
    for cell in cells:
        costs = [row.cost_per_1m_tokens if (row := run.cost_row(model, cell)) else None for model in run.models]
        rows.append([f"{cell.workload} {run.place(cell)}", *map(number, costs)])
    told = {run.deciding_cell(workload) for workload in run.workloads()}
    notes = [_why_blank(run, say, model, cell) for cell in cells if cell not in told for model in run.models]
    caption = f"{_stated(run).currency} per 1M output tokens"
    return table(["cell", *map(say.label, run.models)], rows, caption=caption, notes=notes)


def _sensitivity(run: Run, say: Speech) -> tuple[Part, ...]:
    """Cost against utilisation in one deciding cell; other cells and prices scale likewise."""
    every = [entry for entry in run.cost.sensitivity if entry.price_factor == 1] if run.cost else []
    cells = [cell for workload in run.workloads() if (cell := run.deciding_cell(workload))]
    cell = next((cell for cell in cells if any(entry.cell == cell for entry in every)), None)
    if cell is None:
        return (text(say("cost.no_cell")),)
    costs = {(entry.model, entry.utilisation): entry.cost_per_1m_tokens for entry in every if entry.cell == cell}
    shares = list(dict.fromkeys(share for _, share in costs))
    rows = [[say.label(model), *(number(costs.get((model, share))) for share in shares)] for model in run.models]
    columns = ["utilisation", *(f"{exact(share * 100)} %" for share in shares)]
    caption = f"{_stated(run).currency} per 1M output tokens, {cell.workload} at {run.place(cell)}"
    return (table(columns, rows, caption=caption, notes=[say("cost.scales")]),)


def _replicas(run: Run, say: Speech, cell: Cell) -> str:
    """How many servers carry the peak; "" where none was stated."""
    rows = [row for model in run.models if (row := run.cost_row(model, cell)) and row.replicas]
    each = [
        say("cost.replicas_of", model=row.model, replicas=row.replicas, tokens=row.tokens_per_request) for row in rows
    ]
    return say("cost.replicas", peak=exact(_stated(run).peak_requests_per_s or 0), each=each) if each else ""


def _correct(run: Run, say: Speech) -> tuple[Part, ...]:
    """What a correct answer costs, and how answers end."""
    pairs, cell = [pair for variant in run.variants if (pair := run.natural(variant))], _correct_cell(run)
    rows = {pair.variant: row for pair in pairs if (row := run.correct_cost(pair.variant, cell))}
    blank: dict[tuple[str, ...], list[str]] = {}
    for variant, row in rows.items():
        if row.reasons and (row.ratio is None or row.ratio.low is None):
            blank.setdefault(row.reasons, []).append(variant)
    lines = [say("cost.correct_blank", models=models, why=say.reasons(why)) for why, models in blank.items()]
    known = [pair for pair in pairs if (row := rows.get(pair.variant)) and (row.ratio or row.variant_cost)]
    if not known or cell is None:
        return bullets(lines)
    ends = [line for pair in known for line in _natural(say, pair)]
    return (_correct_table(run, say, cell, known, rows), *bullets([*ends, *lines]))


def _correct_cell(run: Run) -> Cell | None:
    """The deciding cell of the first workload in which a correct answer has a cost."""
    places = (cell for workload in run.workloads() if (cell := run.deciding_cell(workload)))
    return next((cell for cell in places if any(run.correct_cost(variant, cell) for variant in run.variants)), None)


def _correct_table(
    run: Run, say: Speech, cell: Cell, pairs: Sequence[Natural], costs: Mapping[str, CorrectCost]
) -> Table:
    """A row per model; the baseline's figures are those of the first pair. A run that is not trusted compares none."""
    first = pairs[0]
    correct = first.correct.baseline if first.correct else None
    rows = [_correct_row(say.label(run.baseline), first.baseline_tokens, correct, costs[first.variant].baseline_cost)]
    for pair in pairs:
        cost = costs[pair.variant]
        ratios = (cost.ratio, cost.retry_ratio) if run.trusted else (None, None)
        correct = pair.correct.variant if pair.correct else None
        rows.append(_correct_row(say.label(pair.variant), pair.variant_tokens, correct, cost.variant_cost, *ratios))
    columns = ["Model", "tokens/answer", "correct", f"{_stated(run).currency}/1,000 correct"]
    columns += [f"against {run.label(run.baseline)}", "with retry"]
    about = {"items": first.items, "suites": first.suites, "baseline": run.baseline}
    notes = [say("cost.correct_how", **about, place=cell, workload=cell.workload)]
    return without_empty_columns(table(columns, rows, caption=say("cost.correct_caption"), notes=notes))


def _correct_row(
    label: str,
    tokens: float | None,
    correct: Estimate | None,
    cost: Estimate | None,
    ratio: Estimate | None = None,
    retried: Estimate | None = None,
) -> list[str]:
    share, each = percent(correct and correct.value), number(cost and 1000 * cost.value)
    return [label, number(tokens), share, each, _change(ratio), _change(retried)]


def _change(ratio: Estimate | None) -> str:
    """ "+3.1 % [−2.0, +8.4]"; without an interval the change alone."""
    if ratio is None:
        return ""
    ends = [change(end).removesuffix(" %") for end in (ratio.low, ratio.high) if end is not None]
    return f"{change(ratio.value)} [{', '.join(ends)}]" if ends else change(ratio.value)


def _natural(say: Speech, pair: Natural) -> Iterator[str]:
    """How long the answers are, and how they end that end badly; differences that are shown with their interval."""
    shown = {name: rates for name in ENDS if (rates := getattr(pair, name)) and _any(rates)}
    ends = [
        say("cost.end", form=name, own=rates.variant.value, base=rates.baseline.value, by=_points(rates.difference))
        for name, rates in shown.items()
    ]
    length = pair.length_ratio
    about = {"model": pair.variant, "baseline": pair.baseline, "ends": ends or [say("cost.no_bad_end")]}
    yield say("cost.natural", **about, length=length and ratio_ci(length.value, length.low, length.high))
    if "cut_in_thought" in shown:
        yield say("cost.more_thought")


def _any(rates: Rates) -> bool:
    return bool(rates.baseline.value or rates.variant.value)


def _points(difference: Estimate) -> str | None:
    """ "+2.1 [+0.3, +4.0]", in points; None where it is not shown."""
    low, high = difference.low, difference.high
    if low is None or high is None or low <= 0 <= high:
        return None
    value, *ends = (change(1 + x).removesuffix(" %") for x in (difference.value, low, high))
    return f"{value} [{', '.join(ends)}]"


def break_even(run: Run, say: Speech) -> str:
    """Which share of answers that the baseline has to give again uses up a saving.

    With a share s saved and a share r given again, a token costs (1 - s) + r of the baseline's: the saving is gone at
    r = s.
    """
    shares = []
    for workload, variant, row, by in shown(run):
        low = None if row.ci_low_pct is None else row.ci_low_pct / 100
        gate = run.gate(variant, "batch")
        bound = gate.high if gate else None
        shares.append(say("cost.given_again", model=variant, workload=workload, by=by, low=low, bound=bound))
    return say("cost.break_even", baseline=run.baseline, shares=shares) if shares else say("cost.no_saving")


def narrative(run: Run, say: Speech) -> list[str]:
    """Two sentences: how quantization changes the economics of this machine."""
    changes, without = [], []
    for workload in run.workloads():
        gains = {variant: by for name, variant, _, by in shown(run) if name == workload}
        if gains:
            top = max(gains, key=gains.__getitem__)
            changes.append(say("cost.change", form="cheaper", workload=workload, model=top, by=gains[top]))
        else:
            without.append(workload)
    if without:
        changes.append(say("cost.change", form="not_cheaper", workloads=without))
    return [say("cost.economics", changes=changes), say("cost.bill")]


def business_case(run: Run, say: Speech) -> list[str]:
    """Five sentences or six, with the caveats about quality."""
    gains = [by for *_, by in shown(run)] or [0.0]
    alike = percent(min(gains)) == percent(max(gains))
    form = "untrusted" if not run.trusted else "none" if not any(gains) else "one" if alike else "several"
    case = say("cost.case", form=form, gpu=run.plan.gpu_name, low=min(gains), high=max(gains))
    lost = any(gate.lost for gate in _gates(run).values())
    against = say("cost.against", form="lost" if lost and any(gains) else "no_case", quality=quality(run, say))
    if not _gates(run):
        against = say("cost.quality_unknown")
    return [case, *_per_correct(run, say), against, say("cost.incident"), say("cost.refuse"), say("cost.other_gpu")]


def _per_correct(run: Run, say: Speech) -> Iterator[str]:
    """What a correct answer costs, where that is shown to be another cost than the baseline's."""
    rows = [(variant, run.correct_cost(variant, _correct_cell(run))) for variant in run.variants if run.trusted]
    shown = [(variant, row.ratio) for variant, row in rows if row and _differs(row.ratio)]
    changes = [say("cost.correct_of", by=_change(ratio), model=variant) for variant, ratio in shown]
    if changes:
        yield say("cost.per_correct", changes=changes)


def _differs(ratio: Estimate | None) -> bool:
    return ratio is not None and None not in (ratio.low, ratio.high) and not ratio.low <= 1 <= ratio.high  # type: ignore[operator]


def quality(run: Run, say: Speech) -> list[str]:
    """ "INT8 lost 2 of 30 items", per variant."""
    return [
        say("cost.quality_of", model=variant, lost=len(gate.lost), gained=len(gate.gained) or None, n=gate.n)
        for variant, gate in _gates(run).items()
    ]


def _gates(run: Run) -> dict[str, GateVerdict]:
    """{variant: the gate's word on all items}."""
    return {variant: gate for variant in run.variants if (gate := run.gate(variant, "batch"))}
