"""Result files read and written, typed. What is not as we write it is one line that names file and key."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import polars as pl
from msgspec.structs import replace

from quantbench.client import tables_io
from quantbench.client.metrics import figure
from quantbench.config.expected import Expected
from quantbench.errors import QuantbenchError
from quantbench.files import damaged, sha256, write_text
from quantbench.judge import guards, iso_memory
from quantbench.judge.pairing import BlockKey, Samples
from quantbench.judge.two_runs import RunFacts
from quantbench.judge.verdict import build_verdict
from quantbench.records.base import Record, Row, convert, read
from quantbench.records.block import BlockContext, Calibration, HostLoad, MeasuredWith
from quantbench.records.cell import served_model
from quantbench.records.comparison import Verdict
from quantbench.records.cost import Cost
from quantbench.records.decision import Decision
from quantbench.records.layout import Folder, is_place_of
from quantbench.records.measurement import Check, Measurement
from quantbench.records.metric import METRICS, e2e_ms, ttft_ms
from quantbench.records.plan import BASELINE, VARIANT, ArmPlan, ComparisonPlan, ReportPlan
from quantbench.records.pool import Measured, Pool
from quantbench.records.quality import QualityDetails
from quantbench.records.request import RequestRecord
from quantbench.records.run import Run
from quantbench.records.server import MeasuredStarts, Ready, Session
from quantbench.records.suite import SuiteScore
from quantbench.records.tables import CapacityRow, ImpactRow, MemoryRow, StartupRow
from quantbench.records.two_runs import KeptVerdict

PathLike = Path | str
CELL_COLUMNS: Final = ("model", "workload", "concurrency", "max_tokens")
TEXT_COLUMNS: Final = ("gpu_name", "model", "workload", "reasons", "bottleneck", "bound", "failure_reasons")
"""Columns of a tuple CSV that hold text; all others hold figures."""
HOST_COLUMNS: Final = HostLoad.__struct_fields__
"""Columns of a tuple CSV that tell of the client's host have the names of its facts."""
_COUNTS: Final = ("n_used", "throughput_cv", "p99_ttft_ms", "p99_e2e_ms")
_SHARES: Final = ("bandwidth_share", "compute_share")
_SUMS: Final = ("n", "failures", "tokens_out", "duration_s")
"""Metrics of a block that are sums over its requests, and tell those of another block: the last is kept to the ns."""


R = TypeVar("R", bound=Record)
M = TypeVar("M", Ready, Session, MeasuredStarts)


def load_run(inputs: Any, plan: ReportPlan, command: Sequence[str] = ()) -> Run:
    """The run from a job's named inputs.

    Needs `verdict`, `capacity`, `memory`, `ready`, `measurement`; takes `startup`, `impact`, `quality`, `suites`,
    `cost` and `decision` where the job has them. `command` is the line that a page may print.
    """
    details = [read(path, QualityDetails) for path in inputs.get("quality") or []]
    scores = [read(path, SuiteScore) for path in inputs.get("suites") or []]
    return Run(
        plan=plan,
        verdict=read(inputs.verdict, Verdict),
        capacity=read_capacity(inputs.capacity),
        memory=read_rows(inputs.memory, MemoryRow),
        ready=by_model(inputs.ready, Ready),
        measurement=read(inputs.measurement, Measurement),
        startup=read_rows(inputs.startup, StartupRow) if inputs.get("startup") else (),
        impact=read_rows(inputs.impact, ImpactRow) if inputs.get("impact") else (),
        quality={pair.variant: pair for pair in details},
        suites={v: [score for score in scores if score.variant == v] for v in dict.fromkeys(s.variant for s in scores)},
        cost=read(inputs.cost, Cost) if inputs.get("cost") else None,
        decision=read(inputs.decision, Decision) if inputs.get("decision") else None,
        command=command,
    )


def by_model(paths: Iterable[PathLike], kind: type[M]) -> dict[str, M]:
    """{model: record} of files such as ready.json."""
    return {record.model: record for record in (read(path, kind) for path in paths)}


def read_block(path: PathLike) -> BlockContext:
    """One block as it was kept."""
    return read(path, BlockContext)


def _read_in_place(path: PathLike) -> BlockContext:
    """The same. QuantbenchError for a copy under the name of another block: it would count twice."""
    block, own = read_block(path), Path(path)
    if not is_place_of(own, block.arm, block.cell, block.block):
        raise damaged(path, f"it is b{block.block} of {block.arm}, {block.cell.key}")
    return block


