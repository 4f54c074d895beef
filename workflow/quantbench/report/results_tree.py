"""Read the result files that a report rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from quantbench.client import tables_io
from quantbench.config.configuration import served_model
from quantbench.files import damaged, read_json, write_text
from quantbench.judge import guards
from quantbench.judge.pairing import BlockKey, Samples
from quantbench.records import metric
from quantbench.report.facts import Facts, Json

PathLike = Path | str
CONTEXT_KEYS = (
    *("model", "workload", "style", "concurrency", "max_tokens", "block", "min_seconds", "started_unix", "duration_s"),
    *("metrics", "client", "server", "telemetry", "lane"),
)
COMPARISON_COLUMNS = (
    *("gpu_name", "workload", "baseline", "variant", "concurrency", "max_tokens", "metric"),
    *("baseline_value", "variant_value", "ratio", "ci_low", "ci_high", "n_pairs", "p_value", "p_holm", "margin"),
    *("code", "words", "primary", "interleaved", "valid", "reasons"),
)
NAMES = ("gpu_name", "model", "label", "workload", "baseline", "variant", "chat_workload", "batch_workload", "kernel")
"""Columns of text that a person chooses."""


def load_facts(inputs: Any, config: Mapping[str, Any], command: Sequence[str] = ()) -> Facts:
    """The facts from a job's named inputs.

    Needs `verdict`, `capacity`, `memory`, `ready`, `measurement`; takes `impact`, `quality`, `cost` where the job
    has them, and `startup`. `config` is the narrow dict for reports, `command` the line that a page may print.
    """
    return Facts(
        config=dict(config) | {"reason_words": guards.meanings()},
        verdict=read_json(inputs.verdict),
        capacity=read_capacity(inputs.capacity),
        memory=read_table(inputs.memory),
        ready=by_model(inputs.ready),
        measurement=read_json(inputs.measurement),
        startup=read_table(inputs.startup) if inputs.get("startup") else [],
        impact=read_table(inputs.impact) if inputs.get("impact") else [],
        quality={d["variant"]: d for d in map(read_json, inputs.get("quality") or [])},
        cost=read_json(inputs.cost) if inputs.get("cost") else {},
        command=command,
    )


def read_table(path: PathLike) -> list[Json]:
    """The rows of a CSV; an empty field is None."""
    return read_frame(path).to_dicts()


def read_frame(path: PathLike, *columns: str) -> pl.DataFrame:
    """A CSV that has these columns; a name stays text also where it looks like a number ("007").

    Raises QuantbenchError naming the file if it is not whole or not one of ours.
    """
    content = Path(path).read_bytes()
    if not content.endswith(b"\n"):
        raise damaged(path, "its last line has no end")  # a number that was cut off is another number
    try:
        frame = pl.read_csv(content, infer_schema_length=None, schema_overrides=dict.fromkeys(NAMES, pl.String))
    except pl.exceptions.PolarsError as error:
        raise damaged(path, f"not a readable CSV: {error}") from None
    if lacking := [name for name in columns if name not in frame.columns]:
        raise damaged(path, f"without the columns {', '.join(lacking)}")
    return frame


def read_tuple(path: PathLike) -> pl.DataFrame:
    """The one row of a tuple's CSV."""
    frame = read_frame(path, "model", "workload", "concurrency", "max_tokens")
    if frame.height != 1:
        raise damaged(path, f"{frame.height} rows instead of one")
    return frame


def read_capacity(paths: Iterable[PathLike]) -> dict[str, dict[str, list[Json]]]:
    """{workload: {model: rows}} from capacity CSVs; the rows say which they are."""
    found: dict[str, dict[str, list[Json]]] = {}
    for path in paths:
        for row in read_frame(path, "workload", "model").to_dicts():
            found.setdefault(row["workload"], {}).setdefault(row["model"], []).append(row)
    return found


