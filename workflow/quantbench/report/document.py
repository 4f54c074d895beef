"""What a page is made of: sections of paragraphs, lists, tables and verbatim text.

Templates turn it into Markdown or HTML. Text may carry `code` and **bold**, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quantbench.wording import BLANK


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

    @property
    def fence(self) -> str:
        """A Markdown fence longer than any run of backticks in the text."""
        longest = run = 0
        for character in self.text:
            run = run + 1 if character == "`" else 0
            longest = max(longest, run)
        return "`" * max(3, longest + 1)


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
    kept = tuple(item for item in items if item)
    return (Bullets(kept),) if kept else ()


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    notes: Sequence[str] = (),
    words: Sequence[int] = (0,),
) -> Table:
    """A table whose columns are numeric except those in `words`; empty cells become "–"."""
    cells = tuple(tuple(cell if cell.strip() else BLANK for cell in row) for row in rows)
    numeric = frozenset(range(len(columns))) - frozenset(words)
    kept = tuple(dict.fromkeys(note for note in notes if note))
    return Table(tuple(columns), cells, caption, kept, numeric)


def without_empty_columns(source: Table) -> Table:
    """The table less the columns in which every cell is blank."""
    keep = [i for i in range(len(source.columns)) if any(row[i] != BLANK for row in source.rows)]
    return Table(
        tuple(source.columns[i] for i in keep),
        tuple(tuple(row[i] for i in keep) for row in source.rows),
        source.caption,
        source.notes,
        frozenset(new for new, old in enumerate(keep) if old in source.numeric),
    )
