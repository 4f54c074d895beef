"""Where the project is, what needs vLLM's environment, what each module imports, and the rules."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from quantbench.docs.modules import modules

ROOT = Path(__file__).parents[1]
VLLM_PYTHON = ROOT / ".venv-vllm/bin/python"
needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.skipif(not VLLM_PYTHON.exists(), reason="the vLLM environment is not set up"),
]
RULES = {
    name: text
    for path in (ROOT / "rules").glob("*.smk")
    for name, text in re.findall(r"^(?:rule|checkpoint) (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.M | re.S)
}
"""Name and text of every rule, without those of the Snakefile, which make no file."""


def names(path: Path) -> set[str]:
    """Every imported name of a file, dotted; of `from a import b` both `a` and `a.b`."""
    imports: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return imports


def imported(path: Path) -> set[str]:
    """The modules of the library that a file imports, at its top or within a function."""
    prefix = "quantbench."
    parts = {name.removeprefix(prefix).replace(".", "/") for name in names(path) if name.startswith(prefix)}
    return parts & set(modules())


def copy_part(part: str, folder: Path) -> None:
    """A file or folder of the project below another folder, without what a process beside is just compiling."""
    if (ROOT / part).is_dir():
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("*.pyc.*"))
    else:
        shutil.copy2(ROOT / part, folder / part)
