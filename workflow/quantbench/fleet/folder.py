"""The working folder of a comparison: the project by links, with results, logs and memory of Snakemake of its own.

So every path of the configuration, every environment and every model is where it is in the project, the pipeline needs
to know nothing of fleets, and a command that a person repeats there means what it meant.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from quantbench import files

OVERRIDES: Final = "comparison.yaml"
"""The keys of a comparison's own that win over its files."""
DONE: Final = "done.json"
LOG: Final = "run.log"
"""What the last run in the folder has printed."""
MODELS: Final = "models"
"""Shared, so that a model is made once; whoever makes one holds its lock (`quality.made_models`)."""
OWN: Final = ("results", "logs", "fleets", OVERRIDES, DONE, LOG)


def prepare(root: Path, folder: Path, overrides: Mapping[str, Any]) -> None:
    """Make the folder, or bring its links and its overrides up to date; results and all else in it stay."""
    (root / MODELS).resolve().mkdir(parents=True, exist_ok=True)  # where it is a link to a disk that is empty, too
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in root.iterdir() if _is_linked(path.name)}
    for link in folder.iterdir():
        if link.is_symlink() and (link.name not in wanted or link.readlink() != wanted[link.name]):
            link.unlink()
    for name, target in wanted.items():
        with contextlib.suppress(FileExistsError):  # there already, or a file that somebody has put there
            (folder / name).symlink_to(target)
    text = f"# Made from the fleet file by every run.\n{yaml.safe_dump(dict(overrides), sort_keys=False)}"
    files.write_text(folder / OVERRIDES, text)


def as_seen_there(root: Path, path: str) -> str:
    """The path of a file of the project as it is in the folder: the same, unless it is none of what is linked."""
    inside = Path(os.path.normpath(root / path))
    if inside.is_relative_to(root) and _is_linked(inside.relative_to(root).parts[0]):
        return str(inside.relative_to(root))
    return str(inside)


def _is_linked(name: str) -> bool:
    return name not in OWN and (not name.startswith(".") or name.startswith(".venv"))
