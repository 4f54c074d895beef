"""What a page is made of: sections of paragraphs, lists, tables and verbatim text.

Templates turn it into Markdown or HTML. Text may carry `marks`, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from quantbench.wording import BLANK, clipped

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
NUMERIC: Final = re.compile(r"(p\d\d )?[−+]?\d[\d.,]*( %)?( \[[^\]]*\])?( [▲▼≈?])?|" + BLANK)
"""A cell that is a figure, with its interval and its mark."""
MOST_IN_CELL: Final = 2_000
"""Characters of a cell that are shown."""


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]
    kind: str = "bullets"


@dataclass(frozen=True)
class Table:
    """Cells that are formatted already. `numeric` columns are set right; `notes` explain blanks and terms."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    numeric: frozenset[int] = frozenset()
    kind: str = "table"


@dataclass(frozen=True)
class Code:
    """Text shown exactly as it is."""

    text: str
    caption: str = ""
    kind: str = "code"


@dataclass(frozen=True)
class Details:
    """Parts that an HTML page folds away under a summary."""

    summary: str
    parts: tuple[Part, ...]
    kind: str = "details"


@dataclass(frozen=True)
class Compare:
    """Two texts shown side by side, with what differs marked."""

    left: Code
    right: Code
    kind: str = "compare"


Part = Paragraph | Bullets | Table | Code | Details | Compare


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: tuple[Part, ...] = ()
    subsections: tuple[Section, ...] = field(default=())


@dataclass(frozen=True)
class Page:
    """A title, what stands before the first heading, and the sections."""

    title: str
    lead: tuple[Part, ...]
    sections: tuple[Section, ...]


def text(*sentences: str) -> Paragraph:
    """One paragraph of the sentences that are not empty."""
    return Paragraph(" ".join(sentence for sentence in sentences if sentence))


def bullets(items: Sequence[str]) -> tuple[Part, ...]:
    """A list, or nothing where there is nothing to list."""
    present = tuple(item for item in items if item)
    return (Bullets(present),) if present else ()


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """{key: the items that have it}, in the order of the first ones."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", notes: Iterable[str] = ()
) -> Table:
    """A table whose columns of figures are numeric; empty cells become "–"."""
    cells = tuple(tuple(clipped(cell, MOST_IN_CELL) if cell.strip() else BLANK for cell in row) for row in rows)
    numeric = (i for i in range(len(columns)) if all(NUMERIC.fullmatch(row[i]) for row in cells))
    return Table(tuple(columns), cells, caption, tuple(dict.fromkeys(filter(None, notes))), frozenset(numeric))


def without_empty_columns(source: Table) -> Table:
    """The table less the columns in which every cell is blank."""
    keep = [i for i in range(len(source.columns)) if not source.rows or any(row[i] != BLANK for row in source.rows)]
    return replace(
        source,
        columns=tuple(source.columns[i] for i in keep),
        rows=tuple(tuple(row[i] for i in keep) for row in source.rows),
        numeric=frozenset(new for new, old in enumerate(keep) if old in source.numeric),
    )