def requests_of(block: BlockContext, path: PathLike) -> list[RequestRecord]:
    """The requests of a block. QuantbenchError for a file that is damaged, or of another block: figures rest on it."""
    if block.records_sha256 and sha256(Path(path)) != block.records_sha256:
        raise damaged(path, f"it is not the file that was written with {Path(path).stem}.json beside it")
    records = tables_io.read_records(path)
    pool = Pool([Measured(records)])
    pairs = ((name, block.metrics.get(name), figure(METRICS[name], pool)) for name in _SUMS)
    if others := [f"{name} {own} there, {found} here" for name, own, found in pairs if own not in (None, found)]:
        raise damaged(path, f"it is of another block than {Path(path).stem}.json beside it ({', '.join(others)})")
    return records


def contexts(stems: Iterable[str]) -> list[str]:
    """The files of blocks that tell how they were measured; stems: their paths without suffix."""
    return [f"{stem}.json" for stem in stems]


def records(stems: Iterable[str]) -> list[str]:
    """The files of their requests."""
    return [f"{stem}.parquet" for stem in stems]


def judged_blocks(
    paths: Iterable[PathLike],
    ready: Mapping[str, Ready],
    calibrations: Iterable[Calibration],
    expected: Expected | None = None,
    arms: Mapping[str, ArmPlan] | None = None,
) -> list[BlockContext]:
    """Blocks with bottleneck and guards judged anew on the kept facts; arms: what is declared of each model.

    One line on stderr for each cell with blocks that are not as `expected`: they stand in no figure.
    """
    known, declared = {calibration.concurrency: calibration for calibration in calibrations}, arms or {}
    judged = [
        guards.judged(
            block,
            ready.get(block.served),
            known.get(block.concurrency),
            _wanted(block, ready, expected),
            declared.get(block.served, BASELINE),
        )
        for block in map(_read_in_place, paths)
    ]
    for line in _left_out(judged):
        print(f"quantbench: {line}", file=sys.stderr, flush=True)
    return judged


def _wanted(block: BlockContext, ready: Mapping[str, Ready], expected: Expected | None) -> MeasuredWith | None:
    """For this block. The files of a model that was made in this very run are those that its server has loaded."""
    wanted, server = expected.block(block.arm, block.cell) if expected else None, ready.get(block.served)
    if wanted is None or server is None or wanted.server.source_id:
        return wanted
    return replace(wanted, server=replace(wanted.server, source_id=server.source_id))


def _left_out(blocks: Iterable[BlockContext]) -> Iterator[str]:
    others: dict[tuple[str, str, str], list[int]] = {}
    for block in blocks:
        for guard in block.guards:
            if guard.id == guards.OTHER and guard.status == "fail":
                others.setdefault((block.arm, block.cell.key, guard.detail), []).append(block.block)
    for (arm, cell, detail), numbers in others.items():
        which = ", ".join(f"b{number}" for number in numbers)
        yield f"{arm} {cell}: {which} left out, measured with another configuration ({detail}); run snakemake again"


def samples(blocks: Iterable[BlockContext], records: Iterable[PathLike]) -> dict[BlockKey, Samples]:
    """TTFT and E2E in ms per block, for percentiles that single blocks are too short for.

    `records` are the parquet files in the order of the blocks.
    """
    times_of: dict[BlockKey, Samples] = {}
    for block, path in zip(blocks, records, strict=True):
        good = [record for record in requests_of(block, path) if record.ok]
        times = {"ttft_ms": map(ttft_ms, good), "e2e_ms": map(e2e_ms, good)}
        key = (block.arm, block.cell, block.block)
        times_of[key] = {name: [t for t in values if t is not None] for name, values in times.items()}
    return times_of


def verdict_of(
    blocks: Sequence[BlockContext], records: Iterable[PathLike], ready: Mapping[str, Ready], plan: ComparisonPlan
) -> Verdict:
    """What judged blocks say of the variants, without words; records: their parquet files, in the same order."""
    files = list(records)
    requests = samples(blocks, files)
    failures = pair_failures(blocks, ready, plan.baseline, plan.variants, plan.arms)
    verdict = build_verdict(
        blocks,
        baseline=plan.baseline,
        primary=plan.primary,
        variants=plan.variants,
        margin=plan.margin,
        samples=requests,
        pair_failures=failures,
        target=plan.precision,
        planned_blocks=plan.blocks,
        most_blocks=plan.most_blocks,
        gpu_name=plan.gpu_name,
        gpus={model: arm.gpus for model, arm in plan.arms.items()},
        starts=plan.starts,
        until_decided=plan.until_decided,
    )
    longest = {name: longest_request(files, {name: iso.max_tokens}) for name, iso in plan.iso_memory.items()}
    apart = iso_memory.compare(
        blocks, plan, verdict, ready=ready, longest=longest, samples=requests, pair_failures=failures
    )
    return replace(verdict, iso_memory=apart)


