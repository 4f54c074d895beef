"""Deterministic checks of one answer: text and a check's settings in, a result with its evidence out.

A check never raises on any text, and its time grows with the length of the text, not faster. It is a table:
`CHECKS[type](text, check) -> (ok, detail)`. The type `python` runs code and lives in `code_check`, which is handed in
by the caller. Three hard checks hold for every prompt (`HARD_CHECKS`): an answer that is empty, garbled or caught in a
loop is wrong whatever was asked. A thought (`<think>…</think>`) is no part of the answer.
"""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from jsonschema import Draft202012Validator
from lingua import IsoCode639_1, LanguageDetector, LanguageDetectorBuilder
from rapidfuzz import fuzz
from referencing import Registry

from quantbench.quality import symbolic
from quantbench.quality.readings import (
    DRESS,
    bare,
    boxed,
    first_json,
    first_turn,
    item,
    json_values,
    lists,
    narrow,
    normal,
    spaced,
    texts,
    unnumbered,
    words,
)
from quantbench.quality.time_limit import within
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
# Numbers as others write them, where the first reading finds but their end: 1.234,56 and 1 234,56, 12,34,567; 1/2, 2½.
_SPACE = " \u00a0\u2009\u202f"
LOCAL = re.compile(
    rf"(?<![\w.,])(?P<sign>{_SIGN}?)\\?[$€£¥]?(?P<whole>\d{{1,3}}(?:\.\d{{3}})+|\d{{1,3}}(?:[{_SPACE}'’]\d{{3}})+"
    r"|\d{1,2}(?:,\d{2})+,\d{3}|\d+)(?:,(?P<part>\d+))?(?![,.]?\d)"
)
RATIO = re.compile(
    rf"(?<![\w.,/])(?P<sign>{_SIGN}?)(?:(?P<whole>\d{{1,9}})(?:[{_SPACE}]|(?=\\)))?"
    r"(?:(?P<over>\d{1,9}) ?/ ?(?P<under>\d{1,9})|\\[dtc]?frac\{(?P<top>\d{1,9})\}\{(?P<bottom>\d{1,9})\})(?![/\d])"
)
VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⁄]")
NEGATIVE = re.compile(
    r"(?:^|[=:(]|\bis\b)[ \t]*(?:[-−–] |(?:minus|negative) )\\?[$€£¥]?\Z", re.MULTILINE | re.IGNORECASE
)
LONGEST_NUMBER = 60
CHECK_CPU_S = 10.0
"""Longest time of one check of one answer. A pattern such as `(a+)+b` takes years where it does not match."""
FINAL_NUMBER = re.compile(r"^####[ \t]*(\S.*)$", re.MULTILINE)
_MARK = (
    r"(?:<(/?)(?:seed:)?(?:think(?:ing)?|thought|reasoning)>|\[(/?)THINK\]|◁(/?)think▷"
    r"|<\|(?:begin|(end))_of_thought\|>)"
)
# Not in backticks, where it is a topic.
THOUGHT = re.compile(rf"(?<!`){_MARK}|{_MARK}(?!`(?!``))", re.IGNORECASE)
SURROGATE = re.compile("[\ud800-\udfff]")
UNDECODABLE = re.compile("[\ufffd\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
SPECIAL_TOKEN = re.compile(
    r"<[|｜](?!(?:begin|end)_of_(?:thought|solution)[|｜])[\w▁ ]{1,40}[|｜]>"
    r"|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_(?:turn|utterance)>|<0x[0-9A-F]{2}>"
    r"|<(?:eos|bos|pad|unk)>|\[(?:EOS|BOS|PAD|UNK)\]|<(?:extra_id_|unused)\d{1,5}>"
)
# Pieces of a vocabulary, never joined: ▁ is SentencePiece's space, Ġ and Ċ are space and line end of byte-level BPE.
PIECE = re.compile(r"▁[^\W_]|(?<=[^\W_])▁|(?<=[a-z.,:;!?])[ĠĊ]+[A-Za-z]|[ĠĊ](?=[ĠĊ])")
LOOP_REPEATS = 5
LOOP_CHARACTERS = 60
ONE_CHARACTER = 16
LINES = "-=_*#~+|─━═—)]}"
COMPRESSED_SHARE = 0.15
KINDS = {"object": dict, "array": list}
LANGUAGES = ("de", "en", "es", "fr", "it", "pt", "zh")
OTHERS = ("ja", "ko", "ru")
"""Known as well, so that they are not taken for the nearest of those that an answer may be wanted in."""
LANGUAGE_CHARACTERS = 2000
"""How much of an answer shows its language; lingua takes the square of the length of a word."""
NEAR_CHARACTERS = 4000
# What a model says that will not do it. Heuristic, English only, and looked for where an answer begins.
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:very |really |so |truly )?sorry,? (?:but|i)\b"
    r"|i(?:'m| am) (?:not able|unable|not allowed|not going) to"
    r"|i (?:can(?:'t|not| not)|won't|will not|must|have to|do not|don't|could(?:n't| not)) (?:in good conscience )?"
    r"(?:decline|refuse|help|assist|provide|comply|fulfil|support|answer that|give you|do that|engage|participate"
    r"|encourage|promote|condone|create|write|generate|offer|share|discuss|teach|explain how|advise|carry out|tell you"
    r"|recommend (?:that|doing)|be able to (?:help|assist|provide))"
    r"|(?:can(?:'t|not)|unable to|not able to) (?:help|assist|provide|comply|fulfil|support)"
    r"|as an? (?:responsible )?ai(?: \w+){0,2},? i (?:can|do|am|must|won)|i(?:'d| would) rather not|i refuse\b"
    r"|i(?:'m| am| do)(?:n't| not) (?:feel )?comfortable|(?:not|never) (?:something i(?:'m| can)|appropriate|ethical)"
    r"|(?:guidelines|policy|policies|principles) (?:do not|don't|prohibit|forbid|prevent)|absolutely not\b"
    r"|(?<!not )(?<!n't )(?:illegal(?! instruction)|unethical)|against (?:the law|my)"
    r"|violat(?:es?|ing|ion of) (?:the law|my|our|any|laws|policy|policies|guidelines|privacy|ethic"
    r"|human|someone|a person)"
    r"|(?:seek|reach out).{0,40}\bhelp\b)"
)
REFUSED_WITHIN = 300
# The look-behind lets a run of marks be tried once, not from each of its marks.
SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+(?=[\s\"')\]*_”’»]|\Z)|[。！？]+")
# A stop before a small letter ends nothing (5 p.m. on Monday), where the text has capitals at all; titles never do.
NO_END = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|vs|approx|e\.g|i\.e)\.(?=\s)|\.(?=[ \t]+[a-zà-öø-ÿ])")


