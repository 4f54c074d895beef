"""`quantbench compare OLD NEW`: two runs against each other, with an exit code for CI.

Exit codes: 0 all better or equivalent; 1 something is worse; 2 nothing is worse, but something is not decided, refused
or without a test; 3 nothing can be said: an error of usage, unreadable results, or every cell refused. 1 goes before 2.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Final

import msgspec

from quantbench import results
from quantbench.cli.argument_types import positive_number
from quantbench.cli.compare_output import printed
from quantbench.errors import QuantbenchError
from quantbench.files import write_text
from quantbench.judge.run_differences import GROUPS, unknown_names
from quantbench.judge.two_runs import GATED, RunFacts, compare_runs, shared_blocks
from quantbench.records.metric import COMPARED
from quantbench.records.two_runs import RUN_COLUMNS, Outcome, TwoRuns
from quantbench.report import two_runs as words
from quantbench.report.junit import junit
from quantbench.report.render import page, report
from quantbench.report.say import Speech

ERROR: Final = 3
"""The exit code of an error, as 2 is that of a comparison."""
EXIT: Final[dict[Outcome, int]] = {"fine": 0, "worse": 1, "undecided": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("old", type=Path, metavar="OLD", help="results of one run: results/{gpu}, or a copy of it anywhere")
    add("new", type=Path, metavar="NEW", help="results of the other")
    add("--margin", type=_percent, default=0.03, metavar="PERCENT", help="a change that does not matter (default 3)")
    add(
        "--varies", type=_names, default=[], metavar="NAME,…",
        help=f"what is expected to differ: {', '.join(GROUPS)}, or one key such as max_num_seqs; else it refuses cells",
    )  # fmt: skip
    add(
        "--metrics", type=_metrics, default=list(GATED), metavar="NAME,…",
        help=f"metrics that are tested, and decide (default {','.join(GATED)})",
    )  # fmt: skip
    add(
        "--run-spread", type=_percent, metavar="PERCENT",
        help="by how much an unchanged server differs from run to run (sd), as you know it: it widens the intervals, "
             "and stands in where the runs have too few starts",
    )  # fmt: skip
    add("--subset", action="store_true", help="NEW may lack cells of OLD; else it is not decided where it does")
    add("--out", type=Path, metavar="FOLDER", help="write compare.csv, compare.md and compare.html there")
    add("--junit", type=Path, metavar="FILE", help="write a JUnit report: a test case per model and cell")
    add("--json", action="store_true", help="print the whole comparison as JSON, and no table")


def run(args: argparse.Namespace) -> int:
    """Compare; 0 fine, 1 worse, 2 undecided."""
    if strangers := unknown_names(args.varies):
        raise QuantbenchError(
            f"--varies: nothing is called {', '.join(strangers)}",
            remedy=f"name what differs: {', '.join(GROUPS)}, or a key as the table “What differs” has it",
        )
    old, new = _both(args.old, args.new)
    found = compare_runs(
        old,
        new,
        margin=args.margin,
        metrics=args.metrics,
        run_spread=args.run_spread,
        varies=args.varies,
        subset=args.subset,
    )
    found = words.worded(Speech(), found)
    _check(found)
    if args.out:
        results.write_rows(args.out / "compare.csv", found.rows, RUN_COLUMNS)
        write_text(args.out / "compare.md", page(words.page(found)))
        write_text(args.out / "compare.html", report(words.report(found)))
    if args.junit:
        write_text(args.junit, junit(found))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode({"outcome": found.outcome, **found.as_dict()})).decode())
    else:
        print(printed(words.page(found, described=False)))
    return EXIT[found.outcome]


def _both(old: Path, new: Path) -> tuple[RunFacts, RunFacts]:
    """Both runs. Raises QuantbenchError for the same one twice."""
    if old.exists() and new.exists() and old.samefile(new):
        raise QuantbenchError(f"{old} and {new} are one folder", remedy="give the results of two runs")
    runs = results.kept_run(old), results.kept_run(new)
    if n := shared_blocks(*runs):
        raise QuantbenchError(
            f"{old} and {new} share {n} of their blocks: one is a copy of the other, or went on from a copy",
            remedy="measure the second run in an empty results folder; a block that counts in both proves nothing",
        )
    return runs


def _check(found: TwoRuns) -> None:
    """Raise QuantbenchError where not one row could be compared, and say what would help."""
    if not found.rows:
        raise QuantbenchError(
            "the runs have no cell in common: "
            f"{_some(found.only_old)} in {found.old.folder}, {_some(found.only_new)} in {found.new.folder}",
            remedy="compare runs of the same models (by name), workloads, concurrency and max_tokens",
        )
    if any(row.code != "invalid" for row in found.rows):
        return
    refusing = [difference for difference in found.differences if difference.refuses]
    if not refusing:
        reasons = dict.fromkeys(reason for row in found.rows for reason in row.reasons)
        raise QuantbenchError(
            f"no cell has enough valid blocks: {', '.join(reasons)}",
            remedy="docs/measurement.md says what to do about each guard",
        )
    names = dict.fromkeys(d.key if d.group == "settings" else d.group or d.key for d in refusing)
    keys = [d.key for d in refusing]  # one that differs in several ways is of several models
    seen = "; ".join(f"{d.key}{f' of {_some(d.of)}' if keys.count(d.key) > 1 else ''} ({d.detail})" for d in refusing)
    may = [name for name in names if not unknown_names([name])]
    remedy = f"if that is what you compare, add --varies {','.join(may)}; else measure both runs alike"
    raise QuantbenchError(
        f"every cell is refused, as the runs differ in what is not declared: {seen}",
        remedy=remedy if may else "docs/measurement.md says what to do about each guard",
    )


def _some(cells: tuple[str, ...]) -> str:
    return ", ".join(cells[:3]) + (" …" if len(cells) > 3 else "") if cells else "nothing more"


def _percent(text: str) -> float:
    """ "3" → 0.03."""
    return positive_number(text) / 100


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _metrics(text: str) -> list[str]:
    if strangers := [name for name in _names(text) if name not in COMPARED]:
        raise ArgumentTypeError(f"{', '.join(strangers)}: the compared metrics are {', '.join(COMPARED)}")
    return _names(text)