def by_model(paths: Iterable[PathLike]) -> dict[str, Json]:
    """{model: record} of ready.json or session.json files."""
    return {record["model"]: record for record in (read_json(path, "model") for path in paths)}


def read_context(path: PathLike) -> Json:
    """The context of one block, as it was kept."""
    return dict(read_json(path, *CONTEXT_KEYS))


def read_calibration(path: PathLike) -> Json:
    """The client's own error at one concurrency."""
    return dict(read_json(path, "concurrency", "ttft_error_p50_ms", "limit_tok_s"))


def judged_contexts(
    paths: Iterable[PathLike], ready: Mapping[str, Json], calibrations: Iterable[PathLike]
) -> list[Json]:
    """Block contexts with bottleneck and guards evaluated on the kept facts."""
    known = {c["concurrency"]: c for c in map(read_calibration, calibrations)}
    contexts = map(read_context, paths)
    return [guards.judged(c, ready.get(served_model(c["model"]), {}), known.get(c["concurrency"])) for c in contexts]


def samples(contexts: Iterable[Json], records: Iterable[PathLike]) -> dict[BlockKey, Samples]:
    """TTFT and E2E in ms per block, for percentiles that single blocks are too short for.

    `records` are the parquet files in the order of the contexts.
    """
    found: dict[BlockKey, Samples] = {}
    for c, path in zip(contexts, records, strict=True):
        key = (c["model"], c["workload"], c["concurrency"], c["max_tokens"], c["block"])
        good = [record for record in tables_io.read_records(path) if record.ok]
        times = {"ttft_ms": map(metric.ttft_ms, good), "e2e_ms": map(metric.e2e_ms, good)}
        found[key] = {name: [t for t in values if t is not None] for name, values in times.items()}
    return found


def pair_results(
    contexts: Sequence[Json], ready: Mapping[str, Json], baseline: str, variant: str
) -> list[guards.GuardResult]:
    """The guards of one comparison."""
    return guards.evaluate_pair(*_sides(contexts, ready, baseline, variant))


def _sides(
    contexts: Sequence[Json], ready: Mapping[str, Json], baseline: str, variant: str
) -> tuple[Json, Json, list[Json], list[Json]]:
    """Server records and blocks of both arms."""
    a, b = ([c for c in contexts if c["model"] == model] for model in (baseline, variant))
    return ready.get(baseline, {}), ready.get(variant, {}), a, b


def pair_failures(
    contexts: Sequence[Json], ready: Mapping[str, Json], baseline: str, variants: Iterable[str]
) -> dict[str, list[str]]:
    """{variant: guards that make its whole comparison invalid}."""
    return {v: guards.comparison_failures(*_sides(contexts, ready, baseline, v)) for v in variants}


def other_guards(
    contexts: Sequence[Json], ready: Mapping[str, Json], sessions: Mapping[str, Json], baseline: str
) -> list[Json]:
    """Guards beyond single blocks: {id, of, status, detail} of each server, each comparison and the run."""
    found = [(model, guards.evaluate_server(record)) for model, record in ready.items()]
    variants = [model for model in ready if model != baseline]
    found += [(variant, pair_results(contexts, ready, baseline, variant)) for variant in variants]
    found += [("run", guards.evaluate_run(dict(sessions)))]
    return [
        {"id": result.id, "of": of, "status": result.status, "detail": result.detail}
        for of, results in found
        for result in results
    ]


def write_comparison(path: PathLike, rows: Sequence[Json]) -> None:
    """comparison/{workload}.csv; the reasons are joined by "; "."""
    flat = [row | {"reasons": "; ".join(row["reasons"])} for row in rows]
    write_table(path, flat, COMPARISON_COLUMNS)


def write_table(path: PathLike, rows: Sequence[Json], columns: Sequence[str]) -> None:
    """A CSV with these columns, also when there is no row."""
    if rows:
        tables_io.write_rows(path, [{name: row.get(name) for name in columns} for row in rows])
    else:
        write_text(path, ",".join(columns) + "\n")
