"""The rows of the joined table, from the typed records of each comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from quantbench.records.cell import Cell
from quantbench.records.codes import code, parse
from quantbench.records.fleet import Done, FleetRow
from quantbench.records.metric import SPEED, Style
from quantbench.records.run import Run
from quantbench.records.suite import GateUse
from quantbench.records.tables import CapacityRow
from quantbench.stats import t_quantile

USES: Final[Mapping[Style, GateUse]] = {"interactive": "chat", "batch": "batch"}
"""The use that a workload's style stands for."""
FEWEST_BLOCKS: Final = 3
"""Two blocks give an interval of thirteen times their difference."""
_REASONED: Final = (
    SPEED, f"{SPEED}_lo", "p95_ttft_ms", "cost_per_1m_tokens", "j_per_token", "weights_gib", "ratio", "quality",
)  # fmt: skip
"""Columns that say why they are blank."""


def rows(run: Run, done: Done) -> Iterator[FleetRow]:
    """A row for each model and point of one comparison, the baseline first."""
    for model in run.models:
        for tuple_ in sorted((row for row in run.capacity if row.model == model), key=lambda row: row.cell):
            yield _row(run, done, tuple_)


def interval(mean: float, cv: float | None, blocks: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of a mean over `blocks`, from their coefficient of variation; None below three.

    Of logarithms, as that of a ratio, so that no throughput is below zero: their variance is ln(1 + cv²).
    """
    if cv is None or blocks < FEWEST_BLOCKS:
        return None
    half = t_quantile((1 + confidence) / 2, blocks - 1) * math.sqrt(math.log1p(cv**2) / blocks)
    return mean * math.exp(-half), mean * math.exp(half)


def _row(run: Run, done: Done, tuple_: CapacityRow) -> FleetRow:
    model, cell, style = tuple_.model, tuple_.cell, run.plan.workloads[tuple_.workload].style
    priced, memory, versions = run.cost_row(model, cell), run.memory_of(model), run.measurement.versions
    speed, low_high = tuple_.number(SPEED), None
    if speed is not None:
        low_high = interval(speed, tuple_.number("throughput_cv"), tuple_.blocks)
    figures: dict[str, Any] = {
        SPEED: speed,
        f"{SPEED}_lo": low_high and low_high[0],
        f"{SPEED}_hi": low_high and low_high[1],
        "p95_ttft_ms": tuple_.number("p95_ttft_ms"),
        "currency": run.cost.assumptions.currency if run.cost and run.cost.assumptions.known else None,
        "cost_per_1m_tokens": priced and priced.cost_per_1m_tokens,
        "j_per_token": tuple_.number("j_per_token"),
        "weights_gib": memory.weights_gib,
        "kv_cache_gib": memory.kv_cache_gib,
        "vram_delta_mib": memory.vram_delta_mib,
        **_compared(run, model, cell),
        **_answers(run, model, style),
    }
    return FleetRow(
        **cell.columns,
        comparison=done.comparison,
        folder=done.folder,
        gpu=done.gpu,
        gpu_name=run.plan.gpu_name,
        model=model,
        label=run.label(model),
        baseline=run.baseline,
        style=style,
        deciding=cell == run.deciding_cell(cell.workload),
        blocks=tuple_.blocks,
        valid=tuple_.valid,
        trusted=run.trusted,
        action=_action(run, model, cell.workload),
        vllm=versions[model].vllm if model in versions else None,
        protocol=done.protocol,
        judged_by=done.judged_by,
        missing=tuple(f"{name}: {_why(run, tuple_, name)}" for name in _REASONED if figures.get(name) is None),
        **figures,
    )


def _compared(run: Run, model: str, cell: Cell) -> dict[str, Any]:
    row = None if model == run.baseline else run.speed_row(model, cell)
    if row is None:
        return {}
    return {"ratio": row.ratio, "ratio_lo": row.ci_low, "ratio_hi": row.ci_high, "code": row.code}


def _answers(run: Run, model: str, style: Style) -> dict[str, Any]:
    word = run.gate(model, USES[style])
    said = run.decision.gate.get(model, ()) if run.decision else ()
    return {
        "quality": word.status if word else None,
        "quality_loss": word.loss if word else None,
        "gate": tuple(f"{verdict.use}: {verdict.status}" for verdict in said),
    }


def _action(run: Run, model: str, workload: str) -> Any:
    choices = (choice for use in (run.decision.uses if run.decision else ()) for choice in use.choices)
    return next((c.action for c in choices if (c.variant, c.workload) == (model, workload)), None)


def _why(run: Run, tuple_: CapacityRow, column: str) -> str:
    """The code of a blank figure."""
    if column in ("ratio", "quality") and tuple_.model == run.baseline:
        return code("is_baseline")
    if column == f"{SPEED}_lo" and tuple_.number(SPEED) is not None:
        return code("ci_needs_blocks", n=FEWEST_BLOCKS)
    if column.startswith(SPEED):
        return code("no_throughput")
    reasons: tuple[str, ...] = ()
    if column == "p95_ttft_ms":
        reasons = tuple(r for r in tuple_.reasons if parse(r).name == "percentile_needs" and parse(r).values["q"] == 95)
    elif column == "cost_per_1m_tokens":
        priced = run.cost_row(tuple_.model, tuple_.cell)
        reasons = priced.reasons if priced else (code("no_price"),)
    elif column == "ratio":
        row = run.speed_row(tuple_.model, tuple_.cell)
        reasons = row.reasons if row else (code("no_values"),)
    return next(iter(reasons), code("not_measured"))
