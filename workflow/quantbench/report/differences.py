"""Two texts beside each other: which part of them is shown, and what differs. The time is bounded whatever they say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

MOST: Final = 4_000
"""Characters of a text that a page shows."""
BEFORE: Final = 1_000
"""Of these, the ones before the first difference, where that lies further on."""
MOST_PAIRS: Final = 40_000
"""Pairs of words, between the first and the last difference, up to which the words in between are told apart."""


class Excerpt(NamedTuple):
    """Characters `first` to `last` (from 1) of a text of `of` characters."""

    text: str
    first: int
    last: int
    of: int


def excerpt(text: str, start: int = 0) -> Excerpt:
    """The characters from `start` that a page shows; all of a short text."""
    start = max(0, min(start, len(text) - MOST))
    shown = text[start : start + MOST]
    return Excerpt(shown, min(start + 1, len(text)), start + len(shown), len(text))


def excerpts(left: str, right: str) -> tuple[Excerpt, Excerpt]:
    """The parts of two texts in which they begin to differ."""
    parting = common(left, right)
    start = 0 if parting < MOST - BEFORE else parting - BEFORE
    return excerpt(left, start), excerpt(right, start)


def differences(text: str, other: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces: (whether the other one lacks it in that place, piece)."""
    words, others = _words(text), _words(other)
    start = common(words, others)
    end = common(words[start:][::-1], others[start:][::-1])
    inner, outer = words[start : len(words) - end], others[start : len(others) - end]
    yield False, "".join(words[:start])
    if len(inner) * len(outer) > MOST_PAIRS:
        yield True, "".join(inner)
    else:
        for tag, _, _, low, high in difflib.SequenceMatcher(None, outer, inner, autojunk=False).get_opcodes():
            yield tag != "equal", "".join(inner[low:high])
    yield False, "".join(words[len(words) - end :])


def common(left: Sequence[str], right: Sequence[str]) -> int:
    """How many of the first items two sequences (or characters two texts) share."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[low:middle] == right[low:middle] else (low, middle - 1)
    return low


def _words(text: str) -> list[str]:
    return re.findall(r"\S+|\s+", text)
