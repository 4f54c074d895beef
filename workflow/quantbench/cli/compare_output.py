"""A page as a terminal shows it: its lead, and its tables with aligned columns."""

from __future__ import annotations

from collections.abc import Iterator

from quantbench.report.document import Bullets, Page, Paragraph, Part, Table
from quantbench.report.marks import plain
from quantbench.visible import visible


def printed(page: Page) -> str:
    """The text of a page, without marks."""
    parts = [*page.lead]
    lines = [line for part in parts for line in _lines(part)]
    for section in page.sections:
        lines += ["", section.title, *(line for part in section.parts for line in _lines(part))]
    return visible("\n".join(map(plain, lines)))


def _lines(part: Part) -> Iterator[str]:
    if isinstance(part, Paragraph):
        yield part.text
    elif isinstance(part, Bullets):
        yield from (f"- {item}" for item in part.items)
    elif isinstance(part, Table):
        rows = [tuple(map(plain, row)) for row in (part.columns, *part.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = zip(row, widths, range(len(widths)), strict=True)
            yield "  ".join(f"{c:>{w}}" if i in part.numeric else f"{c:<{w}}" for c, w, i in cells).rstrip()
        yield from part.notes
