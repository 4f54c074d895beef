"""Metrics and the columns of the tuple CSV as tables of the documentation, from where they are defined."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from quantbench.docs.markdown import table
from quantbench.judge.summary import columns
from quantbench.records.metric import METRICS


def metrics_table() -> str:
    """Every metric: name, unit, which direction is better, definition. As Markdown."""
    rows = ((metric.name, (metric.unit, metric.better, metric.formula)) for metric in METRICS.values())
    return _grouped(("metric", "unit", "better", "definition"), rows)


def tuple_columns_table() -> str:
    """Every column of the tuple CSV of a batch workload, which has the most. As Markdown."""
    rows = ((column.name, (column.unit, column.meaning)) for column in columns("batch"))
    return _grouped(("column", "unit", "meaning"), rows)


def _grouped(header: tuple[str, ...], rows: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Neighbours of which the same is to be said share a row."""
    groups = groupby(rows, key=lambda row: row[1])
    return table(header, [(", ".join(f"`{name}`" for name, _ in names), *cells) for cells, names in groups])
