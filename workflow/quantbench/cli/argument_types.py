"""Types of command-line arguments. Each raises argparse's error for what it does not mean."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

import orjson


def _integer(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"{text!r} is not an integer of {least} or more")
        return int(text)

    return parse


positive_integer, count = _integer(1), _integer(0)


def positive_integers(text: str) -> list[int]:
    """ "1,8,16" -> [1, 8, 16]."""
    try:
        return [positive_integer(part.strip()) for part in text.split(",")]
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is not a list of positive integers like 1,8,16") from None


def non_negative_seconds(text: str) -> float:
    """A finite time in s, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return number


def positive_seconds(text: str) -> float:
    """A finite time in s above 0."""
    number = non_negative_seconds(text)
    if not number:
        raise ArgumentTypeError("it must be more than 0 seconds")
    return number


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def json_object(text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArgumentTypeError(f'{text!r} is not a JSON object like {{"top_k": 1}}')
    return value
