"""Sentences about one comparison row, shared by all sections. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from quantbench.judge import precision
from quantbench.judge.verdict_words import DIFFERENT_DEVICES, NOT_INTERLEAVED, is_coarse
from quantbench.report.facts import Facts, Json, cell_of, cell_words
from quantbench.wording import (
    METRICS,
    capitalized,
    change,
    change_interval,
    is_number,
    listing,
    metric_name,
    percent,
    plural,
    reason_codes,
    reason_words,
)

CORRECTED = "after correction for the number of comparisons"
_NO_TEST = re.compile(r"NEEDS_|NO_VARIATION")
"""Reason codes of a comparison that has a ratio and no confidence interval."""
NO_CHANGE = 1e-6  # what rounding errors make of two equal values
CI_NOTE = "Ratios are variant / baseline, with the 95 % confidence interval in brackets."


def clause(facts: Facts, row: Json | None) -> str:
    """What happened to the row's metric, as the rest of a sentence: "improved by 12.3 % (95 % CI …)"."""
    if row is None:
        return "was not compared"
    if row["code"] == "invalid" or not is_number(row["ratio"]):
        return f"is not compared ({why(facts, row)})"
    ratio, interval = row["ratio"], change_interval(row)
    if row["code"] == "no_test":
        if abs(ratio - 1) < NO_CHANGE:
            return f"is the same in this sample, without a test{_untested(facts, row)}"
        return f"changed by {change(ratio)} in this sample, without a test{_untested(facts, row)}"
    if row["code"] == "equivalent":
        return f"is equivalent to the baseline's within {percent(row['margin'])} (95 % CI {interval})"
    coarse = is_coarse(row["margin"], facts.config["margin"])
    if row["code"] == "undecided" and _excludes_one(row) and not (coarse and _within_margin(row)):
        return f"changed by {change(ratio)} (95 % CI {interval}), which is not significant {CORRECTED}"
    if row["code"] == "undecided" and coarse:
        return f"cannot be told apart from the baseline's (the data allow {interval}; {_resolution(row)})"
    if row["code"] == "undecided":
        return f"shows no significant difference (the data allow {interval})"
    verb = _verb(str(row["metric"]), ratio)
    return f"{verb} by {percent(abs(ratio - 1))} (95 % CI {interval})"


def _untested(facts: Facts, row: Json) -> str:
    codes = [code for code in reason_codes(row.get("reasons")) if _NO_TEST.search(code)]
    return f" ({reason_words(codes, facts.config.get('reason_words'))})" if codes else ""


def _resolution(row: Json) -> str:
    return f"the A/A control resolves ±{percent(row['margin'])} only"


def _excludes_one(row: Json) -> bool:
    return bool(is_number(row.get("ci_low")) and (row["ci_low"] > 1 or row["ci_high"] < 1))


def _within_margin(row: Json) -> bool:
    bound = 1 + float(row["margin"])
    return bool(is_number(row.get("ci_low")) and row["ci_low"] > 1 / bound and row["ci_high"] < bound)


def _verb(metric: str, ratio: float) -> str:
    higher_is_better = METRICS[metric][2] if metric in METRICS else True
    if ratio >= 1:
        return "improved" if higher_is_better else "rose"
    return "fell"


def why(facts: Facts, row: Json) -> str:
    """Why a row has no ratio, in words."""
    words = reason_words(reason_codes(row.get("reasons")), facts.config.get("reason_words"))
    return words or "no valid blocks of both models"


def at_cells(facts: Facts, rows: Sequence[Json]) -> str:
    """One clause per cell: "improved by 3 % (…) at c=8; fell by …  at c=16"; cells that say the same are joined."""
    grouped: dict[str, list[str]] = {}
    for row in rows:
        grouped.setdefault(clause(facts, row), []).append(short_cell(row, rows))
    return "; ".join(f"{words} at {listing(cells)}" for words, cells in grouped.items())


def short_cell(row: Json, among: Sequence[Json]) -> str:
    """ "c=8", with max_tokens only where the rows differ in it."""
    return cell_words(cell_of(row), map(cell_of, among))


def alone(facts: Facts) -> str:
    """What a run without a variant says in place of a decision; "" where there is one."""
    if facts.variants:
        return ""
    base = facts.label(facts.baseline)
    return f"No quantized model was selected, so nothing was compared: this is the capacity of {base} alone."


def refused_blocks(row: Json) -> str:
    """ "1 block refused", of a tuple's row that is not valid."""
    count = row.get("blocks_invalid")
    return f"{plural(int(count), 'block')} refused" if is_number(count) else "not all blocks are valid"


def interleaved_of(facts: Facts) -> tuple[int, int]:
    """(comparisons that were interleaved, comparisons of which it can be told): one pair alone has no order."""
    tellable = [row for row in facts.rows if row["n_pairs"] > 1]
    return sum(bool(row["interleaved"]) for row in tellable), len(tellable)


def verdict_cell(facts: Facts, row: Json | None) -> str:
    """The verdict of a row for a table cell; what many rows share is left to the notes below the table."""
    if row is None or row["code"] == "invalid":
        return "not compared"
    if row["code"] != "undecided" or is_coarse(row["margin"], facts.config["margin"]):
        return str(row["words"]).removesuffix(f"; {NOT_INTERLEAVED}").removesuffix(f"; {DIFFERENT_DEVICES}")
    side = likely(row)
    words = f"{side} likely, not proven after correction" if side else "no significant difference"
    more = blocks_to_decide(facts, row)
    blocks = f"; about {plural(more, 'more block')} would resolve {percent(row['margin'])}" if more else ""
    return f"{words}: {change_interval(row)}{blocks}"


def likely(row: Json) -> str:
    """ "gain" or "loss" where the row's own CI excludes 1 but the corrected test does not; "" elsewhere.

    A CI within the margin shows neither: if there is a difference, it is one that does not matter.
    """
    if row["code"] != "undecided" or not _excludes_one(row) or _within_margin(row):
        return ""
    higher_is_better = METRICS[row["metric"]][2] if row["metric"] in METRICS else True
    return "gain" if (row["ratio"] > 1) == higher_is_better else "loss"


def blocks_to_decide(facts: Facts, row: Json) -> int | None:
    """Further pairs that would settle an undecided row; None where more are needed than can be measured."""
    width = precision.width_of(row)
    if width is None:
        return None
    return precision.blocks_to_decide(row["ratio"], width, row["n_pairs"], row["margin"], facts.most_blocks)


def decided(rows: Sequence[Json]) -> list[Json]:
    """Rows whose difference is shown, better or worse, the largest first."""
    shown = [row for row in rows if row["code"] in ("better", "worse") and is_number(row["ratio"])]
    return sorted(shown, key=lambda row: -abs(_log(row["ratio"])))


def _log(ratio: float) -> float:
    return math.log(ratio) if ratio > 0 else 0.0


def subject(metric: str) -> str:
    """The metric as the start of a sentence: "Tokens/sec", "p95 TTFT"."""
    return capitalized(metric_name(metric))