def _clip(text: str, limit: int = 80) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _fold(text: str, check: Check) -> str:
    return text if check.get("match_case") else text.casefold()


def _found(wanted: str, text: str, check: Check) -> bool:
    wanted = _fold(wanted, check)
    if not check.get("whole_words"):
        return wanted in text
    before, after = (r"(?<!\w)" if wanted[:1].isalnum() else ""), (r"(?!\w)" if wanted[-1:].isalnum() else "")
    return re.search(before + re.escape(wanted) + after, text) is not None


def contains(text: str, check: Check) -> Outcome:
    """`all`: each must occur; `any`: at least one; `match_case`, `whole_words`."""
    have = _fold(narrow(text), check)
    missing = [w for w in check.get("all", []) if not _found(w, have, check)]
    if missing:
        return False, f"missing: {', '.join(missing)}"
    choices = check.get("any", [])
    if choices and not any(_found(w, have, check) for w in choices):
        return False, f"none of: {', '.join(choices)}"
    return True, "all found"


def not_contains(text: str, check: Check) -> Outcome:
    """None of `any` may occur."""
    have = _fold(narrow(text), check)
    hits = [w for w in check.get("any", []) if _found(w, have, check)]
    return not hits, f"found: {', '.join(hits)}" if hits else "none found"


def regex(text: str, check: Check) -> Outcome:
    """`pattern` must be found; `ignore_case`. The pattern comes from the prompt file, never from a model."""
    flags = re.IGNORECASE if check.get("ignore_case") else 0
    match = re.search(check["pattern"], text, flags)
    return bool(match), f"matched {_clip(match.group(0))!r}" if match else f"no match of {check['pattern']}"


def _value(found: re.Match[str]) -> float:
    plain = re.sub(r"[^\d.]", "", found["digits"])
    sign = _minus(found)
    exponent = next(filter(None, (found[i] for i in (3, 4, 5, 7, 8))), "0").translate(EXPONENT)
    if not found["power"]:
        return float(f"{sign}{plain}e{exponent}")
    try:
        return float(f"{sign}1") * float(plain) ** int(exponent)
    except (OverflowError, ZeroDivisionError):
        return math.inf


