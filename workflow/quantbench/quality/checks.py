"""Deterministic checks of one answer: text and a check's settings in, a result with its evidence out.

A check never raises on any text, and its time grows with the length of the text, not faster. It is a table:
`CHECKS[type](text, check) -> (ok, detail)`. The type `python` runs code and lives in `code_check`, which is handed in
by the caller. Three hard checks hold for every prompt (`HARD_CHECKS`): an answer that is empty, garbled or caught in a
loop is wrong whatever was asked. A thought (`<think>…</think>`) is no part of the answer.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator

from quantbench.records.quality import CheckResult, Thought

Check = Mapping[str, Any]
Outcome = tuple[bool | None, str]
CodeRunner = Callable[[str, Check], Outcome]

HARD_CHECKS: tuple[str, ...] = ("not_empty", "not_garbled", "no_repetition")
# Numbers as models and LaTeX write them: −3, $9{,}500, 9\,500, 3e8, 3 × 10^8, 10^{-4}, 10⁸.
_SIGN, _POWER = "[-+−﹣－‐‑‒–]", r"(?:(?:\^|\*\*)[{(]?([-+−]?\d{1,4})[})]?|([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,4}))"
_TIMES = r"[ \u00a0\u2009\u202f]?(?:[×x*·⋅]|\\times|\\cdot)[ \u00a0\u2009\u202f]?"
NUMBER = re.compile(
    rf"(?<![\w.^])(?<!\^\{{)(?P<sign>{_SIGN}?)\\?[$€£¥]?(?P<digits>"
    # Groups of three, but not inside of a list: 1,2,3,400 is four numbers.
    r"(?<!\d,)\d{1,3}(?:(?:,|\{,\}|\\,|['’_\u00a0\u2009\u202f])\d{3})+(?!,?\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    rf"(?:[eE]([-+−]?\d{{1,4}})(?!\w|\.\d)|{_TIMES}10{_POWER}|(?P<power>{_POWER}))?"
)
EXPONENT = str.maketrans("−⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "--+0123456789")
FINAL_NUMBER = re.compile(r"^####[ \t]*(\S.*)$", re.MULTILINE)
# A model that does not stop asks itself the next question.
NEXT_TURN = re.compile(
    r"^[ \t#>*_]*(?:(?:next|new|another)[ \t]+)?(?:question|q|problem|exercise|user|human|instruction)"
    r"[ \t]*#?\d{0,4}[ \t]*[*_]{0,2}:",
    re.MULTILINE | re.IGNORECASE,
)
THOUGHT = re.compile(r"<(/?)(?:seed:)?think(?:ing)?>|\[(/?)THINK\]|◁(/?)think▷", re.IGNORECASE)
SPECIAL_TOKEN = re.compile(
    r"<[|｜][\w▁ ]{1,40}[|｜]>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_(?:turn|utterance)>|<0x[0-9A-F]{2}>"
    r"|<(?:eos|bos|pad|unk)>|\[(?:EOS|BOS|PAD|UNK)\]|<(?:extra_id_|unused)\d{1,5}>"
)
# Pieces of a vocabulary, never joined: ▁ is SentencePiece's space, Ġ and Ċ are space and line end of byte-level BPE.
PIECE = re.compile(r"▁[^\W_]|(?<=[^\W_])▁|(?<=[a-z.,:;!?])[ĠĊ]+[A-Za-z]|[ĠĊ](?=[ĠĊ])")
# Every run of marks is tried once, and a pair of them within a line is no block.
FENCE = re.compile(r"(?<![`~])(?P<marks>`{3,}|~{3,})(?![`~])(?:(?P<inline>[^`~\n]+)(?P=marks)|[^`~\n]*\n)")
QUOTED = re.compile(r"[ \t]*(?:>[ \t]?)+")
LOOP_REPEATS = 5
LOOP_CHARACTERS = 60
ONE_CHARACTER = 16
LINES = "-=_*#~+|─━═—)]}"
COMPRESSED_SHARE = 0.15
# Words so common in one language, and so rare in the others, that a short answer shows its language.
_FUNCTION_WORDS = {
    "en": "the of and is to in that it are was for with you as an on this by be at from have or not",
    "de": "der die das und ist von ein eine nicht mit den dem zu auf sich im für sie auch wird sind",
    "es": "el la los las es de que y en un una se por con para del al no su son más está como",
    "fr": "le la les des est et une un que dans pour qui sur pas plus avec ce cette du au sont il elle",
}
FUNCTION_WORDS = {code: frozenset(listed.split()) for code, listed in _FUNCTION_WORDS.items()}
# The look-behind lets a run of marks be tried once, not from each of its marks.
SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+(?=[\s\"')\]]|\Z)|[。！？]+")
JSON_STARTS = 1000


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


def _value(found: re.Match[str]) -> float:
    plain = re.sub(r"[^\d.]", "", found["digits"])
    sign = "-" if found["sign"] not in ("", "+") else ""
    exponent = next(filter(None, (found[i] for i in (3, 4, 5, 7, 8))), "0").translate(EXPONENT)
    if not found["power"]:
        return float(f"{sign}{plain}e{exponent}")
    try:
        return float(f"{sign}1") * float(plain) ** int(exponent)
    except (OverflowError, ZeroDivisionError):
        return math.inf


def first_turn(text: str) -> str:
    """The text up to where the model goes on with a next question of its own."""
    for turn in NEXT_TURN.finditer(text):
        if text[: turn.start()].strip():
            return text[: turn.start()]
    return text


def exact_number(text: str, check: Check) -> Outcome:
    """The last number of the answer is `value` (± `tolerance`); one on a line of its own behind #### goes first."""
    lines = (NUMBER.fullmatch(line.strip(" \t*$.")) for line in FINAL_NUMBER.findall(text))
    last = next(filter(None, lines), None) or _last_number(first_turn(text)) or _last_number(text)
    if not last:
        return False, f"no number, wanted {check['value']}"
    value = _value(last)
    return abs(value - check["value"]) <= check.get("tolerance", 0), f"last number {value:g}, wanted {check['value']}"