def kept_run(path: PathLike) -> RunFacts:
    """A run from the folder of its results, wherever that lies now; judged anew, without its configuration.

    Raises QuantbenchError for a folder without blocks, and for a model without its server's record.
    """
    folder = Folder(Path(path).name, Path(path))
    files = sorted(
        Path(path).glob(folder.path("block", arm="*", workload="*", concurrency="*", max_tokens="*", block="*"))
    )
    if not files:
        raise _no_blocks(Path(path))
    ready = by_model(Path(path).glob(folder.path("ready", model="*")), Ready)
    if lacking := [
        name for name in dict.fromkeys(served_model(file.parents[2].name) for file in files) if name not in ready
    ]:
        if (own := folder.file("ready", model=lacking[0])).exists():
            raise damaged(own, f"it is not of {lacking[0]}")
        raise QuantbenchError(
            f"{own} is not there: nothing says how {lacking[0]} was served",
            remedy="keep the folder `servers` of a run beside `raw`",
        )
    calibrations = [
        read(file, Calibration) for file in sorted(Path(path).glob(folder.path("calibration", concurrency="*")))
    ]
    # What was declared is in no result file. Runs that both draft tokens may be compared; if one does, that differs.
    arms = {name: ArmPlan(gpus=len(r.devices) or 1, differs_in=("weights", "speculative")) for name, r in ready.items()}
    blocks = judged_blocks(files, ready, calibrations, None, arms)
    requests = [(b, f.with_suffix(".parquet")) for b, f in zip(blocks, files, strict=True) if _needs_requests(b)]
    there = [(block, file) for block, file in requests if file.exists()]
    verdict = folder.file("verdict")
    return RunFacts(
        folder=str(path),
        blocks=blocks,
        ready=ready,
        baseline=read(verdict, KeptVerdict).baseline if verdict.exists() else None,
        samples=samples([block for block, _ in there], [file for _, file in there]),
    )


def _needs_requests(block: BlockContext) -> bool:
    """Whether a compared p95 of the block is blank, so that its requests may be pooled with those of others."""
    return any(
        metric.compared and metric.q == 95 and block.metrics.get(name) is None for name, metric in METRICS.items()
    )


def _no_blocks(path: Path) -> QuantbenchError:
    """Why there is nothing to compare, and which folder may have been meant."""
    if not path.is_dir():
        return QuantbenchError(f"{path} is not a folder", remedy="give the folder of a run's results, results/{gpu}")
    below = sorted(folder.parent for folder in (*path.glob("*/raw"), *path.glob("results/*/raw")))
    if below:
        names = " or ".join(map(str, below[:3]))
        return QuantbenchError(f"{path} has no blocks itself", remedy=f"a run's results are in a folder of it: {names}")
    if not any(path.iterdir()):
        return QuantbenchError(f"{path} is empty", remedy="give the folder of a run's results, results/{gpu}")
    return QuantbenchError(
        f"{path} has no measured blocks (raw/…/b1.json)",
        remedy="give results/{gpu} of a run that measured, with its folder `raw`; its tables alone are not enough",
    )


def longest_request(records: Iterable[PathLike], max_tokens: Mapping[str, int]) -> int | None:
    """Tokens of the longest request that a workload can ask for: its longest prompt of any block, and `max_tokens`.

    records: parquet files of blocks, below a folder of the workload's name. None where no prompt was counted.
    """
    lengths = (
        longest + max_tokens[workload]
        for path in map(Path, records)
        if (workload := path.parents[1].name) in max_tokens and (longest := tables_io.longest_prompt(path))
    )
    return max(lengths, default=None)


def pair_failures(
    blocks: Sequence[BlockContext],
    ready: Mapping[str, Ready],
    baseline: str,
    variants: Iterable[str],
    arms: Mapping[str, ArmPlan] | None = None,
) -> dict[str, list[str]]:
    """{variant: guards that make its whole comparison invalid}."""
    return {v: guards.comparison_failures(*_sides(blocks, ready, baseline, v, arms or {})) for v in variants}


