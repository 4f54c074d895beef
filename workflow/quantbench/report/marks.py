"""Marks in the text of a page: the only markup there is. All else is text, whoever wrote it.

In words.yaml `code` and **bold** are marks. What models, servers and configurations say has the same characters, and
there they are characters. So marks are set before a sentence is filled in, as noncharacters, which Unicode keeps for
such uses; the renderer makes them what Markdown or HTML has for them. Whoever forged one would get a bold word, or the
name of a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

Kind = Literal["text", "code", "bold", "page"]
END: Final = "\ufdd0"
STARTS: Final[dict[Kind, str]] = {"code": "\ufdd1", "bold": "\ufdd2", "page": "\ufdd3"}
"""page: the name of another page, which lies beside this one."""
_KINDS: Final = {start: kind for kind, start in STARTS.items()}
_MARKED: Final = re.compile(
    "([\ufdd1\ufdd2](?=[^\ufdd0-\ufdd3]*\ufdd0)|\ufdd3(?=[a-z_]+[.]md\ufdd0))([^\ufdd0]*)\ufdd0"
)
_IN_WORDS: Final = re.compile(r"`(?P<page>[a-z_]+\.md)`|`(?P<code>[^`]*)`|\*\*(?P<bold>.+?)\*\*", re.DOTALL)


def code(text: str) -> str:
    """A name, shown as it is."""
    return f"{STARTS['code']}{text}{END}"


def bold(text: str) -> str:
    """What weighs most; no other mark may stand in it."""
    return f"{STARTS['bold']}{text}{END}"


def marked(words: str) -> str:
    """A sentence of words.yaml with its marks set."""
    return _IN_WORDS.sub(lambda found: f"{STARTS[found.lastgroup]}{found[found.lastgroup]}{END}", words)  # type: ignore[index]


def pieces(text: str) -> Iterator[tuple[Kind, str]]:
    """The text cut at its marks."""
    end = 0
    for found in _MARKED.finditer(text):
        if found.start() > end:
            yield "text", text[end : found.start()]
        yield _KINDS[found[1]], found[2]
        end = found.end()
    if text[end:]:
        yield "text", text[end:]


def plain(text: str) -> str:
    """The text for a terminal or a file of data: names in backticks, no other marks."""
    return "".join(f"`{piece}`" if kind in ("code", "page") else piece for kind, piece in pieces(text))