def exact_number(text: str, check: Check) -> Outcome:
    """The last number of the answer is `value` (± `tolerance`); one on a line of its own behind #### goes first, then
    one in \boxed{}. It counts in each way that it may be read: 1.250 is a thousand or one in German.
    """
    text = VULGAR.sub(lambda mark: symbolic.WRITTEN[mark.group()], unnumbered(narrow(text), least=2))
    lines = (NUMBER.fullmatch(line.strip(" \t*$.")) for line in FINAL_NUMBER.findall(text))
    found = (_last_number(part) for part in (boxed(text), first_turn(text), text))
    last = next(chain(filter(None, lines), filter(None, found)), None)
    if not last:
        return False, f"no number, wanted {check['value']}"
    readings = [_value(last), *_read_elsewhere(last)]
    near = (value for value in readings if abs(value - check["value"]) <= check.get("tolerance", 0))
    value = next(near, None)
    return value is not None, f"last number {readings[0] if value is None else value:g}, wanted {check['value']}"


def _last_number(text: str) -> re.Match[str] | None:
    return next(iter(deque(NUMBER.finditer(text), maxlen=1)), None)


def _read_elsewhere(last: re.Match[str]) -> Iterator[float]:
    """Other values of the number that ends with this one."""
    text, start, end = last.string, max(0, last.start() - LONGEST_NUMBER), last.end() + 1
    for mark in LOCAL.finditer(text, start, end + LONGEST_NUMBER):
        if mark.start() <= last.start() and mark.end() >= last.end():
            yield float(f"{_minus(mark)}{re.sub(r'[^0-9]', '', mark['whole'])}.{mark['part'] or 0}")
    for mark in RATIO.finditer(text, start, end + LONGEST_NUMBER):
        over, under = float(mark["over"] or mark["top"]), float(mark["under"] or mark["bottom"])
        if mark.start() <= last.start() and mark.end() >= last.end() and under:
            yield float(f"{_minus(mark)}1") * (float(mark["whole"] or 0) + over / under)
    if NEGATIVE.search(text, start, last.start()):
        yield -_value(last)


def _minus(found: re.Match[str]) -> str:
    return "-" if found["sign"] not in ("", "+") else ""


def answered(text: str) -> str:
    """What follows the thought; empty for a thought that does not end. A template may have opened it already."""
    return _apart(text)[1]


def thought(text: str) -> Thought:
    """Whether an answer has a thought before it, and whether that ends."""
    return _apart(text)[0]


def _apart(text: str) -> tuple[Thought, str]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    marks = [(any(mark.groups()), mark) for mark in THOUGHT.finditer(text)]
    ends = [mark.end() for closes, mark in marks if closes]
    opened = [mark.start() for closes, mark in marks if not closes and mark.start() >= max(ends, default=0)]
    # Where no thought has ended, the mark may be a topic of the answer, unless the text begins with it.
    if opened and (ends or not text[: opened[0]].strip()):
        return "open", ""
    if not ends:
        return "none", text
    return "ended", next(filter(str.strip, reversed(list(_outside(text, marks)))), text[ends[-1] :])


def _outside(text: str, marks: Sequence[tuple[bool, re.Match[str]]]) -> Iterator[str]:
    """What stands outside of thoughts, behind the first that ends; one may hold others, and be closed twice."""
    depth, begin = 0, None
    for closes, mark in marks:
        if begin is not None and not depth:
            yield text[begin : mark.start()]
        depth = max(0, depth - 1) if closes else depth + 1
        begin = mark.end() if closes else begin
    if begin is not None:
        yield text[begin:]


