"""Requests and rows as parquet and CSV, written atomically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from quantbench.client.records import RequestRecord
from quantbench.files import atomic, damaged

_TEXT = {"prompt_id", "reason", "finish_reason", "fingerprint"}


def write_records(path: Path | str, records: Sequence[RequestRecord]) -> None:
    """One row per request; the column types do not depend on what happened."""
    rows = [record.row() for record in records]
    names = list(RequestRecord(index=0, prompt_id="").row())
    kinds = {n: pl.String if n in _TEXT else pl.Boolean if n == "ok" else pl.Int64 for n in names}
    with atomic(path) as part:
        pl.DataFrame(rows, schema=kinds).write_parquet(part)


def read_records(path: Path | str) -> list[RequestRecord]:
    """The inverse of `write_records`. Raises QuantbenchError naming the file if it is damaged."""
    try:
        return [RequestRecord.from_row(row) for row in pl.read_parquet(path).iter_rows(named=True)]
    except (pl.exceptions.PolarsError, KeyError, TypeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from None


def write_row(path: Path | str, row: Mapping[str, Any]) -> None:
    """One CSV row with a header, columns in the mapping's order; None is an empty field."""
    write_rows(path, [row])


def write_rows(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """CSV with a header; all rows must have the same columns; None is an empty field."""
    with atomic(path) as part:
        pl.DataFrame(rows, infer_schema_length=None).write_csv(part, float_precision=None)
