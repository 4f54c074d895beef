"""Numbers and small words as a person reads them: sensible digits, units, signs, plurals. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

BLANK = "–"

METRICS: dict[str, tuple[str, str, bool]] = {
    # metric: (name in prose, unit, higher is better)
    "throughput_tok_s": ("tokens/sec", "tok/s", True),
    "throughput_steady_tok_s": ("steady tokens/sec", "tok/s", True),
    "request_rate_s": ("requests/sec", "req/s", True),
    "p50_ttft_ms": ("p50 TTFT", "ms", False),
    "p95_ttft_ms": ("p95 TTFT", "ms", False),
    "p50_e2e_ms": ("p50 E2E", "ms", False),
    "p95_e2e_ms": ("p95 E2E", "ms", False),
    "p50_latency_ms": ("p50 latency", "ms", False),
    "p95_latency_ms": ("p95 latency", "ms", False),
    "p50_tpot_ms": ("p50 TPOT", "ms", False),
    "p95_tpot_ms": ("p95 TPOT", "ms", False),
    "j_per_token": ("energy per token", "J", False),
}


def is_number(value: object) -> TypeGuard[float]:
    """A finite number; booleans and everything blank are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: object, digits: int = 3) -> str:
    """`value` to `digits` significant digits, but never less than its integer part; thousands with a comma.

    1234.5 → "1,234", 12.345 → "12.3", 0.01234 → "0.0123"; blank or not finite → "–".
    """
    if not is_number(value):
        return BLANK
    x = float(value)
    if x == 0:
        return "0"
    decimals = _decimals(x, digits)
    decimals = min(decimals, _decimals(round(x, decimals) or x, digits))  # 9.996 becomes 10.0, not 10.00
    return f"{x:,.{decimals}f}".replace("-", "−")


def _decimals(x: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(abs(x))))


def integer(value: object) -> str:
    """A whole number, thousands with a comma; blank → "–"."""
    return f"{round(float(value)):,}".replace("-", "−") if is_number(value) else BLANK


def with_unit(value: object, unit: str, digits: int = 3) -> str:
    """A number and its unit ("12.3 ms"); a blank stays a bare blank."""
    text = number(value, digits)
    return text if text == BLANK or not unit else f"{text} {unit}"


def percent(fraction: object, digits: int = 1) -> str:
    """0.123 → "12.3 %"; no sign of its own but a minus.

    What rounding would make 0 or 100 % gets up to two digits more: 0.0004 → "0.04 %", 0.9996 → "99.96 %".
    """
    if not is_number(fraction) or not is_number(value := float(fraction) * 100):
        return BLANK
    places = next((p for p in range(digits, digits + 3) if round(abs(value), p) not in (0, 100)), None)
    if places is None:
        value, places = float(round(value)), digits
    text = f"{value or 0.0:,.{places if abs(value) < 100 else 0}f}"
    return f"{text} %".replace("-", "−")


def at_most(fraction: object) -> str:
    """An upper bound as a whole percent, rounded up so that it still holds: 0.2149 → "22 %"."""
    return percent(math.ceil(float(fraction) * 100 - 1e-9) / 100, 0) if is_number(fraction) else BLANK


def change(ratio: object, digits: int = 1) -> str:
    """A ratio as a signed change: 1.123 → "+12.3 %", 0.95 → "−5.0 %", 1 → "0.0 %"."""
    if not is_number(ratio):
        return BLANK
    text = percent(float(ratio) - 1, digits)
    return text if text.startswith("−") or not text.strip("0. %") else f"+{text}"


def change_interval(row: Mapping[str, Any]) -> str:
    """The CI of a comparison row as changes: "+10.2 % to +14.0 %"; blank without a CI."""
    if not (is_number(row.get("ci_low")) and is_number(row.get("ci_high"))):
        return BLANK
    return f"{change(row['ci_low'])} to {change(row['ci_high'])}"


def ratio(value: object) -> str:
    """A ratio with three decimals, and three significant digits where those would show nothing: "1.123", "0.000120"."""
    if not is_number(value):
        return BLANK
    return f"{value:.3f}" if 0.1 <= value < 100 else number(value)


def ratio_interval(row: Mapping[str, Any]) -> str:
    """ "1.123 [1.102, 1.140]", or the bare ratio where no CI could be had."""
    text = ratio(row.get("ratio"))
    if text != BLANK and is_number(row.get("ci_low")) and is_number(row.get("ci_high")):
        text += f" [{ratio(row['ci_low'])}, {ratio(row['ci_high'])}]"
    return text


def ratio_ci(value: object, low: object, high: object) -> str:
    """ "1.123 [1.102, 1.140]", or the bare ratio where no CI could be had."""
    text = ratio(value)
    return f"{text} [{ratio(low)}, {ratio(high)}]" if is_number(value) and is_number(low) and is_number(high) else text


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """ "1 block", "2 blocks", "3 queries" (with `nouns`)."""
    return f"{integer(count)} {noun if count == 1 else nouns or noun + 's'}"