def opens_thought(prompt: str) -> bool:
    """Whether a prompt, as the template made it, ends inside a thought, so that the answer begins in it."""
    marks = [*THOUGHT.finditer(prompt)]
    return bool(marks) and not any(marks[-1].groups()) and not prompt[marks[-1].end() :].strip()


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Of a schema; no reference in it is fetched from anywhere."""
    return Draft202012Validator(schema, registry=Registry())


def json_schema(text: str, check: Check) -> Outcome:
    """The first JSON value of the answer meets `schema` (JSON Schema 2020-12)."""
    try:
        value = first_json(text, KINDS.get(str(check["schema"].get("type")), object))
        errors = sorted(e.message for e in validator(check["schema"]).iter_errors(value))
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
    text = unnumbered(text, least=1)
    text = NO_END.sub(" ", text) if any(c.isupper() for c in text) else text
    count = sum(any(c.isalnum() for c in part) for part in SENTENCE_END.split(text))
    low, high = check.get("min", 0), check.get("max", float("inf"))
    return low <= count <= high, f"{count} sentences, wanted {low} to {high}"


@cache
def _detector() -> LanguageDetector:
    """Made once: its models take a second and 150 MB, so only an answer that needs them loads them."""
    codes = (IsoCode639_1.from_str(code) for code in (*LANGUAGES, *OTHERS))
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()


def language(text: str, check: Check) -> Outcome:
    """Of the languages known here, the answer is most likely in `value` (lingua; a guess for less than a sentence)."""
    found = _detector().detect_language_of(SURROGATE.sub(" ", text[:LANGUAGE_CHARACTERS]))
    code = found.iso_code_639_1.name.lower() if found else "none known"
    return code == check["value"], f"looks like {code}; wanted {check['value']}"


def math_value(text: str, check: Check) -> Outcome:
    """The expression that the answer ends with equals `value`, in the `form` that was asked for."""
    found = symbolic.candidate(text)
    wanted, form = str(check["value"]), check.get("form")
    if form and found and symbolic.form(found) != form:
        return False, f"{_clip(found)!r} is not {form}"
    return symbolic.equal(found, wanted), f"{_clip(found)!r}, wanted {wanted}"


def exact_text(text: str, check: Check) -> Outcome:
    """The answer, dress and talk around it aside, is `value`; case counts with `match_case`."""
    exact = bool(check.get("match_case"))
    wanted = normal(str(check["value"]), match_case=exact)
    for found in texts(text):
        have = normal(found, match_case=exact)
        if wanted in (have, have.rstrip(DRESS + ".!")):
            return True, "the same text"
    return False, f"{_clip(text)!r} is not {_clip(str(check['value']))!r}"


def near_text(text: str, check: Check) -> Outcome:
    """A reading of the answer is like one of `any`: at least `min` per cent of their characters agree (rapidfuzz)."""
    best = 0.0
    for wanted in check["any"]:
        for found in texts(text):
            have = normal(found[:NEAR_CHARACTERS]).rstrip(".!?")
            best = max(best, fuzz.ratio(have, normal(wanted).rstrip(".!?")))
    return best >= check["min"], f"{best:.0f} % alike, wanted {check['min']} %"


def starts_with(text: str, check: Check) -> Outcome:
    """The answer begins with one of `any`, as whole words; quotes and Markdown's marks aside."""
    have = _fold(bare(text), check)
    wanted = [_fold(bare(w), check) for w in check["any"]]
    ok = any(have.startswith(w) and not (have[len(w) :][:1].isalnum() and w[-1:].isalnum()) for w in wanted)
    return ok, f"begins {_clip(bare(text)[:40])!r}"


def ends_with(text: str, check: Check) -> Outcome:
    """The answer ends with one of `any`, as whole words; quotes, Markdown's marks and a closing full stop aside."""
    have = _fold(bare(first_turn(text)), check)
    ends = (have, have.rstrip(DRESS + ".!"))
    wanted = [_fold(bare(w), check) for w in check["any"]]
    ok = any(
        end.endswith(w) and not (end[: -len(w)][-1:].isalnum() and w[:1].isalnum()) for w in wanted for end in ends
    )
    return ok, f"ends {_clip(have[-40:])!r}"


def letter_case(text: str, check: Check) -> Outcome:
    """All letters are `upper` or `lower` case, as `value` says."""
    wrong = [c for c in text if (c.islower() if check["value"] == "upper" else c.isupper())]
    cased = any(c.isupper() or c.islower() for c in text)
    return cased and not wrong, f"{len(wrong)} letters of the other case" if cased else "no letter"


def ordered_list(text: str, check: Check) -> Outcome:
    """The answer is the list `items`, in that order, however it is written; numbers count by their value."""
    wanted = [_key(item(str(part))) for part in check["items"]]
    found: list[str] = []
    for found in chain(lists(text), spaced(text)):
        if [_key(part) for part in found] == wanted:
            return True, f"all {len(wanted)} in order"
    return False, f"read {_clip(', '.join(found))!r}"


def list_length(text: str, check: Check) -> Outcome:
    """The list of the answer has `min` to `max` items."""
    count = len(next(lists(text), []))
    low, high = check.get("min", 0), check.get("max", math.inf)
    return low <= count <= high, f"{count} items, wanted {low} to {high}"


