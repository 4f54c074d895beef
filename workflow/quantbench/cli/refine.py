"""`quantbench refine` adds blocks until the comparisons reach `precision` or the budget is spent.

A round is an ordinary snakemake run with more `extra_blocks`; what it measures is kept and counted from then on.
How many depends on the width of the CIs only, never on what they say. One round is enough as a rule: `stats.spread`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantbench import fitting
from quantbench.config import command_line, settings
from quantbench.config.configuration import Plan
from quantbench.errors import QuantbenchError
from quantbench.judge import precision
from quantbench.records.base import read
from quantbench.records.block import BlockContext
from quantbench.records.codes import is_guard
from quantbench.records.comparison import Comparison, Precision, PrecisionEntry, Verdict
from quantbench.records.layout import Results
from quantbench.wording import plural

Json = dict[str, Any]

LEFT = ("missing", "out_of_reach", "untested", "refused")
"""The lists of a `precision.plan` that are not empty where something is left to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("--cores", type=int, default=1, help="as for snakemake (default 1)")
    as_given = "as for snakemake, and passed on to it"
    add("--configfile", "--configfiles", type=Path, nargs="+", default=[], metavar="FILE", help=as_given)
    add("--config", "-C", nargs="*", default=[], metavar="KEY=VALUE", help=as_given)
    add("--precision", type=float, help="wanted half-width (0.02 is 2 %%); default: the config's")
    add("--budget-minutes", type=float, help="stop after this long; default: refine.budget_minutes")


def run(args: argparse.Namespace) -> int:
    """Add rounds; 0 when all comparisons are precise enough, 1 otherwise."""
    plan = settings.load(Path.cwd(), values(args), args.configfile)
    target = plan.config["precision"]
    if target is None:
        raise QuantbenchError("no precision is set", remedy="give --precision 0.02, or set `precision` in the config")
    refine = plan.config["refine"]
    minutes = refine["budget_minutes"] if args.budget_minutes is None else args.budget_minutes
    end = time.monotonic() + 60 * minutes
    _snakemake(args, plan, {})
    while True:
        rows, measured, cost = _state(plan)
        left = end - time.monotonic()
        more = precision.next_round(rows, target, measured, left, cost, most_blocks=refine["max_blocks"])
        if not more:
            state = precision.plan(rows, target, measured, most_blocks=refine["max_blocks"])
            print(*closing(state, measured, left, refine["max_blocks"]), sep="\n", file=sys.stderr)
            return 0 if is_done(state) else 1
        print(f"refine: adding {', '.join(f'{n} blocks of {cell}' for cell, n in more.items())}", file=sys.stderr)
        _snakemake(args, plan, precision.extra_blocks(more, measured, plan.config["blocks"]))


def values(args: argparse.Namespace) -> Json:
    """The values of the command line, read as snakemake reads them; `--precision` is one of them."""
    from snakemake.cli import parse_config  # here, as it takes a second to import

    try:
        given: Json = parse_config(args.config)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise QuantbenchError(f"--config: {error}", remedy="write key=value, for example blocks=8") from None
    return {**given, **_precision(args)}


def _precision(args: argparse.Namespace) -> Json:
    return {} if args.precision is None else {"precision": args.precision}


def round_line(args: argparse.Namespace, gpu: str, extra: dict[str, int]) -> list[str]:
    """The snakemake line of one round, as its words: what refine was given, and the blocks to add."""
    line = command_line.repeat(gpu, args.configfile, args.config, cores=args.cores)
    for key, value in _precision(args).items():
        line = command_line.with_value(line, key, value)
    line = command_line.with_value(line, "budget", 0)  # it has one of its own, for another goal
    return command_line.with_value(line, "extra_blocks", extra) if extra else line


