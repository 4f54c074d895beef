"""A finding: one thing that a page may say, as data. The sentence is in `report/words.yaml`, under its id."""

from __future__ import annotations

from typing import Any

from quantbench.records.base import Record


class Finding(Record, frozen=True, kw_only=True):
    """id: a key of the catalogue of words. values: what stands in the sentence's braces (numbers, names, lists)."""

    id: str
    values: dict[str, Any] = {}


def finding(id: str, **values: Any) -> Finding:  # noqa: A002
    """A finding with its values."""
    return Finding(id=id, values=values)
