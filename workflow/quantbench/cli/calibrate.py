"""`python -m quantbench calibrate --concurrency 1,16,64`."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantbench.cli.argument_types import positive_integer, positive_integers, positive_seconds
from quantbench.cli.load_output import show_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `calibrate`."""
    parser.add_argument("--concurrency", type=positive_integers, default=[1, 8, 16], metavar="N[,N]")
    parser.add_argument("--seconds", type=positive_seconds, default=2.0, help="per concurrency (default: 2)")
    parser.add_argument("--max-tokens", type=positive_integer, default=64)
    parser.add_argument("--itl-ms", type=float, default=5.0, help="time between tokens of a stream (default: 5)")
    parser.add_argument("--transport", choices=("auto", "wire", "aiohttp"), default="auto")
    parser.add_argument("--out", type=Path, help="write the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Calibrate at each concurrency and print a table."""
    from quantbench.client.calibration import calibrate
    from quantbench.records.base import write

    rows = [
        calibrate(
            concurrency,
            seconds=args.seconds,
            max_tokens=args.max_tokens,
            itl_ms=args.itl_ms,
            transport=args.transport,
        )
        for concurrency in args.concurrency
    ]
    shown = [name for name in rows[0].as_dict() if name != "measured_unix"]
    show_table("The client against the known truth", [row.as_dict() for row in rows], shown)
    if args.out:
        write(args.out, rows)
    return 0
