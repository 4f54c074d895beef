"""One item of the suite, and what its makers share."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Check = dict[str, Any]


class Item(NamedTuple):
    """right: an answer that all checks accept; wrong: one that looks right and is not; neither is in the file.

    cluster: items that share a passage carry the same.
    """

    prompt: str
    max_tokens: int
    checks: Sequence[Check]
    right: str
    wrong: str
    cluster: str = ""
    language: str = "en"


Maker = Callable[[random.Random, int], Item]
"""From a level, 1 to 5, to an item."""

NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Karin", "Leo", "Mira", "Nils",
    "Olga", "Paul", "Quinn", "Rosa", "Sven", "Tara", "Uwe", "Vera", "Willem", "Yara",
)  # fmt: skip
CITIES = (
    "Oslo", "Lyon", "Porto", "Graz", "Turin", "Ghent", "Leeds", "Bergen", "Malmo", "Zurich", "Cork", "Bonn", "Parma",
    "Seville", "Nantes", "Basel", "Tampere", "Utrecht",
)  # fmt: skip
THINGS = (
    "lamp", "chair", "kettle", "ladder", "mirror", "bucket", "carpet", "drill", "fan", "heater", "pillow", "printer",
    "radio", "shovel", "table", "vase", "clock", "basket", "candle", "hammer",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def number(value: float) -> Check:
    return {"type": "exact_number", "value": value}


def says(*any_of: str) -> Check:
    """One of these as whole words."""
    return {"type": "contains", "any": list(any_of), "whole_words": True}


def says_all(*all_of: str) -> Check:
    return {"type": "contains", "all": list(all_of), "whole_words": True}


def at_most(words: int) -> Check:
    return {"type": "max_words", "value": words}


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def listed(parts: Sequence[object], last: str = "and") -> str:
    """1, 2 and 3."""
    texts = [str(part) for part in parts]
    return f"{', '.join(texts[:-1])} {last} {texts[-1]}" if len(texts) > 1 else texts[0]