def listing(parts: Iterable[str], last: str = "and") -> str:
    """["a", "b", "c"] → "a, b and c"."""
    items = list(parts)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def capitalized(text: str) -> str:
    """The first letter large, but percentiles stay as they are ("p95 TTFT")."""
    return text if re.match(r"p\d", text) else text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Capital first letter and a full stop, added only where missing."""
    text = capitalized(text.strip())
    return text if not text or text[-1] in ".!?:" else f"{text}."


def reduction(value: object) -> str:
    """A reduction in percent: 63.1 → "63.1 % less", −0.8 → "0.8 % more", 0.01 → "no difference"."""
    if not is_number(value):
        return BLANK
    if abs(value) < 0.05:
        return "no difference"
    return f"{percent(abs(value) / 100)} {'less' if value > 0 else 'more'}"


def seconds(value: object) -> str:
    """A duration: "350 ms", "12.3 s", "4 min 10 s", "2 h 05 min"; negative ones are blank."""
    if not is_number(value) or value < 0:
        return BLANK
    s = float(value)
    if s < 0.9995:
        return f"{number(s * 1000)} ms"
    if s < 120:
        return f"{number(s)} s"
    whole = round(s)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def metric_name(metric: str) -> str:
    """A metric as prose says it; an unknown one keeps its column name."""
    return METRICS[metric][0] if metric in METRICS else metric


def metric_unit(metric: str) -> str:
    """The unit of a metric, empty where unknown."""
    return METRICS[metric][1] if metric in METRICS else ""


_REASON_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"P(\d+)_NEEDS_N(\d+)", "a p{0} needs at least {1} requests; longer blocks give them"),
    (r"CI_NEEDS_N(\d+)", "its confidence interval needs at least {0} values"),
    (r"CI_NEEDS_(\d+)_BLOCKS", "a confidence interval needs at least {0} valid blocks"),
    (
        r"P(\d+)_CI_NEEDS_N(\d+)_PER_BLOCK",
        "a p{0}'s confidence interval needs at least {1} requests in each valid block",
    ),
    (r"P95_POOLED", "blocks are too short for a p95 each, so the requests of all blocks are pooled"),
    (r"NEEDS_(\d+)_(?:PAIRS|BLOCKS)", "a test needs at least {0} pairs of blocks"),
    (r"P95_CI_NEEDS_MORE_VALUES", "the pooled requests are too few for its confidence interval"),
    (r"BLOCK_NEEDS_N(\d+)", "a pooled percentile needs {0} requests in each block"),
    (r"NO_VARIATION", "all pairs have the same ratio, so they are copies or rounded values"),
    (r"NOT_FINITE|NOT_POSITIVE", "a block has a value that is not a positive number"),
    (r"UNPAIRED_BLOCKS_(\d+)", "blocks without a partner: {0}"),
    (r"DIFFERENT_DEVICES", "the models ran on different devices, so what differs between these is part of the result"),
    (r"(TPOT|CHUNK_GAP)_OF_TOO_FEW", "fewer than 90 % of the requests have one, as the others came in one read"),
    (r"STEADY_TOO_SHORT", "the steady part of a block is too short"),
    (r"FAILURES_AT_P(\d+)", "so many requests failed that p{0} is one of them"),
    (r"MISSING_IN_(\d+)_PAIRS", "missing in {0} of the pairs"),
    (r"NOT_MEASURED|NO_VALUES", "not measured"),
    (r"NO_PAIRS", "no block of the one model has its partner of the other"),
    (r"(?:CI_)?FALLS_ON_FAILURE", "it falls on a failed request, which has no time"),
)
"""Reason codes that are not guards, as regular expressions; guards bring their own words (quantbench.judge.guards)."""
_BLOCK = re.compile(r"([\w, ]+) \((.+) block (\d+)\)")
"""A refused block: guards, model, number."""


def reason_codes(reasons: object) -> list[str]:
    """The codes of a `reasons` field, be it a list or the text of a CSV cell ("A; B")."""
    if isinstance(reasons, str):
        reasons = reasons.split(";")
    codes = [str(code).strip() for code in reasons] if isinstance(reasons, list | tuple) else []
    return [code for code in codes if code]


def reason_words(codes: Iterable[str], meanings: Mapping[str, str] | None = None) -> str:
    """Codes as words, each once; `meanings` (of guards) win; an unknown code stays as it is, in backticks."""
    return "; ".join(reason_list(codes, meanings))


def reason_list(codes: Iterable[str], meanings: Mapping[str, str] | None = None) -> list[str]:
    """As `reason_words`, a list; blocks that were refused for the same reason are named together."""
    told: dict[tuple[str, str], list[str]] = {}  # what stands before and behind the numbers of blocks
    for code in codes:
        if block := _BLOCK.fullmatch(code):
            told.setdefault((f"{block[2]} ", f" invalid ({_meaning(block[1], meanings or {})})"), []).append(block[3])
        else:
            told.setdefault((_reason(code, meanings or {}), ""), [])
    return [f"{before}{_blocks(numbers) if numbers else ''}{behind}" for (before, behind), numbers in told.items()]


def _blocks(numbers: Iterable[str]) -> str:
    kept = sorted(set(numbers), key=int)
    return f"block {kept[0]} is" if len(kept) == 1 else f"blocks {listing(kept)} are"


def _meaning(text: str, meanings: Mapping[str, str]) -> str:
    """Guard ids inside a code ("a, b") as words."""
    return ", ".join(meanings.get(part, part) for part in text.split(", "))


def _reason(code: str, meanings: Mapping[str, str]) -> str:
    if code in meanings:
        return meanings[code]
    for pattern, words in _REASON_PATTERNS:
        if match := re.fullmatch(pattern, code):
            return words.format(*(_meaning(group, meanings) for group in match.groups()))
    return f"`{code}`"
