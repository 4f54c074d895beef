"""Chat against batch: does quantization help one more than the other, and what may be the cause? Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from quantbench.report.facts import Cell, Facts, Json
from quantbench.wording import is_number, percent, with_unit

COLUMNS = (
    *("baseline", "variant"),
    *(f"{side}_{key}" for side in ("chat", "batch") for key in ("workload", "concurrency", "max_tokens")),
    *(f"{side}_{key}" for side in ("chat", "batch") for key in ("ratio", "ci_low", "ci_high", "code")),
    *("quotient", "quotient_ci_low", "quotient_ci_high", "helps_more", "hypothesis", "evidence", "reason"),
)
SPEC_CONCURRENCY = {"interactive": 16, "batch": 32}
"""Where chat and batch are set against each other, if the grid has it."""


def impact_rows(facts: Facts) -> list[Json]:
    """A row per variant: the throughput ratios of both, their quotient with CI, and a hypothesis.

    The CI of the quotient adds the two log half-widths in quadrature (the cells are measured independently).
    """
    chat, batch = _impact_cell(facts, "interactive"), _impact_cell(facts, "batch")
    return [_impact_row(facts, variant, chat, batch) for variant in facts.variants]


def _impact_cell(facts: Facts, style: str) -> tuple[str, Cell] | None:
    """The first workload's cell at the spec's concurrency, else at the nearest one."""
    wanted = SPEC_CONCURRENCY[style]
    for workload in facts.workloads(style):
        grid = [(int(c), int(t)) for c, t in facts.config["workloads"][workload]["cells"]]
        if grid:
            return workload, min(grid, key=lambda cell: (abs(math.log(cell[0] / wanted)), cell[1]))
    return None


def _impact_row(facts: Facts, variant: str, chat: tuple[str, Cell] | None, batch: tuple[str, Cell] | None) -> Json:
    row: Json = {"baseline": facts.baseline, "variant": variant}
    sides = {"chat": chat, "batch": batch}
    found: dict[str, Json] = {}
    for side, place in sides.items():
        compared = facts.row(place[0], variant, place[1], "throughput_tok_s") if place else None
        usable = compared if compared and compared["valid"] and is_number(compared["ratio"]) else None
        row |= {
            f"{side}_workload": place[0] if place else None,
            f"{side}_concurrency": place[1][0] if place else None,
            f"{side}_max_tokens": place[1][1] if place else None,
            **{f"{side}_{key}": (usable or {}).get(key) for key in ("ratio", "ci_low", "ci_high", "code")},
        }
        if usable:
            found[side] = usable
    row |= {"quotient": None, "quotient_ci_low": None, "quotient_ci_high": None, "helps_more": "unknown"}
    missing = [side for side in sides if side not in found]
    if missing:
        row |= {"hypothesis": None, "evidence": None, "reason": _why_not(missing, sides)}
        return row
    row |= _quotient_of(found["chat"], found["batch"])
    evidence = _evidence(facts, variant, sides)
    row |= {"evidence": evidence, "hypothesis": _hypothesis(facts, variant, row), "reason": None}
    return row


def _why_not(missing: Sequence[str], sides: Mapping[str, tuple[str, Cell] | None]) -> str:
    words = {side: "no such workload" if sides[side] is None else "no valid comparison in its cell" for side in missing}
    return "; ".join(f"{side}: {reason}" for side, reason in words.items())


def _quotient_of(chat: Json, batch: Json) -> Json:
    """Batch ratio / chat ratio, and which side the CI favours."""
    log_quotient = math.log(batch["ratio"]) - math.log(chat["ratio"])
    sides = (chat, batch)
    if not all(is_number(s.get(k)) and s[k] > 0 for s in sides for k in ("ci_low", "ci_high")):
        return {"quotient": math.exp(log_quotient), "helps_more": "unknown"}
    half = math.hypot(*(math.log(s["ci_high"] / s["ci_low"]) / 2 for s in sides))
    helps = "batch" if log_quotient > half else "chat" if log_quotient < -half else "not told apart"
    return {
        "quotient": math.exp(log_quotient),
        "quotient_ci_low": math.exp(log_quotient - half),
        "quotient_ci_high": math.exp(log_quotient + half),
        "helps_more": helps,
    }


def helps(row: Json) -> str:
    """Which of the two quantization does more for, in words that also hold where it does harm to both."""
    side = row["helps_more"]
    if side not in ("chat", "batch"):
        return "no difference between the two is shown" if side == "not told apart" else "too few blocks to tell"
    if row[f"{side}_code"] == "better":
        return f"it gains more in {side}"
    other = "chat" if side == "batch" else "batch"
    return f"it loses less in {side}" if row[f"{other}_code"] == "worse" else f"the ratio is higher in {side}"


def _evidence(facts: Facts, variant: str, sides: Mapping[str, tuple[str, Cell] | None]) -> str:
    """What was seen that bears on the difference: bottleneck, lengths, weights, preemptions."""
    told = []
    for side, place in sides.items():
        if place is None:
            continue
        workload, cell = place
        seen = facts.measured_cell(workload, variant, cell)
        row = facts.capacity_row(workload, variant, cell) or {}
        parts = [f"bottleneck: {str(seen.get('bottleneck', 'unknown')).replace('_', ' ')}"]
        if is_number(row.get("tokens_in")) and is_number(row.get("tokens_out")) and row["tokens_out"] > 0:
            parts.append(f"{with_unit(row['tokens_in'] / row['tokens_out'], 'prompt tokens per output token')}")
        if is_number(seen.get("preemptions")) and seen["preemptions"] > 0:
            parts.append(f"{round(seen['preemptions'])} preemptions")
        told.append(f"{side} ({', '.join(parts)})")
    memory = facts.memory_of(variant)
    if is_number(memory.get("weights_reduction_pct")):
        told.append(f"weights smaller by {percent(memory['weights_reduction_pct'] / 100)}")
    return "; ".join(told)


def _hypothesis(facts: Facts, variant: str, row: Json) -> str:
    """A guess at the cause, worded as one; the bottleneck comes first, since gains hide behind it."""
    if row["helps_more"] == "unknown":
        return _UNKNOWN
    if row["helps_more"] == "not told apart":
        return _NOT_TOLD_APART
    if row[f"{row['helps_more']}_code"] != "better":
        return _NO_GAIN
    loser = "chat" if row["helps_more"] == "batch" else "batch"
    cell = (row[f"{loser}_concurrency"], row[f"{loser}_max_tokens"])
    limit = facts.measured_cell(row[f"{loser}_workload"], variant, cell).get("bottleneck")
    if limit in ("client", "front_end"):
        part = "our client" if limit == "client" else "vLLM's front end"
        return f"in the {loser} cell {part} is the limit, so a faster model cannot show there"
    activations = _quantizes_activations(facts, variant)
    if row["helps_more"] == "chat":
        return _CHAT_MEMORY_BOUND + (_WEIGHT_ONLY if activations is False else _FEWER_BYTES)
    return _BATCH_COMPUTE_BOUND if activations else _BATCH_ROOM


_UNKNOWN = "without confidence intervals the two ratios cannot be told apart, so nothing needs a cause yet"
_NOT_TOLD_APART = "the intervals overlap, so the data show no difference between chat and batch that needs a cause"
_NO_GAIN = (
    "no gain is shown in either, so what differs is what quantization costs them: unpacking weights, or a kernel that "
    "is slower than the baseline's at these sizes"
)
_CHAT_MEMORY_BOUND = (
    "in chat few sequences decode at once, so a step mostly reads weights (memory-bound) and smaller "
    "weights help; batch has long prompts and more sequences (compute-bound), where "
)
_WEIGHT_ONLY = "weight-only quantization saves no arithmetic and must unpack the weights"
_FEWER_BYTES = "reading fewer bytes matters less"
_BATCH_COMPUTE_BOUND = (
    "batch is compute-bound (long prompts, many sequences), and quantized activations make the arithmetic cheaper"
)
_BATCH_ROOM = (
    "smaller weights leave more room for the KV cache and so for concurrent sequences, which batch uses; "
    "at low concurrency the fixed cost of a step hides the gain"
)


def _quantizes_activations(facts: Facts, variant: str) -> bool | None:
    """True for W8A8 and FP8 labels, False for weight-only (…A16), None where the label does not say."""
    label = str((facts.ready.get(variant, {}).get("quantization") or {}).get("label") or "").upper()
    if "A16" in label:
        return False
    return True if "A8" in label or "FP8" in label or "A4" in label else None
