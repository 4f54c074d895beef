"""Deterministic checks of one answer: text and a check's settings in, a result with its evidence out.

A check never raises on any text. It is a table: `CHECKS[type](text, check) -> (ok, detail)`. The type `python` runs
code and lives in `code_check`, which is handed in by the caller. Three hard checks hold for every prompt
(`HARD_CHECKS`): an answer that is empty, garbled or caught in a loop is wrong whatever was asked.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator

from quantbench.records.quality import CheckResult

Check = Mapping[str, Any]
Outcome = tuple[bool, str]
CodeRunner = Callable[[str, Check], Outcome]

HARD_CHECKS: tuple[str, ...] = ("not_empty", "not_garbled", "no_repetition")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
SPECIAL_TOKEN = re.compile(r"<\|[\w ]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>")
FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
LOOP_REPEATS = 5
LOOP_CHARACTERS = 60
COMPRESSED_SHARE = 0.15
# Words so common in one language, and so rare in the others, that a short answer shows its language.
_FUNCTION_WORDS = {
    "en": "the of and is to in that it are was for with you as an on this by be at from have or not",
    "de": "der die das und ist von ein eine nicht mit den dem zu auf sich im für sie auch wird sind",
    "es": "el la los las es de que y en un una se por con para del al no su son más está como",
    "fr": "le la les des est et une un que dans pour qui sur pas plus avec ce cette du au sont il elle",
}
FUNCTION_WORDS = {code: frozenset(listed.split()) for code, listed in _FUNCTION_WORDS.items()}
SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+(?=[\s\"')\]]|\Z)|[。！？]+")
JSON_STARTS = 50


def _clip(text: str, limit: int = 80) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def words(text: str) -> list[str]:
    """Runs of letters, digits and inner apostrophes."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text)


def _fold(text: str, check: Check) -> str:
    return text if check.get("match_case") else text.casefold()


def contains(text: str, check: Check) -> Outcome:
    """`all`: each must occur; `any`: at least one. Case counts only with `match_case`."""
    have = _fold(text, check)
    missing = [w for w in check.get("all", []) if _fold(w, check) not in have]
    if missing:
        return False, f"missing: {', '.join(missing)}"
    choices = check.get("any", [])
    if choices and not any(_fold(w, check) in have for w in choices):
        return False, f"none of: {', '.join(choices)}"
    return True, "all found"


def not_contains(text: str, check: Check) -> Outcome:
    """None of `any` may occur."""
    hits = [w for w in check.get("any", []) if _fold(w, check) in _fold(text, check)]
    return not hits, f"found: {', '.join(hits)}" if hits else "none found"


def regex(text: str, check: Check) -> Outcome:
    """`pattern` must be found; `ignore_case`. The pattern comes from the prompt file, never from a model."""
    flags = re.IGNORECASE if check.get("ignore_case") else 0
    match = re.search(check["pattern"], text, flags)
    return bool(match), f"matched {_clip(match.group(0))!r}" if match else f"no match of {check['pattern']}"


def exact_number(text: str, check: Check) -> Outcome:
    """The last number of the answer is `value` (± `tolerance`); thousands commas are understood."""
    numbers = [float(n.replace(",", "")) for n in NUMBER.findall(text)]
    if not numbers:
        return False, f"no number, wanted {check['value']}"
    ok = abs(numbers[-1] - check["value"]) <= check.get("tolerance", 0)
    return ok, f"last number {numbers[-1]:g}, wanted {check['value']}"


def fenced(text: str) -> str:
    """The first fenced block, or all of the text if there is none."""
    block = FENCE.search(text)
    return block.group(1) if block else text


def first_json(text: str) -> Any:
    """The first JSON object or array in the text; ValueError if there is none (or if it is nested too deeply)."""
    body, decoder = fenced(text), json.JSONDecoder()
    for start in [m.start() for m in re.finditer(r"[{\[]", body)][:JSON_STARTS]:
        try:
            return decoder.raw_decode(body, start)[0]
        except (ValueError, RecursionError):
            continue
    raise ValueError("no JSON value")


def json_schema(text: str, check: Check) -> Outcome:
    """The first JSON value of the answer meets `schema` (JSON Schema 2020-12)."""
    try:
        value = first_json(text)
        errors = sorted(e.message for e in Draft202012Validator(check["schema"]).iter_errors(value))
    except (ValueError, RecursionError) as error:
        return False, str(error) or "nested too deeply"
    return not errors, _clip(errors[0]) if errors else "valid"


