"""Requests and rows as parquet and CSV, written atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from quantbench.files import damaged, write_bytes, write_text
from quantbench.records.request import COLUMNS, LATER, RequestRecord

_TYPES: Final = {
    **dict.fromkeys(COLUMNS, pl.Int64()),
    **dict.fromkeys(("prompt_id", "reason", "finish_reason", "fingerprint"), pl.String()),
    "ok": pl.Boolean(),
    "gaps_us": pl.List(pl.Int64),
}


_UNREADABLE: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises for a file that is no parquet, or damaged; the second is no Exception."""


def write_records(path: Path | str, records: Sequence[RequestRecord]) -> str:
    """One row per request; the column types do not depend on what happened. Returns the file's SHA-256."""
    table, content = pl.DataFrame([record.row() for record in records], schema=_TYPES), BytesIO()
    table.write_parquet(content)  # in memory: on a full disk polars says everything but that
    write_bytes(path, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def read_records(path: Path | str) -> list[RequestRecord]:
    """The inverse of `write_records`. Raises QuantbenchError naming the file, and the column that lacks or is other."""
    try:
        table = pl.read_parquet(path)
        known = [name for name in COLUMNS if name in table.columns]
        if lacking := [name for name in COLUMNS if name not in known and name not in LATER]:
            raise damaged(path, f"without the column {', '.join(lacking)}")
        return msgspec.convert(table.select(known).to_dicts(), list[RequestRecord])
    except (*_UNREADABLE, msgspec.ValidationError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from None


def longest_prompt(path: Path | str) -> int | None:
    """Most prompt tokens of a request in a file of `write_records`; None where none was counted."""
    try:
        longest = pl.read_parquet(path, columns=["prompt_tokens"])["prompt_tokens"].max()
    except _UNREADABLE as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from None
    return longest if isinstance(longest, int) else None


def write_rows(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """CSV with a header, columns in the mappings' order, which is the same in all; None is an empty field."""
    write_text(path, pl.DataFrame(rows, infer_schema_length=None).write_csv())
