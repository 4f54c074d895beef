"""`quantbench export` writes the results of runs for other programs: one tidy parquet, gauges for a dashboard."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantbench.errors import QuantbenchError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    folders = "results/{gpu}; or a folder above such ones, as results, fleets/{fleet}, fleets"
    add("results", type=Path, nargs="+", metavar="RESULTS", help=folders)
    add("--parquet", type=Path, metavar="FILE", help="one tidy table, a row per figure")
    add("--openmetrics", type=Path, metavar="FILE", help="pooled, valid figures as gauges: OpenMetrics 1.0 text")
    stamped = "each sample carries when it was measured: for `promtool tsdb create-blocks-from openmetrics`"
    add("--timestamps", action="store_true", help=stamped)


def run(args: argparse.Namespace) -> int:
    """Write what is asked for, and say what it holds. 0."""
    from quantbench import wording
    from quantbench.export import folders, openmetrics
    from quantbench.export.rows import rows
    from quantbench.files import write_text
    from quantbench.judgement import judgement

    if not args.parquet and not args.openmetrics:
        raise QuantbenchError("nothing to write", remedy="add --parquet FILE, --openmetrics FILE or both")
    found, tool = folders.find(args.results), judgement()
    exported = [row for folder in found for row in rows(folders.load(folder), tool)]
    of = wording.plural(len(found), "results folder")
    if args.parquet:
        folders.write_parquet(args.parquet, exported)
        print(f"{args.parquet}: {wording.plural(len(exported), 'figure')} of {of}")
    if args.openmetrics:
        text = openmetrics.text(exported, timestamps=args.timestamps)
        write_text(args.openmetrics, text)
        samples = sum(not line.startswith("#") for line in text.splitlines())
        print(f"{args.openmetrics}: {wording.plural(samples, 'sample')} of {of}")
    return 0