def max_words(text: str, check: Check) -> Outcome:
    """At most `value` words."""
    count = len(words(text))
    return count <= check["value"], f"{count} words, at most {check['value']}"


def min_words(text: str, check: Check) -> Outcome:
    """At least `value` words."""
    count = len(words(text))
    return count >= check["value"], f"{count} words, at least {check['value']}"


def sentences(text: str, check: Check) -> Outcome:
    """Between `min` and `max` sentences, counted by their closing marks."""
    count = sum(any(c.isalnum() for c in part) for part in SENTENCE_END.split(text))
    low, high = check.get("min", 0), check.get("max", float("inf"))
    return low <= count <= high, f"{count} sentences, wanted {low} to {high}"


def language(text: str, check: Check) -> Outcome:
    """Heuristic: of the languages known here, most function words of the answer are those of `value`."""
    counts = Counter(w.casefold() for w in words(text))
    scores = {code: sum(counts[w] for w in common) for code, common in FUNCTION_WORDS.items()}
    wanted = check["value"]
    best = max(scores.values())
    ok = best > 0 and scores.get(wanted, 0) == best
    seen = ", ".join(f"{code} {n}" for code, n in sorted(scores.items(), key=lambda s: -s[1]) if n)
    return ok, f"function words: {seen or 'none known'}; wanted {wanted}"


def not_empty(text: str, check: Check) -> Outcome:
    """There is something beside white space."""
    del check
    return bool(text.strip()), "has text" if text.strip() else "empty"


def not_garbled(text: str, check: Check) -> Outcome:
    """No replacement character, no control character, no special token that leaked into the text."""
    del check
    bad = [c for c in text if c == "\ufffd" or (ord(c) < 32 and c not in "\n\t\r")]
    if bad:
        return False, f"{len(bad)} undecodable or control characters"
    leak = SPECIAL_TOKEN.search(text)
    return not leak, f"special token in the text: {leak.group(0)}" if leak else "clean"


def loop_at_end(text: str) -> str:
    """The unit that the end of the text repeats (≥ 5 times and ≥ 60 characters in all), or an empty string."""
    tail = text.rstrip()[-4000:]
    for size in range(1, len(tail) // LOOP_REPEATS + 1):
        repeats = max(LOOP_REPEATS, -(-LOOP_CHARACTERS // size))
        unit = tail[-size:]
        if size * repeats <= len(tail) and tail.endswith(unit * repeats):
            return unit
    return ""


def no_repetition(text: str, check: Check) -> Outcome:
    """The answer does not end in a loop, and a long one is not made of few pieces (zlib shrinks it to < 15 %)."""
    del check
    unit = loop_at_end(text)
    if unit:
        return False, f"ends in a loop of {_clip(unit, 40)!r}"
    raw = text.encode("utf-8", "replace")
    share = len(zlib.compress(raw, 9)) / len(raw) if len(raw) >= 400 else 1.0
    return share >= COMPRESSED_SHARE, f"compresses to {share:.0%}" if len(raw) >= 400 else "no loop"


CHECKS: dict[str, Callable[[str, Check], Outcome]] = {
    f.__name__: f
    for f in (
        contains, not_contains, regex, exact_number, json_schema, max_words, min_words, sentences, language,
        not_empty, not_garbled, no_repetition,
    )
}  # fmt: skip


def run_checks(text: str, checks: Sequence[Check], run_code: CodeRunner) -> list[CheckResult]:
    """All hard checks, then those of the prompt, in order. `run_code` judges checks of type `python`.

    Raises KeyError for a type that is not known; `prompt_set.validate` rejects such a file beforehand.
    """
    results = [_result(kind, CHECKS[kind](text, {}), hard=True) for kind in HARD_CHECKS]
    for check in checks:
        kind = check["type"]
        if kind in HARD_CHECKS:
            continue
        outcome = run_code(text, check) if kind == "python" else CHECKS[kind](text, check)
        results.append(_result(kind, outcome))
    return results


def _result(kind: str, outcome: Outcome, *, hard: bool = False) -> CheckResult:
    return CheckResult(type=kind, ok=outcome[0], detail=outcome[1], hard=hard)
