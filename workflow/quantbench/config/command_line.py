"""The snakemake line that repeats or extends a run, as its words.

It is made where the Snakefile is read and reaches scripts through snakemake's `config`, not through their params: no
result depends on how it was asked for, so another way of asking makes nothing again.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def repeat(
    gpu: str, configfiles: Iterable[Path], values: Iterable[str], *, here: Path | None = None, cores: int = 1
) -> list[str]:
    """`snakemake --cores 1 --configfile my.yaml --config gpu=h100-80gb blocks=8`, word by word.

    `configfiles` and `values` ("key=value") are as given to snakemake, in their order; files below `here` are named
    relative to it. `gpu` is the profile's name, also where it was detected or stood in a file, so that the line means
    the same on another machine. Cores change the order of work only and are not kept.
    """
    named = [str(path.relative_to(here) if here and path.is_relative_to(here) else path) for path in configfiles]
    files = ["--configfile", *named] if named else []
    line = ["snakemake", "--cores", str(cores), *files, "--config", f"gpu={gpu}"]
    return line + [value for value in values if not value.startswith("gpu=")]


def with_value(line: Sequence[str], key: str, value: object) -> list[str]:
    """The same line with `key=value` in place of what it said about that top-level key; mappings as JSON."""
    written = json.dumps(dict(sorted(value.items()))) if isinstance(value, Mapping) else value
    return [word for word in line if not word.startswith(f"{key}=")] + [f"{key}={written}"]


def text(line: Sequence[str]) -> str:
    """What to type in a shell."""
    return shlex.join(line)
