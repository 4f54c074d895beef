"""Tables of docs/ that are made from the code: guards, metrics, columns of the tuple CSV, keys of the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from quantbench.docs.markdown import table
from quantbench.export import openmetrics
from quantbench.export.figures import FIGURES
from quantbench.judge.guards import GUARDS
from quantbench.judge.summary import columns
from quantbench.quality import gate
from quantbench.records import export
from quantbench.records.codes import CODES
from quantbench.records.layout import PATHS
from quantbench.records.metric import METRICS
from quantbench.records.request import FAILURES
from quantbench.wording import percent

_SCOPES: Final = {"block": "Of a block", "server": "Of a server", "pair": "Of a comparison", "run": "Of a run"}


def guards_table() -> str:
    """`guards` of docs/measurement.md: the guards in a table per scope."""
    head, parts = ("guard", "if found", "meaning", "detection", "remedy"), []
    for scope, heading in _SCOPES.items():
        rows = [(f"`{g.id}`", g.severity, g.meaning, g.detection, g.remedy) for g in GUARDS if g.scope == scope]
        parts.append(f"### {heading}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def failures_table() -> str:
    """`failures` of docs/measurement.md: why a request is a failure."""
    return table(("`reason`", "meaning"), [(f"`{code}`", meaning) for code, meaning in FAILURES.items()])


def codes_table(words: Mapping[str, str]) -> str:
    """`codes` of docs/measurement.md: every reason code with its sentence in the catalogue of words."""
    return table(("code", "meaning"), [(f"`{code}`", words[name]) for name, code in CODES.items()])


def gate_table(schema: Mapping[str, Any]) -> str:
    """`gate` of docs/measurement.md: what each use needs, and the limits of the likelihoods with their sources."""
    nodes = schema["properties"]["quality"]["properties"]["margins"]["properties"]
    margins = {name: node["default"] for name, node in nodes.items() if "default" in node}
    uses = [
        (
            f"`{use.use}`",
            ", ".join(f"`{name}`" for name in use.classes) or "all",
            percent(margin := gate.margin_of(use.use, margins), 0),
            str(gate.least(margin)),
            str(gate.least(gate.RELATIVE.value * margin)),
        )
        for use in gate.USES
    ]
    limits = [
        (f"`{x.measure}`", x.worse, *(f"{limit:.3g}" for limit in (x.strict, x.other, x.out)), x.source)
        for x in gate.LIMITS
    ]
    rules = [
        ("p of a loss and of hard failures", f"{gate.ALPHA.value:g}", gate.ALPHA.source),
        ("margin of the loss among items that either side passes", f"{gate.RELATIVE.value:g} ×", gate.RELATIVE.source),
    ]
    head = ("use", "classes", "margin", "items, none lost", "of these passed")
    return "\n\n".join(
        (
            table(head, uses),
            table(("threshold", "value", "source"), rules),
            table(("likelihood", "too far", "chat", "other uses", "not acceptable", "source"), limits),
        )
    )


def metrics_table() -> str:
    """Every metric: name, unit, which direction is better, definition."""
    rows = ((metric.name, (metric.unit, metric.better, metric.formula)) for metric in METRICS.values())
    return _grouped(("metric", "unit", "better", "definition"), rows)


def tuple_columns_table() -> str:
    """Every column of the tuple CSV of a batch workload, which has the most."""
    rows = ((column.name, (column.unit, column.meaning)) for column in columns("batch"))
    return _grouped(("column", "unit", "meaning"), rows)


def export_columns_table() -> str:
    """`columns` of docs/export.md: every column of the parquet."""
    kinds = {str: "text", int: "int64", float: "float64", bool: "bool", datetime: "timestamp (µs, UTC)"}
    rows = ((f"`{c.name}`", kinds[c.kind], "yes" if c.nullable else "no", c.meaning) for c in export.described())
    return table(("column", "type", "null", "meaning"), rows)


def export_metrics_table() -> str:
    """`metrics` of docs/export.md: every metric, by the file that it is of, with its gauge."""
    head, parts = ("metric", "unit", "gauge", "meaning"), []
    for file, some in groupby(sorted(FIGURES.values(), key=lambda f: list(PATHS).index(f.file)), key=lambda f: f.file):
        rows = [(f"`{f.name}`", f.unit, f"`{f.gauge()}`", f.meaning.format(of="`{of}`")) for f in some]
        parts.append(f"### Of `{PATHS[file]}`\n\n{table(head, rows)}")
    others = [(f"`{family.name}`", family.help) for family in openmetrics.OTHERS]
    parts.append(f"### Gauges besides\n\n{table(('gauge', 'meaning'), others)}")
    return "\n\n".join(parts)


def _grouped(header: tuple[str, ...], rows: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Neighbours of which the same is to be said share a row."""
    groups = groupby(rows, key=lambda row: row[1])
    return table(header, [(", ".join(f"`{name}`" for name, _ in names), *cells) for cells, names in groups])


def keys_table(schema: Mapping[str, Any]) -> str:
    """Every key of the configuration: dotted name, type, default, description."""
    rows = ((f"`{key}`", _kind(node), _default(node), " ".join(node["description"].split()))
            for key, node in _keys(schema, ""))  # fmt: skip
    return table(("key", "type", "default", "meaning"), rows)


def _keys(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, node in schema.get("properties", {}).items():
        yield f"{prefix}{key}", node
        if not node.get("x-no-defaults"):
            yield from _keys(node, f"{prefix}{key}.")
            if isinstance(node.get("additionalProperties"), Mapping):
                yield from _keys(node["additionalProperties"], f"{prefix}{key}.*.")


def _kind(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join("null" if value is None else str(value) for value in node["enum"])
    kinds = node.get("type", "any")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _default(node: Mapping[str, Any]) -> str:
    value = node.get("default", {})
    if value == {}:
        return ""
    return f"`{json.dumps(value) if value is None or isinstance(value, bool) else value}`"