def other_guards(
    blocks: Sequence[BlockContext],
    ready: Mapping[str, Ready],
    sessions: Mapping[str, Session],
    baseline: str,
    arms: Mapping[str, ArmPlan] | None = None,
) -> list[Check]:
    """Guards beyond single blocks: of each server, each comparison and the run."""
    results = [(model, guards.evaluate_server(record)) for model, record in ready.items()]
    results += [
        (v, guards.evaluate_pair(*_sides(blocks, ready, baseline, v, arms or {}))) for v in ready if v != baseline
    ]
    results += [("run", guards.evaluate_run(sessions))]
    return [Check(id=r.id, of=of, status=r.status, detail=r.detail) for of, some in results for r in some]


def _sides(
    blocks: Sequence[BlockContext], ready: Mapping[str, Ready], baseline: str, variant: str, arms: Mapping[str, ArmPlan]
) -> tuple[Ready, Ready, list[BlockContext], list[BlockContext], ArmPlan, ArmPlan]:
    """Server records, blocks and declarations of both arms; no block of another configuration."""
    ours = guards.of_plan(blocks)
    a, b = ([block for block in ours if block.arm == arm] for arm in (baseline, variant))
    return ready[baseline], ready[variant], a, b, arms.get(baseline, BASELINE), arms.get(variant, VARIANT)


def read_capacity(paths: Iterable[PathLike]) -> list[CapacityRow]:
    """The rows of tuple or capacity CSVs."""
    rows = ((path, row) for path in paths for row in _frame(path, TEXT_COLUMNS, CELL_COLUMNS).to_dicts())
    return [_capacity_row(path, row) for path, row in rows]


def combine_capacity(paths: Iterable[PathLike], model: str, workload: str) -> pl.DataFrame:
    """All tuple CSVs of one model and workload as one table, by max_tokens and concurrency.

    Raises QuantbenchError for a file without its one row, a row of another model or workload, or a tuple twice.
    """
    table = pl.concat(_tuple_frames(paths), how="diagonal_relaxed").sort("max_tokens", "concurrency")
    strangers = table.filter((pl.col("model") != model) | (pl.col("workload") != workload))
    if strangers.height:
        rows = strangers.select("model", "workload").unique().rows()
        raise QuantbenchError(f"capacity of {model}, {workload}: found rows of {rows}", remedy="delete the moved CSVs")
    if table.select("max_tokens", "concurrency").is_duplicated().any():
        raise QuantbenchError(f"capacity of {model}, {workload}: a tuple occurs twice", remedy="delete the copy")
    return table


def _tuple_frames(paths: Iterable[PathLike]) -> Iterator[pl.DataFrame]:
    """Tuple CSVs as tables, one of all files with the same columns: to parse them one by one takes a hundred times as
    long. Where that finds a fault they are, as then the file is known.
    """
    alike: dict[bytes, list[tuple[PathLike, bytes]]] = {}
    for path in paths:
        header, _, rows = _whole(path).partition(b"\n")
        alike.setdefault(header, []).append((path, rows))
    for header, files in alike.items():
        try:
            yield _tuples(header, files)
        except QuantbenchError:
            yield from (_tuples(header, [file]) for file in files)


def _tuples(header: bytes, files: Sequence[tuple[PathLike, bytes]]) -> pl.DataFrame:
    """One row of each file. Raises QuantbenchError; of several files, it may name the wrong one."""
    content = b"\n".join([header, b"".join(rows for _, rows in files)])
    frame = _parsed(files[0][0], content, TEXT_COLUMNS, CELL_COLUMNS)
    if frame.height != len(files) or (len(files) > 1 and any(rows.count(b"\n") != 1 for _, rows in files)):
        raise damaged(files[0][0], f"{frame.height} rows instead of one")
    for (path, _), row in zip(files, frame.to_dicts(), strict=True):
        _capacity_row(path, row)
    blank = [column.name for column in frame if column.null_count() == frame.height]
    return frame.with_columns(pl.col(blank).cast(pl.Null))


