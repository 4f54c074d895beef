"""Results folders: found below what a person names, and read, typed, as far as a run has come."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from quantbench import results
from quantbench.errors import QuantbenchError
from quantbench.export.rows import RunFiles
from quantbench.files import write_bytes
from quantbench.records.base import Record, read
from quantbench.records.comparison import Verdict
from quantbench.records.cost import Cost
from quantbench.records.decision import Decision
from quantbench.records.export import ExportRow, described
from quantbench.records.layout import PATHS
from quantbench.records.measurement import Measurement
from quantbench.records.quality import QualityDetails
from quantbench.records.server import Ready
from quantbench.records.suite import SuiteScore
from quantbench.records.tables import CapacityRow, ImpactRow, MemoryRow, StartupRow

_MARKS: Final = ("raw", "cells", "servers", "comparison", "measurement.json", "memory.csv")
_BELOW: Final = ("*", "results/*", "*/results/*", "*/*/results/*", "fleets/*/*/results/*")
"""Where results folders lie below `results`, a working folder, a fleet, `fleets`, and the folder of fleets."""

R = TypeVar("R", bound=Record)
T = TypeVar("T")


def find(named: Iterable[Path]) -> list[Path]:
    """The results folders that are named, or lie below what is named, each once, in order.

    Raises QuantbenchError for a folder that is none and has none.
    """
    found: dict[Path, Path] = {}
    for folder in named:
        own = (
            [folder]
            if _is_results(folder)
            else sorted({p for glob in _BELOW for p in folder.glob(glob) if _is_results(p)})
        )
        if not own:
            what = "no results folder, and none is below it" if folder.is_dir() else "no folder"
            raise QuantbenchError(
                f"{folder} is {what}",
                remedy="name a folder that a run has written: results/{gpu}, or fleets/{fleet} for all of a fleet",
            )
        for path in own:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _is_results(folder: Path) -> bool:
    """Whether a folder holds what a run writes: two of its files, as `raw` alone may be anybody's."""
    return sum((folder / mark).exists() for mark in _MARKS) >= 2


def load(folder: Path) -> RunFiles:
    """What a results folder holds. Raises QuantbenchError naming the file that is damaged, or that there is nothing."""
    absolute = folder.resolve()
    fleet, comparison = absolute.parts[-4:-2] if _in_a_fleet(absolute) else (None, None)
    below = _Below(folder)
    files = RunFiles(
        run=_as_text(folder),
        gpu=_as_text(absolute.name),
        fleet=fleet,
        comparison=comparison,
        tuples=below.tuples(),
        blocks=list(below.each("block", results.read_block)),
        verdict=below.one("verdict", Verdict),
        measurement=below.one("measurement", Measurement),
        decision=below.one("decision", Decision),
        cost=below.one("cost", Cost),
        memory=below.rows("memory", MemoryRow),
        startup=below.rows("startup_table", StartupRow),
        impact=below.rows("impact", ImpactRow),
        quality=below.quality(),
        scores=[score for _, score in below.each("suite_score", lambda path: read(path, SuiteScore))],
        ready={record.model: record for _, record in below.each("ready", lambda path: read(path, Ready))},
    )
    if files.empty:
        raise QuantbenchError(
            f"{folder} has no results yet", remedy="run snakemake, or name a results folder of a run that measured"
        )
    return files


def _in_a_fleet(folder: Path) -> bool:
    """fleets/{fleet}/{comparison}/results/{gpu}"""
    return len(folder.parts) > 5 and folder.parts[-2] == "results" and folder.parts[-5] == "fleets"


def _as_text(path: Path | str) -> str:
    """A path may be no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Below:
    """The files of one results folder. A file that is gone when it is read is one that a run is making anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def each(self, kind: str, reader: Callable[[Path], T]) -> Iterator[tuple[str, T]]:
        """Files of a kind, by their names below the folder, read."""
        pattern = re.sub(r"\{\w+\}", "*", PATHS[kind])
        for path in sorted(self.folder.glob(pattern)):
            with suppress(FileNotFoundError):
                yield path.relative_to(self.folder).as_posix(), reader(path)

    def one(self, kind: str, record: type[R]) -> R | None:
        """The file of a kind that has one, where it is there."""
        return next((found for _, found in self.each(kind, lambda path: read(path, record))), None)

    def rows(self, kind: str, record: type[R]) -> list[R]:
        """The rows of a CSV, where it is there."""
        return next((rows for _, rows in self.each(kind, lambda path: results.read_rows(path, record))), [])

    def tuples(self) -> list[tuple[str, CapacityRow]]:
        """Rows of the tuple CSVs, which the control has too; of the capacity tables where there is nothing else."""
        for kind in ("cell", "capacity"):
            found = self.each(kind, lambda path: results.read_capacity([path]))
            if rows := [(path, row) for path, some in found for row in some]:
                return rows
        return []

    def quality(self) -> list[QualityDetails]:
        """Of each variant; `quality_details.json` is a copy of the first one's, and all that old results have."""
        for kind in ("quality_details", "first_quality_details"):
            if found := [details for _, details in self.each(kind, lambda path: read(path, QualityDetails))]:
                return found
        return []


def write_parquet(path: Path, rows: Iterable[ExportRow]) -> int:
    """The rows as one table, whose columns and types do not depend on what they hold; how many they are."""
    import polars as pl

    table, content = pl.DataFrame([msgspec.structs.asdict(row) for row in rows], schema=schema()), BytesIO()
    table.write_parquet(content)
    write_bytes(path, content.getvalue())
    return table.height


def schema() -> dict[str, Any]:
    """{column: polars' type}, of the types of `ExportRow`."""
    import polars as pl

    types = {
        int: pl.Int64(),
        float: pl.Float64(),
        str: pl.String(),
        bool: pl.Boolean(),
        datetime: pl.Datetime("us", "UTC"),
    }
    return {column.name: types[column.kind] for column in described()}