def _last_number(text: str) -> re.Match[str] | None:
    return next(iter(deque(NUMBER.finditer(text), maxlen=1)), None)


def answered(text: str) -> str:
    """What follows the thought; empty for a thought that does not end. A template may have opened it already."""
    return _apart(text)[1]


def thought(text: str) -> Thought:
    """Whether an answer has a thought before it, and whether that ends."""
    return _apart(text)[0]


def _apart(text: str) -> tuple[Thought, str]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    marks = [(any(mark.groups()), mark) for mark in THOUGHT.finditer(text)]
    begin = max((mark.end() for closes, mark in marks if closes), default=0)
    opened = [mark.start() for closes, mark in marks if not closes and mark.start() >= begin]
    # Where no thought has ended, the mark may be a topic of the answer, unless the text begins with it.
    if opened and (begin or not text[: opened[0]].strip()):
        return "open", ""
    return "ended" if begin else "none", text[begin:]


def opens_thought(prompt: str) -> bool:
    """Whether a prompt, as the template made it, ends inside a thought, so that the answer begins in it."""
    marks = [*THOUGHT.finditer(prompt)]
    return bool(marks) and not any(marks[-1].groups()) and not prompt[marks[-1].end() :].strip()


def fenced(text: str) -> str:
    """The first fenced block, or all of the text (its first turn) if there is none; without its indentation."""
    opening = next((mark for mark in FENCE.finditer(text) if mark["inline"] is None), None)
    if not opening:
        return _dedent(first_turn(text))
    quoted = QUOTED.fullmatch(text[text.rfind("\n", 0, opening.start()) + 1 : opening.start()])
    lines = []
    for line in text[opening.end() :].split("\n"):
        before, closing, _ = (QUOTED.sub("", line, count=1) if quoted else line).partition(opening["marks"])
        lines.append(before)
        if closing:
            break
    return _dedent("\n".join(lines))


def _dedent(text: str) -> str:
    lines = text.split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    margin = min(indents, default=0)
    return "\n".join(line[margin:] for line in lines)


def json_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """(start, end, value) of each JSON object or array in the text that is in no other, in order.

    Raises ValueError where one is cut off by the end of the text, or nested too deeply.
    """
    decoder, end, tried = json.JSONDecoder(), 0, 0
    for start in (mark.start() for mark in re.finditer(r"[{\[]", text)):
        if start < end:
            continue  # inside of a value, or of what has just failed
        if (tried := tried + 1) > JSON_STARTS:
            return
        try:
            value, end = decoder.raw_decode(text, start)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except json.JSONDecodeError as error:
            end = error.pos
            if not text[end:].strip() or error.msg.startswith("Unterminated string"):
                raise ValueError("the JSON value is cut off") from None
        else:
            yield start, end, value


