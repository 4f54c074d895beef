"""How an answer is read: its first turn, its code, its JSON, its lists, and the texts it may have been asked for.

A reading is generous about dress (fences, bullets, quotes, bold, full-width forms, a sentence before or after) and
strict about what is in it. All of it is linear in the length of the text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

# A model that does not stop asks itself the next question.
NEXT_TURN = re.compile(
    r"^[ \t#>*_]*(?:(?:next|new|another)[ \t]+)?(?:question|q|problem|exercise|user|human|instruction)"
    r"[ \t]*#?\d{0,4}[ \t]*[*_]{0,2}:",
    re.MULTILINE | re.IGNORECASE,
)
# Every run of marks is tried once, and a pair of them within a line is no block.
FENCE = re.compile(
    r"(?<![`~])(?P<marks>`{3,}|~{3,})(?![`~])(?:(?P<inline>[^`~\n]+)(?P=marks)|[ \t]*(?P<word>[^\s`~]*)[^`~\n]*\n)"
)
QUOTED = re.compile(r"[ \t]*(?:>[ \t]?)+")
MOST_BLOCKS = 50
CODE_BEGINS = re.compile(
    r"(?:async[ \t]+)?def[ \t]|class[ \t]|import[ \t]|from[ \t]\S+[ \t]import[ \t]|@\w|\w+[ \t]*=[ \t]*lambda\b"
)
# No line of Python: two words, the first with a capital.
PROSE_LINE = re.compile(r"[A-Z][\w'’-]*[,:]?[ \t][A-Za-z]|[*#>-]+[ \t]*\**[A-Z][\w'’-]*[,:]?[ \t]")
JSON_STARTS = 1000
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
TYPEWRITER = str.maketrans("‘’‚‛“”„‟«»‹›\u00a0\u2009\u202f", "''''\"\"\"\"\"\"''   ")
DRESS = " \t\n\"'`*_#>"
MARKED = re.compile(r"(?P<indent>[ \t>]*)(?:[-*+•–‣]|\(?\d{1,3}[.):]|\(?[A-Za-z][.)])[ \t]+(?P<item>\S.*)")
ARROW = re.compile(r"->|-->|→")
SEPARATOR = re.compile(r"[,;、，]|[ \t](?:->|-->|→|>|<|≤)[ \t]")
NUMBERED = re.compile(r"^([ \t>]*)\d{1,3}[.)](?=[ \t]|$)", re.MULTILINE)
PROSE = 6
"""An item of a list within a line has at most so many words."""
AND = re.compile(r"[ \t](?:and|und|y|et|e)[ \t]")
JOINED = re.compile(r"^(?:and|und|y|et|e)[ \t]+", re.IGNORECASE)
QUOTE, BOLD = re.compile(r'"([^"\n]+)"|`([^`\n]+)`'), re.compile(r"\*\*([^*\n]+)\*\*")


def words(text: str) -> list[str]:
    """Runs of letters, digits and inner apostrophes."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text)


def first_turn(text: str) -> str:
    """The text up to where the model goes on with a next question of its own."""
    for turn in NEXT_TURN.finditer(text):
        if text[: turn.start()].strip():
            return text[: turn.start()]
    return text


def fenced(text: str) -> str:
    """The first fenced block, or all of the text (its first turn) if there is none; without its indentation."""
    return next((content for _, content in blocks(text)), _dedent(first_turn(text)))


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(the word behind the opening marks in lower case, content) of each fenced block, without its indentation.

    Marks end a block at the end of a line: alone, indented no further than a list would, or right behind the content.
    Where none do, the first ones anywhere; a docstring may have a block of its own.
    """
    end = 0
    for opening in FENCE.finditer(text):
        if opening["inline"] is not None or opening.start() < end:
            continue
        before = text[text.rfind("\n", 0, opening.start()) + 1 : opening.start()]
        marks, indent = re.escape(opening["marks"]), len(before.expandtabs(4)) + 3
        ends = rf"^[ \t>]{{0,{indent}}}{marks}[`~]*[ \t]*$|(?<=[^\s`~]){marks}[ \t]*$"
        closing = re.compile(ends, re.MULTILINE).search(text, opening.end())
        closing = closing or re.compile(marks).search(text, opening.end())
        end = closing.end() if closing else len(text)
        content = text[opening.end() : closing.start() if closing else len(text)]
        if QUOTED.fullmatch(before):
            content = "\n".join(QUOTED.sub("", line, count=1) for line in content.split("\n"))
        yield opening["word"].lower(), _dedent(content)


def python_code(text: str, function: str | None = None) -> str:
    """The code of an answer: its blocks of Python up to the one that defines the function, else the first block.

    Without a block, the lines from the first that begins a definition or an import to where prose begins.
    """
    found = list(islice(blocks(text), MOST_BLOCKS))
    if not found:
        return _unfenced(_dedent(first_turn(text)))
    own = [content for word, content in found if word.startswith("py")] or [found[0][1]]
    name = re.escape(function) if function else r"\w+"
    wanted = re.compile(rf"\bdef[ \t]+{name}\b|^{name}[ \t]*=", re.MULTILINE)
    last = next((i for i, content in enumerate(own) if wanted.search(content)), 0)
    return "\n".join(own[: last + 1])


def _unfenced(text: str) -> str:
    lines = text.removeprefix("\ufeff").split("\n")
    start = next((i for i, line in enumerate(lines) if CODE_BEGINS.match(line)), 0)
    end = next((i for i, line in enumerate(lines) if i > start and PROSE_LINE.match(line)), len(lines))
    return "\n".join(lines[start:end])


def _dedent(text: str) -> str:
    lines = text.split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    margin = min(indents, default=0)
    return "\n".join(line[margin:] for line in lines)


def json_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """(start, end, value) of each JSON object or array in the text that is in no other, in order.

    Raises ValueError where one is cut off by the end of the text, nested too deeply, or holds NaN or Infinity, which
    JSON does not have.
    """
    decoder, end, tried = json.JSONDecoder(parse_constant=_no_json), 0, 0
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


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def first_json(text: str, kind: type = object) -> Any:
    """The first JSON object or array in the first block, else in the text; ValueError if there is none.

    kind: dict or list where only that can be meant, so that a [1] in the sentence before it is none.
    """
    for part in (fenced(text), text):
        found = (value for _, _, value in json_values(part))
        first = next(found, None)
        if first is not None:
            return first if isinstance(first, kind) else next((v for v in found if isinstance(v, kind)), first)
    raise ValueError("no JSON value")


def boxed(text: str, longest: int = 200) -> str:
    """What is in the last \\boxed{…}, or an empty string."""
    start = text.rfind("\\boxed{")
    depth = 0
    for at in range(start + 6, min(len(text), start + 6 + longest)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start + 7 : at]
    return ""


def narrow(text: str) -> str:
    """Full-width letters, digits and marks as the ASCII ones that they are forms of."""
    return text.translate(FULL_WIDTH)


def bare(text: str) -> str:
    """The text without what dresses it: white space, quotes, Markdown's marks; quotes and spaces in it made plain."""
    return narrow(text).translate(TYPEWRITER).strip(DRESS)


