"""Numbers and small words as a person reads them: sensible digits, units, signs, plurals."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypeGuard

BLANK = "–"


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


def p_value(p: float) -> str:
    """ "= 0.012", "< 0.001": none is zero."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def ratio(value: object) -> str:
    """A ratio with three decimals, and three significant digits where those would show nothing: "1.123", "0.000120"."""
    if not is_number(value):
        return BLANK
    return f"{value:.3f}" if 0.1 <= value < 100 else number(value)


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


def clipped(text: str, limit: int) -> str:
    """The first `limit` characters and "…", where there are more."""
    return text if len(text) <= limit else f"{text[:limit]}…"