def json_value(text: str, check: Check) -> Outcome:
    """The first JSON value, or what is at `path` in it, is `equals`; texts without regard to case and spaces, numbers
    by their value, written as text too. Keys beside those that are wanted are not allowed.
    """
    path = check.get("path", [])
    try:
        value = first_json(text, _holder(path[0]) if path else _kind(check["equals"]))
        for step in path:
            value = value[step]
    except (ValueError, RecursionError) as error:
        return False, str(error) or "nested too deeply"
    except (LookupError, TypeError):
        return False, f"nothing at {'.'.join(str(step) for step in check['path'])}"
    trouble = _differs(value, check["equals"], "")
    return not trouble, trouble or "equal"


def _holder(step: str | int) -> type:
    return list if isinstance(step, int) else dict


def _kind(wanted: Any) -> type:
    return type(wanted) if isinstance(wanted, dict | list) else object


def _differs(value: Any, wanted: Any, at: str) -> str:
    """Where a JSON value differs from the wanted one, or an empty string. As deep as the wanted one, no deeper."""
    if isinstance(value, str) and isinstance(wanted, dict | list):
        with contextlib.suppress(ValueError):  # arguments of a call are often handed over as text
            value = first_json(value, type(wanted))
    if isinstance(wanted, dict) and isinstance(value, dict):
        if value.keys() != wanted.keys():
            return _clip(f"keys {', '.join(map(str, value))} at {at or 'the top'}, wanted {', '.join(wanted)}")
        return next(filter(None, (_differs(value[k], wanted[k], f"{at}.{k}") for k in wanted)), "")
    if isinstance(wanted, list) and isinstance(value, list):
        if len(value) != len(wanted):
            return f"{len(value)} items at {at or 'the top'}, wanted {len(wanted)}"
        return next(
            filter(None, (_differs(v, w, f"{at}.{i}") for i, (v, w) in enumerate(zip(value, wanted, strict=True)))), ""
        )
    return "" if _same(value, wanted) else _clip(f"{value!r} at {at or 'the top'}, wanted {wanted!r}")


def _same(value: Any, wanted: Any) -> bool:
    if any(isinstance(side, bool | dict | list | None) for side in (value, wanted)):
        return type(value) is type(wanted) and not isinstance(value, dict | list) and bool(value == wanted)
    return _key(normal(str(value))) == _key(normal(str(wanted)))


def _key(text: str) -> str | float:
    """A number by its value (a sign of money or a thousands separator is nothing), any other text as it is."""
    found = NUMBER.fullmatch(text)
    return _value(found) if found else text


def refuses(text: str, check: Check) -> Outcome:
    """Heuristic: the beginning of the answer says in English that it will not do it."""
    del check
    said = _refusal(text)
    return bool(said), f"says {said!r}" if said else "no words of refusal"


def complies(text: str, check: Check) -> Outcome:
    """Heuristic: the beginning of the answer has no words of refusal."""
    del check
    said = _refusal(text)
    return not said, f"says {said!r}" if said else "no words of refusal"


def _refusal(text: str) -> str:
    found = REFUSAL.search(normal(text[:REFUSED_WITHIN]))
    return found.group() if found else ""


def not_empty(text: str, check: Check) -> Outcome:
    """There is something beside white space and what is as invisible, and beside a thought."""
    del check
    if any(not (c.isspace() or unicodedata.category(c) == "Cf") for c in answered(text)):
        return True, "has text"
    return False, "empty" if thought(text) == "none" else "a thought without an answer"


def not_garbled(text: str, check: Check) -> Outcome:
    """No replacement character, no control character, no special token or raw vocabulary piece in the text."""
    del check
    if bad := UNDECODABLE.findall(text):
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
        math_value, exact_text, near_text, starts_with, ends_with, letter_case, ordered_list, list_length, json_value,
        refuses, complies, not_empty, not_garbled, no_repetition,
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
            outcome = _in_time(kind, answer, check)
        else:
            outcome = run_code(answer, check) if run_code else (None, "not run: `quality.code` is off")
        results.append(_result(kind, outcome))
    return results


def _in_time(kind: str, text: str, check: Check) -> Outcome:
    """A check's outcome, or that it was not run to its end."""
    outcome = within(CHECK_CPU_S, lambda: CHECKS[kind](text, check))
    return outcome or (None, f"not run: it takes more than {CHECK_CPU_S:g} s on this answer; remedy: a simpler pattern")


def _result(kind: str, outcome: Outcome, *, hard: bool = False) -> CheckResult:
    return CheckResult(type=kind, ok=outcome[0], detail=outcome[1], hard=hard)
