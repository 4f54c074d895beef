"""Read the result files that a report rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from quantbench import block, guards
from quantbench.errors import QuantbenchError
from quantbench.facts import Facts, Json
from quantbench.files import read_json

PathLike = Path | str


def load_facts(inputs: Any, config: Mapping[str, Any]) -> Facts:
    """The facts from a job's named inputs.

    Needs `verdict`, `capacity`, `memory`, `ready`, `measurement`; takes `impact`, `quality`, `cost` where the job
    has them. `config` is the narrow dict for reports.
    """
    return Facts(
        config=dict(config) | {"reason_words": guards.meanings()},
        verdict=read_json(inputs.verdict),
        capacity=read_capacity(inputs.capacity),
        memory=read_table(inputs.memory),
        ready=by_model(inputs.ready),
        measurement=read_json(inputs.measurement),
        impact=read_table(inputs.impact) if inputs.get("impact") else [],
        quality={d["variant"]: d for d in map(read_json, inputs.get("quality") or [])},
        cost=read_json(inputs.cost) if inputs.get("cost") else {},
    )


def read_table(path: PathLike) -> list[Json]:
    """The rows of a CSV; an empty field is None."""
    try:
        return pl.read_csv(path, infer_schema_length=None).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise QuantbenchError(
            f"{path}: not a readable CSV: {error}", remedy="delete it, the next run makes it again"
        ) from None


def read_capacity(paths: Iterable[PathLike]) -> dict[str, dict[str, list[Json]]]:
    """{workload: {model: rows}} from capacity CSVs; the rows say which they are."""
    found: dict[str, dict[str, list[Json]]] = {}
    for path in paths:
        for row in read_table(path):
            found.setdefault(row["workload"], {}).setdefault(row["model"], []).append(row)
    return found


def by_model(paths: Iterable[PathLike]) -> dict[str, Json]:
    """{model: record} of ready.json or session.json files."""
    return {record["model"]: record for record in map(read_json, paths)}


def judged_contexts(
    paths: Iterable[PathLike], ready: Mapping[str, Json], calibrations: Iterable[PathLike]
) -> list[Json]:
    """Block contexts with bottleneck and guards evaluated on the kept facts."""
    known = {c["concurrency"]: c for c in map(read_json, calibrations)}
    contexts = map(read_json, paths)
    return [block.judged(c, ready.get(served(c["model"]), {}), known.get(c["concurrency"])) for c in contexts]


def served(arm: str) -> str:
    """The model that answers an arm: the A/A arm is served by the baseline."""
    return arm.partition("__aa")[0]
