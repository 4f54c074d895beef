"""Each model with as many requests in flight as its KV cache holds: the table, and a sentence per variant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quantbench.records import codes
from quantbench.records.comparison import IsoComparison
from quantbench.records.metric import METRICS, PER_GPU, SPEED
from quantbench.records.plan import IsoPlan
from quantbench.records.run import Run
from quantbench.report import speed
from quantbench.report.document import Part, Section, Table, bullets, grouped, table, without_empty_columns
from quantbench.report.say import Speech
from quantbench.wording import integer, number, sentence

TITLE: Final = "Same Memory: as Many Requests as Fit"
METRICS_SHOWN: Final = (SPEED, PER_GPU, "p50_ttft_ms", "p50_e2e_ms", "j_per_token")


def section(run: Run, say: Speech) -> Section | None:
    """A table per workload that asks for it, and what it says; None where none does."""
    parts: list[Part] = []
    for workload, iso in run.plan.iso_memory.items():
        parts += [_table(run, say, workload, iso)] if iso.measured else []
        parts += bullets([*lines(run, say, workload)])
    return Section(TITLE, tuple(parts)) if parts else None


def lines(run: Run, say: Speech, workload: str) -> Iterator[str]:
    """Per variant, what happened to the throughput; what is doubtful of the numbers, or why nothing was measured."""
    iso = run.plan.iso_memory[workload]
    if not iso.measured:
        yield say("iso.same", workload=workload, length=iso.length, n=next(iter(iso.concurrency.values())))
    for row in _rows(run, workload):
        if row.metric == _deciding(run, row.variant):
            yield _compared(say, row)
            yield from (sentence(words) for words in say.reasons(filter(_is_of_fit, row.reasons)))
    for model, limit in iso.limits.items():
        if iso.concurrency[model] == limit and (fits := _fits(run, model, iso)) is not None and fits > limit:
            yield say("iso.limited", model=model, limit=limit, fits=fits)


def _compared(say: Speech, row: IsoComparison) -> str:
    by = speed.figure(row) if row.decided or row.code == "no_test" else ""
    return say(
        "iso.compared",
        workload=row.workload,
        length=row.length,
        model=row.variant,
        n=row.concurrency,
        baseline=row.baseline,
        base=row.baseline_concurrency,
        metric=row.metric,
        words=say("speed.outcome", form=speed.outcome(row), at="", by=by, margin=row.margin),
        why=speed.why(say, row) if row.code in ("invalid", "no_test") else [],
    )


def got_worse(run: Run, say: Speech) -> Iterator[str]:
    """Per workload and variant, the metrics that got worse with as many requests in flight as fit."""
    worse = [row for row in run.verdict.iso_memory if row.code == "worse"]
    for (workload, variant), rows in grouped(worse, lambda row: (row.workload, row.variant)).items():
        changes = [say("decision.change", metric=row.metric, ratio=row.ratio) for row in rows]
        yield say("iso.worse", workload=workload, model=variant, changes=changes)


def _table(run: Run, say: Speech, workload: str, iso: IsoPlan) -> Table:
    """A row per model: requests in flight and how many fit, values, of variants with their ratios, and the price."""
    rows = {(row.variant, row.metric): row for row in _rows(run, workload)}
    shown = [metric for metric in METRICS_SHOWN if metric != PER_GPU or any(name == PER_GPU for _, name in rows)]
    currency = run.cost.assumptions.currency if run.cost else None
    columns = ["model", "in flight", "fit", *(f"{METRICS[metric].words} ({METRICS[metric].unit})" for metric in shown)]
    body = []
    for model in run.models:
        cell = iso.cell(workload, model)
        values, cost = run.capacity_row(model, cell), run.cost_row(model, cell)
        line = [run.label(model), str(iso.concurrency[model]), integer(_fits(run, model, iso))]
        for metric in shown:
            ratio = [speed.ratio_cell(row)] if speed.has_ratio(row := rows.get((model, metric))) else []
            line.append("; ".join([number(values.number(metric) if values else None), *ratio]))
        body.append([*line, *([number(cost.cost_per_1m_tokens if cost else None)] if currency else [])])
    caption = say("iso.caption", workload=workload, length=iso.length, tokens=iso.max_tokens)
    compared = [row for (_, metric), row in rows.items() if metric in shown]
    notes = [say("speed.intervals", legend=speed.legend(say, compared))] if compared else []
    columns += [f"{currency} per 1M output tokens"] if currency else []
    return without_empty_columns(table(columns, body, caption=caption, notes=notes))


def _rows(run: Run, workload: str) -> list[IsoComparison]:
    return [row for row in run.verdict.iso_memory if row.workload == workload]


def _deciding(run: Run, variant: str) -> str:
    """Per GPU where another number of them serves the variant."""
    several = run.plan.arm(variant).gpus != run.plan.arm(run.baseline).gpus
    return PER_GPU if several else SPEED


def _fits(run: Run, model: str, iso: IsoPlan) -> int | None:
    tokens = run.memory_of(model).kv_cache_tokens
    return int(tokens // iso.length) if tokens else None


def _is_of_fit(reason: str) -> bool:
    return codes.parse(reason).name.startswith("iso_")