def normal(text: str, *, match_case: bool = False) -> str:
    """The bare text with single spaces, by default without case."""
    flat = " ".join(bare(text).split())
    return flat if match_case else flat.casefold()


def unnumbered(text: str, least: int) -> str:
    """The text without the numbers of a numbered list of so many items: they are no numbers and end no sentence."""
    return NUMBERED.sub(r"\1•", text) if len(NUMBERED.findall(text)) >= least else text


def paragraphs(text: str) -> list[str]:
    """What stands between empty lines."""
    return [part for part in re.split(r"\n[ \t]*\n", text) if part.strip()]


def texts(text: str) -> list[str]:
    """What the answer may mean as the text that it was asked for, the whole first.

    The code block, the first and the last paragraph and line, what follows the first colon, and what is quoted or
    bold if only one thing is.
    """
    body = first_turn(text)
    parts = paragraphs(body) or [""]
    lines = [line for line in body.split("\n") if line.strip()] or [""]
    found = [body, fenced(text), parts[0], parts[-1], lines[0], lines[-1]]
    for part in (body, lines[0], lines[-1]):
        _, colon, rest = part.partition(":")
        if colon:
            found += [rest, (paragraphs(rest) or [""])[0]]
    plain = narrow(body).translate(TYPEWRITER)
    for pattern in (QUOTE, BOLD):
        spans = [next(filter(None, mark.groups())) for mark in pattern.finditer(plain)]
        if len(set(spans)) == 1:
            found.append(spans[0])
    return found


def item(text: str) -> str:
    """An item of a list without its bullet's dress and the mark that ends it."""
    return normal(JOINED.sub("", text.strip()).strip(DRESS + ".,;:"))


def lists(text: str) -> Iterator[list[str]]:
    """The lists that the answer may mean, plainest first: JSON, bullets or numbers, lines, within a line."""
    with contextlib.suppress(ValueError, RecursionError):
        value = first_json(text)
        inside = [v for v in value.values() if isinstance(v, list)] if isinstance(value, dict) else [value]
        if len(inside) == 1 and all(isinstance(v, str | int | float) for v in inside[0]):
            yield [item(str(v)) for v in inside[0]]
    lines = [line for line in fenced(text).split("\n") if line.strip(DRESS)]
    marked = [mark for line in lines if (mark := MARKED.fullmatch(line))]
    if marked:
        margin = min(len(mark["indent"]) for mark in marked)
        yield [item(mark["item"]) for mark in marked if len(mark["indent"]) == margin]
    rows = [line for line in lines if not line.rstrip(DRESS).endswith(":")]
    if len(rows) > 1:
        yield [item(row) for row in rows]
    within = [line.rpartition(":")[2] for line in lines if SEPARATOR.search(line)]
    within += [ARROW.split(row)[-1] for row in within if ARROW.search(row)][-1:]
    for row in dict.fromkeys([*within[:1], *within[-2:]]):
        parts = [part for part in SEPARATOR.split(row) if part.strip(DRESS + ".")]
        if parts and all(len(part.split()) <= PROSE for part in parts):
            yield [item(part) for part in [*parts[:-1], *AND.split(parts[-1])]]


def spaced(text: str) -> Iterator[list[str]]:
    """The first and the last line as lists with nothing but spaces between their items."""
    rows = [line for line in fenced(text).split("\n") if line.strip(DRESS)]
    for row in dict.fromkeys([*rows[:1], *rows[-1:]]):
        yield [item(part) for part in row.rpartition(":")[2].split()]
