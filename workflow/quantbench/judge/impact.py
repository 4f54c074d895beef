"""Chat against batch: does quantization help one more than the other, and what may be the cause?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison
from quantbench.records.finding import Finding, finding
from quantbench.records.metric import Style
from quantbench.records.run import Run
from quantbench.records.tables import ImpactRow

Side = Literal["chat", "batch"]
SIDES: Final[dict[Side, Style]] = {"chat": "interactive", "batch": "batch"}
SPEC_CONCURRENCY: Final = {"interactive": 16, "batch": 32}
"""Where chat and batch are set against each other, if the grid has it."""
LIMITS: Final = {
    ("client", "chat"): "impact.client_limits_chat",
    ("client", "batch"): "impact.client_limits_batch",
    ("front_end", "chat"): "impact.front_end_limits_chat",
    ("front_end", "batch"): "impact.front_end_limits_batch",
}
"""What hides a gain: the part that limits the cell of the side that gains less."""
HELPS: Final = {
    ("chat", "more"): "impact.gains_more_chat",
    ("batch", "more"): "impact.gains_more_batch",
    ("chat", "less loss"): "impact.loses_less_chat",
    ("batch", "less loss"): "impact.loses_less_batch",
    ("chat", "higher"): "impact.ratio_higher_chat",
    ("batch", "higher"): "impact.ratio_higher_batch",
}


def impact_rows(run: Run) -> list[ImpactRow]:
    """A row per variant: the throughput ratios of both, their quotient (batch / chat) with CI, a hypothesis (its id).

    The CI of the quotient adds the two log half-widths in quadrature (the cells are measured independently).
    """
    cells = {side: _cell(run, style) for side, style in SIDES.items()}
    return [_row(run, variant, cells) for variant in run.variants]


def _cell(run: Run, style: Style) -> Cell | None:
    """The first workload's cell at the spec's concurrency, else at the nearest one."""
    wanted = SPEC_CONCURRENCY[style]
    for workload in run.workloads(style):
        if grid := run.plan.grid(workload):
            return min(grid, key=lambda cell: (abs(math.log(cell.concurrency / wanted)), cell.max_tokens))
    return None


def _row(run: Run, variant: str, cells: dict[Side, Cell | None]) -> ImpactRow:
    columns: dict[str, Any] = {}
    usable: dict[Side, Comparison] = {}
    for side, cell in cells.items():
        columns |= {f"{side}_{key}": value for key, value in (cell.columns if cell else {}).items()}
        compared = run.speed_row(variant, cell)
        if compared and compared.valid and compared.ratio is not None:
            usable[side] = compared
            columns |= {f"{side}_{key}": getattr(compared, key) for key in ("ratio", "ci_low", "ci_high", "code")}
    if len(usable) == len(cells):
        columns |= _quotient(usable["chat"], usable["batch"])
    row = ImpactRow(baseline=run.baseline, variant=variant, **columns)
    return msgspec.structs.replace(row, hypothesis=_hypothesis(run, row))


def _quotient(chat: Comparison, batch: Comparison) -> dict[str, Any]:
    """Batch ratio / chat ratio, and which side the CI favours."""
    log_quotient = math.log(batch.ratio or 0) - math.log(chat.ratio or 0)
    halves = [math.log(row.ci_high / row.ci_low) / 2 for row in (chat, batch) if row.ci_low and row.ci_high]
    if len(halves) < 2:
        return {"quotient": math.exp(log_quotient)}
    half = math.hypot(*halves)
    return {
        "quotient": math.exp(log_quotient),
        "quotient_ci_low": math.exp(log_quotient - half),
        "quotient_ci_high": math.exp(log_quotient + half),
        "helps_more": "batch" if log_quotient > half else "chat" if log_quotient < -half else "not told apart",
    }


def why_not(row: ImpactRow) -> list[Finding]:
    """Why chat and batch are not set against each other; empty where they are."""
    findings = []
    for side in SIDES:
        if row.side(side) is None:
            findings.append(finding("impact.no_workload", side=side))
        elif _of(row, side, "ratio") is None:
            findings.append(finding("impact.no_comparison", side=side))
    return findings


def helps(row: ImpactRow) -> str:
    """Which of the two quantization does more for, as an id that also holds where it does harm to both."""
    if row.helps_more == "not told apart":
        return "impact.no_difference"
    if row.helps_more == "unknown":
        return "impact.too_few_blocks"
    if _of(row, row.helps_more, "code") == "better":
        return HELPS[row.helps_more, "more"]
    return HELPS[row.helps_more, "less loss" if _of(row, _other(row.helps_more), "code") == "worse" else "higher"]


def evidence(run: Run, row: ImpactRow) -> list[Finding]:
    """What was seen that bears on the difference: bottleneck, lengths, preemptions, weights."""
    if row.quotient is None:
        return []
    findings = [
        finding("impact.seen", side=side, seen=list(_seen(run, row.variant, cell)))
        for side in SIDES
        if (cell := row.side(side))
    ]
    smaller = run.memory_of(row.variant).weights_reduction_pct
    return findings if smaller is None else [*findings, finding("impact.weights", smaller=smaller / 100)]


def _seen(run: Run, variant: str, cell: Cell) -> Iterator[Finding]:
    use, capacity = run.measured_cell(variant, cell), run.capacity_row(variant, cell)
    yield finding("impact.bottleneck", part=use.bottleneck if use else "unknown")
    tokens_in, tokens_out = (capacity.number(name) if capacity else None for name in ("tokens_in", "tokens_out"))
    if tokens_in is not None and tokens_out:
        yield finding("impact.lengths", tokens=tokens_in / tokens_out)
    if use and use.preemptions:
        yield finding("impact.preemptions", n=round(use.preemptions))


def _hypothesis(run: Run, row: ImpactRow) -> str | None:
    """A guess at the cause, worded as one; the bottleneck comes first, since gains hide behind it."""
    if row.quotient is None:
        return None
    if row.helps_more == "unknown":
        return "impact.unknown"
    if row.helps_more == "not told apart":
        return "impact.not_told_apart"
    if _of(row, row.helps_more, "code") != "better":
        return "impact.no_gain"
    loser = _other(row.helps_more)
    use = run.measured_cell(row.variant, row.side(loser))
    if use and (use.bottleneck, loser) in LIMITS:
        return LIMITS[use.bottleneck, loser]
    activations = _quantizes_activations(run, row.variant)
    if row.helps_more == "chat":
        return "impact.chat_memory_bound_weight_only" if activations is False else "impact.chat_memory_bound"
    return "impact.batch_compute_bound" if activations else "impact.batch_room"


def _quantizes_activations(run: Run, variant: str) -> bool | None:
    """True for W8A8 and FP8 labels, False for weight-only (…A16), None where the label does not say."""
    label = (run.ready[variant].quantization.label or "").upper() if variant in run.ready else ""
    if "A16" in label:
        return False
    return True if "A8" in label or "FP8" in label or "A4" in label else None


def _other(side: Side) -> Side:
    return "chat" if side == "batch" else "batch"


def _of(row: ImpactRow, side: Side, column: str) -> Any:
    return getattr(row, f"{side}_{column}")