def first_json(text: str) -> Any:
    """The first JSON object or array in the text; ValueError if there is none."""
    for _, _, value in json_values(fenced(text)):
        return value
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
    """There is something beside white space, and beside a thought."""
    del check
    if answered(text).strip():
        return True, "has text"
    return False, "a thought without an answer" if text.strip() else "empty"


def not_garbled(text: str, check: Check) -> Outcome:
    """No replacement character, no control character, no special token or raw vocabulary piece in the text."""
    del check
    bad = [c for c in text if c == "\ufffd" or (ord(c) < 32 and c not in "\n\t\r")]
    if bad:
        return False, f"{len(bad)} undecodable or control characters"
    if leak := SPECIAL_TOKEN.search(text):
        return False, f"special token in the text: {leak.group(0)}"
    piece = PIECE.search(text)
    return not piece, f"pieces of the vocabulary in the text: {piece.group(0)}" if piece else "clean"


def loop_at_end(text: str) -> str:
    """The unit that the end of the text repeats, or an empty string.

    Repeated is what comes ≥ 5 times and has ≥ 60 characters in all, or one character that comes ≥ 16 times, white space
    aside (a broken kernel says `!!!!`), but for digits and what draws lines or closes brackets.
    """
    tail = text.rstrip()[-4000:]
    letters = "".join(tail.split())
    last = letters[-1:]
    if last and not (last in LINES or last.isdigit()) and letters.endswith(last * ONE_CHARACTER):
        return last
    for size in range(1, len(tail) // LOOP_REPEATS + 1):
        repeats = max(LOOP_REPEATS, -(-LOOP_CHARACTERS // size))
        unit = tail[-size:]
        if size * repeats <= len(tail) and tail.endswith(unit * repeats):
            return unit
    return ""


def no_repetition(text: str, check: Check) -> Outcome:
    """The answer does not end in a loop, and a long one is not made of few pieces (zlib shrinks it to < 15 %).

    A JSON value that is whole was ended by its author, and rows are alike: of it only the texts are looked at.
    """
    del check
    details = []
    for part in _without_json(text):
        if unit := loop_at_end(part):
            return False, f"ends in a loop of {_clip(unit, 40)!r}"
        raw = part.encode("utf-8", "replace")
        share = len(zlib.compress(raw)) / len(raw) if len(raw) >= 400 else 1.0
        details.append(f"compresses to {share:.0%}" if len(raw) >= 400 else "no loop")
        if share < COMPRESSED_SHARE:
            return False, details[-1]
    return True, details[0]


def _without_json(text: str) -> list[str]:
    """The text without its JSON values, and all texts in these. A value that comes again is text."""
    rest, inside, seen, at = [], [], set(), 0
    with contextlib.suppress(ValueError):
        for start, end, value in json_values(text):
            if text[start:end] in seen:
                continue
            seen.add(text[start:end])
            rest.append(text[at:start])
            inside.append(value)
            at = end
    texts = ["".join(rest) + text[at:]]
    while inside:
        value = inside.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            inside += [*value, *value.values()]
        elif isinstance(value, list):
            inside += value
    return texts


CHECKS: dict[str, Callable[[str, Check], Outcome]] = {
    f.__name__: f
    for f in (
        contains, not_contains, regex, exact_number, json_schema, max_words, min_words, sentences, language,
        not_empty, not_garbled, no_repetition,
    )
}  # fmt: skip


def run_checks(text: str, checks: Sequence[Check], run_code: CodeRunner | None) -> list[CheckResult]:
    """All hard checks of the text, then those of the prompt of what it answers, in order. `run_code` judges checks of
    type `python`; without it they are not run.

    Raises KeyError for a type that is not known; `prompt_set.validate` rejects such a file beforehand.
    """
    results = [_result(kind, CHECKS[kind](text, {}), hard=True) for kind in HARD_CHECKS]
    answer = answered(text)
    for check in checks:
        kind = check["type"]
        if kind in HARD_CHECKS:
            continue
        if kind != "python":
            outcome = CHECKS[kind](answer, check)
        else:
            outcome = run_code(answer, check) if run_code else (None, "not run: `quality.code` is off")
        results.append(_result(kind, outcome))
    return results


def _result(kind: str, outcome: Outcome, *, hard: bool = False) -> CheckResult:
    return CheckResult(type=kind, ok=outcome[0], detail=outcome[1], hard=hard)
