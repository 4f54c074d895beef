"""What each module imports, and the rules, read from the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from quantbench.docs.modules import modules

ROOT = Path(__file__).parents[1]
RULES = {
    name: text
    for path in (ROOT / "rules").glob("*.smk")
    for name, text in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.M | re.S)
}
"""Name and text of every rule, without those of the Snakefile, which make no file."""


def names(path: Path) -> set[str]:
    """Every imported name of a file, dotted; of `from a import b` both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imported(path: Path) -> set[str]:
    """The modules of the library that a file imports, at its top or within a function."""
    prefix = "quantbench."
    parts = {name.removeprefix(prefix).replace(".", "/") for name in names(path) if name.startswith(prefix)}
    return parts & set(modules())