def _capacity_row(path: PathLike, row: Row) -> CapacityRow:
    for name, value in row.items():
        if (name in METRICS or name in CELL_COLUMNS) and not isinstance(value, str | None) and value < 0:
            raise damaged(path, f"column `{name}` is {value}, below zero")
    own = _fields(CapacityRow).keys() - {"values"}
    values = {name: value for name, value in row.items() if name not in own}
    for name, value in values.items():
        if not _is_known(name):
            raise damaged(path, f"unknown column `{name}`")
        if isinstance(value, str) and name not in TEXT_COLUMNS:
            raise damaged(path, f"column `{name}` holds text and no figures")
    return _record(path, CapacityRow, {name: row[name] for name in own if name in row}, values=values)


@cache
def _fields(kind: type[Record]) -> dict[str, tuple[msgspec.structs.FieldInfo, bool]]:
    """{column: (field, whether it holds a list)}; msgspec reads the types of a record anew at each call."""
    return {f.encode_name: (f, get_origin(f.type) is tuple) for f in msgspec.structs.fields(kind)}


@cache
def _is_known(column: str) -> bool:
    """Whether a tuple CSV has this column: a metric, its limit, or what client, server and host say of themselves."""
    metric = column.removesuffix("_lo").removesuffix("_hi")
    if metric in METRICS or column.startswith(("client_", "server_")):
        return True
    return column in (*_COUNTS, *_SHARES, *TEXT_COLUMNS, *HOST_COLUMNS)


def read_rows(path: PathLike, kind: type[R]) -> list[R]:
    """The rows of a CSV as `kind`; an empty field is None, or what the record has for nothing."""
    fields = msgspec.structs.fields(kind)
    frame = _frame(path, [f.encode_name for f in fields if _is_text(f.type)])
    if strangers := [name for name in frame.columns if name not in columns_of(kind)]:
        raise damaged(path, f"unknown column `{strangers[0]}`")
    return [_record(path, kind, row) for row in frame.to_dicts()]


def write_rows(path: PathLike, rows: Sequence[Record], columns: Sequence[str] | None = None) -> None:
    """A CSV of records with these columns (all if not given, then there must be a row); lists are joined by "; "."""
    if not rows:
        write_text(path, ",".join(columns or ()) + "\n")
        return
    flat = [row.as_dict() for row in rows]
    tables_io.write_rows(path, [{name: _joined(row[name]) for name in columns or row} for row in flat])


def columns_of(kind: type[Record]) -> tuple[str, ...]:
    """The columns of a CSV of these records."""
    return tuple(field.encode_name for field in msgspec.structs.fields(kind))


def _joined(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, list | tuple) else value


def _record(path: PathLike, kind: type[R], row: Row, **more: Any) -> R:
    """A row of a CSV as a record: lists are split, what is blank takes the record's default."""
    values = {}
    for name, (field, several) in _fields(kind).items():
        value = row.get(name)
        if several:
            value = [part.strip() for part in str(value or "").split(";") if part.strip()]
        if name in row and (value is not None or field.required):
            values[name] = value
    try:
        return convert(values | more, kind)
    except msgspec.ValidationError as error:
        raise damaged(path, str(error)) from None


def _is_text(kind: Any) -> bool:
    """Whether a field of this type is text in a CSV: also where it looks like a number ("007")."""
    if get_origin(kind) in (Union, UnionType):
        return any(map(_is_text, get_args(kind)))
    return kind is str or get_origin(kind) in (Literal, tuple)


def _frame(path: PathLike, text: Sequence[str], needed: Sequence[str] = ()) -> pl.DataFrame:
    """A whole CSV with the `needed` columns; those of `text` stay text."""
    return _parsed(path, _whole(path), text, needed)


def _whole(path: PathLike) -> bytes:
    content = Path(path).read_bytes()
    if not content.endswith(b"\n"):
        raise damaged(path, "its last line has no end")  # a number that was cut off is another number
    return content


def _parsed(path: PathLike, content: bytes, text: Sequence[str], needed: Sequence[str]) -> pl.DataFrame:
    try:
        frame = pl.read_csv(content, infer_schema_length=None, schema_overrides=dict.fromkeys(text, pl.String))
    except pl.exceptions.PolarsError as error:
        raise damaged(path, f"not a readable CSV: {error}") from None
    if lacking := [name for name in needed if name not in frame.columns]:
        raise damaged(path, f"without the columns {', '.join(lacking)}")
    for column in frame:
        if column.dtype.is_float() and not column.is_finite().all():  # what is blank is not looked at
            raise damaged(path, f"column `{column.name}` holds NaN or infinity")
    return frame