def _state(plan: Plan) -> tuple[list[Comparison], dict[str, int], dict[str, float]]:
    """Comparison rows, blocks on disk per cell, and seconds that one more block of each cell takes (all arms)."""
    results = Results(plan.gpu)
    plan = fitting.fitted(plan, results, look=False)  # what the run found not to fit is not measured
    rows = read(results.file("verdict"), Verdict).rows
    measured: dict[str, int] = {}
    cost: dict[str, float] = {}
    for cell in plan.grid:
        key = cell.key
        measured[key] = min(settings.blocks_on_disk(results, arm, cell) for arm in plan.models)
        blocks = [Path().glob(results.path("block", cell, arm=arm, block="*")) for arm in plan.models]
        cost[key] = sum(map(_mean_seconds, blocks))
    # Points that were asked for by name are compared too; only the grid is refined.
    return [row for row in rows if row.cell.key in measured], measured, cost


def _mean_seconds(blocks: Iterable[Path]) -> float:
    seconds = [read(path, BlockContext).duration_s for path in blocks]
    return sum(seconds) / len(seconds) if seconds else 0.0


def _snakemake(args: argparse.Namespace, plan: Plan, extra: dict[str, int]) -> None:
    done = subprocess.run([sys.executable, "-m", *round_line(args, plan.gpu, extra)], check=False)
    if done.returncode:
        raise QuantbenchError("a round of blocks failed", remedy="the lines above say why; finished blocks are kept")


def is_done(state: Precision) -> bool:
    """Whether each comparison of a `precision.plan` was tested and is as precise as wanted."""
    return bool(state.reached) and not any(getattr(state, name) for name in LEFT)


def closing(state: Precision, measured: Mapping[str, int], seconds_left: float, most_blocks: int) -> list[str]:
    """What refine says at its end: how many comparisons got there, and for the others why not and what would help.

    state: a `precision.plan`. measured: blocks on disk per cell. most_blocks: `refine.max_blocks`.
    """
    goal = f"within ±{100 * (state.target or 0):g} %"
    if is_done(state):
        return [f"refine: every comparison is {goal}"]
    total = sum(len(getattr(state, name)) for name in ("reached", *LEFT))
    if not total:
        return ["refine: there is no comparison that more blocks could make precise"]
    full = [entry for entry in state.missing if measured.get(entry.cell, 0) >= most_blocks]
    waiting = [entry for entry in state.missing if entry not in full]
    limit = "the budget is spent" if seconds_left <= 0 else "no further round fits the budget"
    most = f"{most_blocks} blocks per cell (`refine.max_blocks`)"
    wide = {
        f"{limit}": waiting,
        f"there are {most} already": full,
        f"more than {most} would be needed, so reduce the noise instead": state.out_of_reach,
    }
    return [
        f"refine: {len(state.reached)} of {plural(total, 'comparison')} are {goal}",
        *(f"refine: {len(some)} still wider than that, {why}: {_metrics(some)}" for why, some in wide.items() if some),
        *_untested(state.untested),
        *_refused(state.refused),
    ]


def _untested(entries: Sequence[PrecisionEntry]) -> list[str]:
    remedy = "for a p95 raise `block.min_seconds` or `block.min_requests_per_slot`"
    words = f"without a confidence interval, which more blocks would not give; {remedy}"
    return [f"refine: {len(entries)} {words}: {_metrics(entries)}"] if entries else []


def _refused(entries: Sequence[PrecisionEntry]) -> list[str]:
    """The cells that guards refused, each with its guards; the codes in capitals are not guards but remarks."""
    guards = [(entry, reason) for entry in entries for reason in entry.reasons if is_guard(reason)]
    words = "refused by guards; docs/measurement.md says what to do about each"
    return [f"refine: {len(entries)} {words}: {_grouped(guards)}"] if entries else []


def _metrics(entries: Sequence[PrecisionEntry]) -> str:
    return _grouped([(entry, entry.metric) for entry in entries])


def _grouped(pairs: Sequence[tuple[PrecisionEntry, str]]) -> str:
    """Words by cell and variant: "chat/c8_t128 int8 (throughput_tok_s, p50_ttft_ms); …"."""
    by_cell: dict[str, dict[str, None]] = {}
    for entry, words in pairs:
        by_cell.setdefault(f"{entry.cell} {entry.variant}", {})[words] = None
    return "; ".join(f"{place} ({', '.join(words)})" for place, words in by_cell.items())
