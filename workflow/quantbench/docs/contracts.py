"""What every file holds, from the types that it is read and written with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final, get_args

import msgspec

from quantbench.records import block, comparison, cost, decision, layout, measurement, quality, server, suite, tables

FILES: Final[dict[str, type[msgspec.Struct]]] = {
    "block": block.BlockContext,
    "calibration": block.Calibration,
    "ready": server.Ready,
    "session": server.Session,
    "startup": server.MeasuredStarts,
    "lanes": server.LaneRecord,
    "unfit": server.Unfit,
    "iso_fits": server.IsoFit,
    "verdict": comparison.Verdict,
    "measured": block.MeasuredTuple,
    "further": measurement.Further,
    "measurement": measurement.Measurement,
    "memory": tables.MemoryRow,
    "startup_table": tables.StartupRow,
    "impact": tables.ImpactRow,
    "answers": quality.Answer,
    "answered_with": quality.AnsweredWith,
    "quality": quality.PlainPair,
    "quality_details": quality.QualityDetails,
    "collected": quality.Answer,
    "collected_with": suite.CollectedWith,
    "kept_items": suite.KeptItem,
    "suite_score": suite.SuiteScore,
    "cost": cost.Cost,
    "decision": decision.Decision,
}
"""Kind of file (`layout.PATHS`): the record it holds; a list or mapping of them where it holds several."""


def contracts() -> str:
    """`contracts` of docs/files.md: path, then each record with its keys, types and meaning."""
    parts, seen = [], set[type[msgspec.Struct]]()
    for name, outer in FILES.items():
        parts.append(f"### `{layout.PATHS[name]}`")
        for kind in _with_parts(outer):
            if kind not in seen:
                seen.add(kind)
                parts.append(described(kind))
    return "\n\n".join(parts)


def described(kind: type[msgspec.Struct]) -> str:
    """One record: its name, its meaning, its keys."""
    meaning = " ".join((inspect.getdoc(kind) or "").split())
    return f"**{kind.__name__}**: {meaning}<br>{_keys(kind)}"


def _keys(kind: type[msgspec.Struct]) -> str:
    """The keys in their order, neighbours of one type together: "`a`, `b` (int); `c` (str or null)"."""
    groups = groupby(msgspec.structs.fields(kind), key=lambda field: _type(field.type))
    return "; ".join(f"{', '.join(f'`{f.encode_name}`' for f in fields)} ({of})" for of, fields in groups)


def _with_parts(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """A record and, after it, the records within it."""
    yield kind
    for field in msgspec.structs.fields(kind):
        for inner in _structs(field.type):
            yield from _with_parts(inner)


def _structs(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for argument in get_args(annotation):
        yield from _structs(argument)


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"\b(?:quantbench\.records\.\w+|typing)\.", "", text).replace("NoneType", "None")
    text = re.sub(r"Literal\[(.*?)\]", lambda literal: literal[1].replace(", ", " or "), text)
    text = re.sub(r"(?:int \| float|float \| int)", "number", text).replace("float", "number").replace("str", "text")
    return text.replace(", ...]", "]").replace("tuple[", "list[").replace("None", "null").replace(" | ", " or ")
