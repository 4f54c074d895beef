"""Text of others, with what is not seen written out: nothing in it hides, turns or moves what stands beside it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

JOINERS: Final = re.compile(r"(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")
"""A joiner at the side of ASCII, where it joins nothing."""
UNSEEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of characters that are not seen."""
SEEN: Final = "\t\n\u200c\u200d"
BLANK_LETTERS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"


def visible(text: str) -> str:
    """The text with its line ends as newlines, and with what is not seen, or turns what is, written out as ⟦U+202E⟧.

    That is: control characters but tab and newline, format characters (bidirectional, zero-width, byte-order mark),
    line separators, lone surrogates, noncharacters and blank letters. Joiners between characters beyond ASCII stay, as
    some scripts, and emoji, are written with them.
    """
    return JOINERS.sub(lambda joiner: _code_point(ord(joiner[0])), text.replace("\r\n", "\n").translate(_SHOWN))


def _code_point(point: int) -> str:
    return f"⟦U+{point:04X}⟧"


class _Shown(dict[int, str]):
    """{code point: how it is shown}, filled as characters come."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        nonsense = 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE or character in BLANK_LETTERS
        unseen = character not in SEEN and (nonsense or unicodedata.category(character) in UNSEEN)
        self[point] = _code_point(point) if unseen else character
        return self[point]


_SHOWN: Final = _Shown()
