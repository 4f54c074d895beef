"""Tables in Markdown, and blocks of a page that are made from the code, between two markers of their name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from quantbench.errors import QuantbenchError


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def fill(text: str, blocks: Mapping[str, str], page: str) -> str:
    """The page with its blocks made anew. Raises QuantbenchError for a block whose markers the page lacks."""
    for name, content in blocks.items():
        block = re.compile(rf"(<!-- {name}: begin -->\n).*?(\n<!-- {name}: end -->)", re.DOTALL)
        if not block.search(text):
            raise QuantbenchError(
                f"{page} has no lines <!-- {name}: begin --> and <!-- {name}: end -->",
                remedy="write them where the block goes",
            )
        text = block.sub(lambda match, content=content: f"{match[1]}{content}{match[2]}", text)  # type: ignore[misc]
    return text
