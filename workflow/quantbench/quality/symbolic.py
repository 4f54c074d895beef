"""Are two expressions equal: numbers, fractions, roots and polynomials as people, Markdown and LaTeX write them.

math-verify (with sympy) decides, behind a guard: it would work for hours on 9^9^9^9. So only short expressions with
small powers reach it.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from math import prod

from quantbench.quality.readings import boxed, first_turn, narrow

LONGEST = 200
"""Most characters of an expression."""
END = 4000
"""Characters at the end of an answer in which it is looked for."""
POWER, ROOTS = 64, 4
"""Largest product of all powers in it, most roots."""
WRITTEN = {
    "−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
    "√": "\\sqrt ", "π": "\\pi ",
    "⁰": "^0", "¹": "^1", "²": "^2", "³": "^3", "⁴": "^4", "⁵": "^5", "⁶": "^6", "⁷": "^7", "⁸": "^8", "⁹": "^9",
    "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅖": " 2/5", "⅗": " 3/5", "⅘": " 4/5",
    "⅙": " 1/6", "⅚": " 5/6", "⅛": " 1/8", "⅜": " 3/8", "⅝": " 5/8", "⅞": " 7/8",
    "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\left": "", "\\right": "", "\\,": "", "\\!": "",
    "\\;": " ", "\\ ": " ", "{,}": "", "\\%": "%", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\\cdot": "*",
    "\\times": "*", "\\div": "/", "\\$": "",
}  # fmt: skip
_WRITTEN = re.compile("|".join(re.escape(key) for key in sorted(WRITTEN, key=len, reverse=True)))
# Bounded, so that marks that never close cost no more than their number.
FORMULA = re.compile(
    r"\$\$?([^$\n]{1,300})\$\$?|\\\(((?:[^\\\n]|\\[^)\n]){1,300})\\\)|\\\[((?:[^\\]|\\[^\]]){1,300})\\\]"
)
WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
UNIT = re.compile(r"\\(?:text|textrm|mathrm|mbox|operatorname)\{[^{}]{0,40}\}(?:\^\{?\d\}?|[²³])?")
"""Words in a formula, with the power of a unit."""
PLAIN = re.compile(r"(?<![\\A-Za-z])(?:sqrt[ ]?\(([^()]{1,60})\)|(pi)(?![A-Za-z]))")
"""Roots and π without LaTeX's backslash."""
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|[!?;:|]|(?<!\d)[.,](?!\d)|[.,](?=\s|$)")
TOKENS = re.compile(r"(?:\\frac|\\sqrt|\\pi|\d{1,15}(?:\.\d{1,15})?|\.\d{1,15}|[a-z]|[-+*/^(){}%=\s])+")
ONE_NUMBER = re.compile(
    r"-?(?:[\d.]+|[\d.]+/\d+|\d+\s+\d+/\d+|\d*\s*\\frac(?:\{-?\d+\}\{\d+\}|\s?\d\s?\d)|\([\d]+/\d+\))%?"
)
EXPONENT = re.compile(r"\^(?:\{(\d+)\}|(\d+)|\((\d+)\))")


def written(text: str) -> str:
    """The text in one spelling of signs, fractions, powers and thousands."""
    flat = _WRITTEN.sub(lambda mark: WRITTEN[mark.group()], narrow(text))
    flat = PLAIN.sub(lambda mark: "\\pi " if mark[2] else f"\\sqrt{{{mark[1]}}}", UNIT.sub(" ", flat))
    flat = re.sub(r"(?<=[\w)])\*\*(?=[\d(])", "^", flat).replace("**", "")
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", flat)


def candidate(text: str) -> str:
    """The expression that the answer ends with: boxed, else the last formula, else the last run without words."""
    body = first_turn(text)[-END:]
    if found := boxed(body, LONGEST):
        return _side(written(found))
    formulas = [written(next(filter(None, mark.groups()))) for mark in FORMULA.finditer(body)]
    # Between two sums of money stand words, and no formula.
    formulas = [formula for formula in formulas if re.search(r"\d", formula) and not WORDS.search(formula)]
    if formulas:
        return _side(formulas[-1])
    for line in reversed(body.split("\n")):
        runs = [run for run in WORD.split(written(line)) if re.search(r"\d", run)]
        if runs:
            return _side(runs[-1])
    return ""


def _side(expression: str) -> str:
    """The last side of an equation that holds a digit."""
    sides = [side for side in re.split(r"=|≈|\\approx", expression) if re.search(r"\d", side)]
    return sides[-1].strip(" \t\n.,$`_'\"") if sides else ""


def form(expression: str) -> str:
    """`number` for a single number (decimal, fraction, mixed, percent), `expanded` without brackets, else empty."""
    if ONE_NUMBER.fullmatch(expression):
        return "number"
    return "" if "(" in expression else "expanded"


def safe(expression: str) -> bool:
    """Whether it is short and simple enough to be compared in no time."""
    powers = [int(next(filter(None, mark.groups()))[:4]) for mark in EXPONENT.finditer(expression)]
    return (
        0 < len(expression) <= LONGEST
        and TOKENS.fullmatch(expression) is not None
        and len(powers) == expression.count("^")
        and prod(max(power, 1) for power in powers) <= POWER
        and expression.count("\\sqrt") <= ROOTS
    )


def readable(wanted: str) -> bool:
    """Whether an answer of just this would be read as a whole: what has no digit, or words, is not."""
    return safe(found := candidate(wanted)) and found == _side(written(wanted))


def equal(expression: str, wanted: str) -> bool:
    """Whether the two are the same value or function. False for what is not safe to compare."""
    wanted = written(wanted).strip()
    if not safe(expression):
        return False
    parse, verify = _library()
    mixed = r"(?<![\d./])(\d{1,15})\s+(?:(\d{1,15})/(\d{1,15})|\\frac\{(\d{1,15})\}\{(\d{1,15})\})"
    plain = re.sub(mixed, lambda m: f"({m[1]}+{m[2] or m[4]}/{m[3] or m[5]})", expression)
    try:
        read = [parse(f"${side}$", parsing_timeout=None) for side in (wanted, plain)]
        return all(read) and bool(verify(*read, timeout_seconds=None))
    except Exception:  # any of sympy's and the parser's own: what cannot be read is not equal
        return False


@functools.cache
def _library() -> tuple[Callable[..., list[object]], Callable[..., bool]]:
    """math-verify's two functions; loading sympy takes most of a second, so only an answer that needs it does."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of the timeout that `safe` makes needless
    return parse, verify
