"""How planning, joining and the page grow with the number of tuples: finished runs of N tuples, faked, and timed.

    PYTHONPATH=workflow:tests python benchmarks/scale.py FOLDER [--tuples 10 100 300 1000] [--blocks 6]

FOLDER is made, with one project per N. What a run measures is invented: blocks of docs/reference/h100, copied to the
cells of a plan and to its models; all tables are made of them by the scripts of the rules. Then `snakemake` is timed as
a user runs it: a dry run before anything is measured, a dry run and a run when all is there. Tables are timed in this
process, without the second in which Python and polars start. Printed are the fewest of several runs: seconds of the
clock, and of CPU (user + system), which the load of the machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import report_fixture
from box import Box
from msgspec.structs import replace
from quantbench import ask_lane, kept, results
from quantbench.config import report_plan, settings
from quantbench.config.configuration import Plan
from quantbench.files import write_text
from quantbench.judge.schedule import round_order
from quantbench.records.base import convert, read, write
from quantbench.records.block import BlockContext, Calibration
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.measurement import Further
from quantbench.records.plan import ReportPlan
from quantbench.records.server import Ready, Session
from source import ROOT

SOURCE = ROOT / "docs/reference/h100"
POINT = "chat/c16_t128"
MODELS = {"bf16": "bf16", "awq": "awq", "fp8": "fp8", "gptq": "gptq", "int8": "awq"}
"""A model of the plan: whose kept blocks it is given."""
GRIDS = {10: (1, 1), 100: (5, 2), 300: (6, 5), 1000: (10, 10)}
"""Of N tuples: how many concurrencies, and how many max_tokens, in each of two workloads."""
STATED, TAKES_S = datetime(2026, 11, 20, 9, tzinfo=UTC).timestamp(), 21.0


def project(folder: Path, tuples: int, blocks: int) -> Box:
    """A project of its own whose plan has so many tuples; nothing is measured."""
    box, (loads, lengths) = Box(folder), GRIDS[tuples]
    box.config.pop("models"), box.config.pop("select")
    grid = {"concurrency": [2 * n for n in range(1, loads + 1)], "max_tokens": [32 * n for n in range(1, lengths + 1)]}
    box.configure(
        models={
            name: {"source": f"models/{name}", "load_format": "dummy", "port": 18990 + n, "lane": "one"}
            for n, name in enumerate(MODELS)
        },
        baseline="bf16",
        workloads={
            name: {"prompts": "config/prompts/chat.jsonl", "style": style} | grid
            for name, style in (("chat", "interactive"), ("batch", "batch"))
        },
        primary={"concurrency": grid["concurrency"][-1]},
        blocks=blocks,
        block={"min_seconds": 20.0},
        budget="10 min",
    )
    for name in MODELS:
        (folder / "models" / name).mkdir(parents=True)
        (folder / "models" / name / "config.json").write_text('{"model_type": "fake"}')
    return box


def measure(box: Box, plan: Plan, tree: Results) -> None:
    """What the jobs that measure would leave behind."""
    expected = kept.expected(plan, box.path)
    sources = {
        name: sorted((SOURCE / f"raw/{whose}/{POINT}").glob("b*.json"), key=lambda path: int(path.stem[1:]))
        for name, whose in MODELS.items()
    }
    seen = {name: [read(path, BlockContext) for path in paths] for name, paths in sources.items()}
    clock = STATED
    for cell in plan.grid:
        for n in range(1, plan.config["blocks"] + 1):
            for model in round_order(list(plan.models), n - 1):
                like = seen[model][(n - 1) % len(seen[model])]
                speed = cell.concurrency / 16 * random.Random(f"{model} {cell.key} {n}").gauss(1, 0.01)
                write(tree.file("block", cell, arm=model, block=n), replace(
                    like, **cell.columns, gpu=plan.gpu, model=model, block=n, started_unix=clock,
                    style=plan.config["workloads"][cell.workload]["style"],
                    started_at=datetime.fromtimestamp(clock, UTC).isoformat(),
                    metrics=like.metrics | {"throughput_tok_s": (like.metrics["throughput_tok_s"] or 0) * speed},
                    measured_with=expected.block(model, cell),
                ))  # fmt: skip
                os.link(sources[model][like.block - 1].with_suffix(".parquet"),
                        tree.file("records", cell, arm=model, block=n))  # fmt: skip
                clock += TAKES_S
    for folder in {path.parent for path in (tree.below / tree.root).glob("raw/*/*/*/b*.json")}:
        write(folder / "measured.json", {"measured": [], "blocks": ask_lane.blocks_in(str(folder))})
    for model, whose in MODELS.items():
        ready = read(SOURCE / f"servers/{whose}/ready.json", Ready)
        told = {"model": model, "served_with": expected.servers[model], "lane": "one"}
        write(tree.file("ready", model=model), replace(ready, **told))
        write_text(tree.file("serve_sh", model=model), "#!/bin/sh\n")
        session = read(SOURCE / f"servers/{whose}/session.json", Session)
        write(tree.file("session", model=model), replace(session, model=model))
    calibration = read(SOURCE / "client/calibration_c16.json", Calibration)
    for concurrency in {cell.concurrency for cell in plan.grid}:
        write(tree.file("calibration", concurrency=concurrency), replace(calibration, concurrency=concurrency))
    write(tree.file("further"), Further(budget_s=600, spent_s=0, blocks={}, decided=0, answers=0))


def derive(plan: Plan, tree: Results) -> Mapping[str, float]:
    """All tables of what was measured; seconds of CPU of each script of the rules, all its jobs together."""
    report, run = convert(report_plan.report(plan), ReportPlan), report_fixture.run
    took: dict[str, float] = defaultdict(float)

    def timed(script: str, *files: Any, **wildcards: str) -> None:
        before = clocks()[1]
        run(script, *files, **wildcards)
        took[script] += clocks()[1] - before

    with contextlib.redirect_stderr(io.StringIO()), mock.patch.object(report_fixture, "run", timed):
        report_fixture.derive(tree, report, report_plan.comparison(plan), report_plan.prices(plan), ["snakemake"])
    return took


def pages(plan: Plan, tree: Results) -> Mapping[str, Callable[[], Any]]:
    """What makes the pages."""
    inputs = report_fixture.evidence(tree, list(plan.models))
    params = {"report": convert(report_plan.report(plan), ReportPlan)}
    outputs = {page: tree.file("page", page=page) for page in report_plan.PAGES}
    report = {"page": tree.file("report"), "plots": tree.file("plots")}
    return {
        "write_pages": lambda: report_fixture.run("write_pages", inputs, outputs, params),
        "write_report": lambda: report_fixture.run("write_report", inputs, report, params),
    }


def clocks(who: int = resource.RUSAGE_SELF) -> tuple[float, float]:
    """Seconds of the clock, and of CPU."""
    used = resource.getrusage(who)
    return time.monotonic(), used.ru_utime + used.ru_stime


def fewest(work: Callable[[], Any], runs: int, who: int = resource.RUSAGE_SELF) -> str:
    """ "1.2 s (1.1 CPU)", each the fewest of so many runs."""
    took = []
    for _ in range(runs):
        before = clocks(who)
        work()
        took.append([after - b for after, b in zip(clocks(who), before, strict=True)])
    wall, cpu = map(min, zip(*took, strict=True))
    return f"{wall:.2f} s ({cpu:.2f} CPU)"


def snakemake(box: Box, *options: str) -> Callable[[], str]:
    """A run of snakemake in a project."""
    return lambda: box.run(options=options)


def one(folder: Path, tuples: int, blocks: int, runs: int) -> Iterator[str]:
    """What is seen of N tuples, line by line."""
    box = project(folder, tuples, blocks)
    plan, tree = settings.load(box.path, {"gpu": box.gpu}), Results(box.gpu, box.path)
    children = resource.RUSAGE_CHILDREN
    yield f"dry run, nothing measured: {fewest(snakemake(box, '--dry-run'), runs, children)}"
    measure(box, plan, tree)
    took = derive(plan, tree)
    each = ", ".join(f"{script} {seconds:.2f}" for script, seconds in sorted(took.items(), key=lambda entry: -entry[1]))
    yield f"all tables, without pages: {sum(took.values()):.1f} CPU ({each})"
    for name, work in pages(plan, tree).items():
        yield f"{name}: {fewest(work, 1)}"
    size = tree.file("report").stat().st_size
    yield f"report.html: {size / 1e6:.2f} MB"
    box.run(options=["--touch", "--forceall"])  # writes what snakemake remembers of its jobs, too
    yield f"dry run, all there: {fewest(snakemake(box, '--dry-run'), runs, children)}"
    yield f"run, nothing to do: {fewest(snakemake(box), runs, children)}"


def joined(folder: Path, tuples: int, runs: int) -> Iterator[str]:
    """Tuple CSVs of one model and workload into one table."""
    row = (SOURCE / f"cells/bf16/{POINT}.csv").read_text()
    header, line = row.splitlines()
    at = [header.split(",").index(name) for name in ("concurrency", "max_tokens")]
    paths = []
    for n in range(tuples):
        values, cell = line.split(","), Cell.of("chat", n // 100 + 1, n % 100 + 1)
        for place, value in zip(at, (cell.concurrency, cell.max_tokens), strict=True):
            values[place] = str(value)
        paths.append(folder / "joined" / f"{cell.point}.csv")
        write_text(paths[-1], f"{header}\n{','.join(values)}\n")
    yield f"{tuples} tuple CSVs joined: {fewest(lambda: results.combine_capacity(paths, 'bf16', 'chat'), runs)}"
    table = folder / "joined.csv"
    results.combine_capacity(paths, "bf16", "chat").write_csv(table)
    yield f"read as a capacity table: {fewest(lambda: results.read_capacity([table]), runs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tuples", type=int, nargs="*", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--blocks", type=int, default=6, help="of each tuple")
    parser.add_argument("--join", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    for tuples in args.tuples:
        for said in one(args.folder / f"{tuples}x{args.blocks}", tuples, args.blocks, args.runs):
            print(f"{tuples} tuples × {args.blocks} blocks: {said}", flush=True)
    for tuples in args.join:
        for said in joined(args.folder / f"join{tuples}", tuples, args.runs):
            print(said, flush=True)


if __name__ == "__main__":
    main()
