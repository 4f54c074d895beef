"""`quantbench config-doc` rewrites the key table of config/README.md from the schema."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantbench.config import settings
from quantbench.config.schema_doc import reference
from quantbench.errors import QuantbenchError
from quantbench.files import write_text

MARK = "<!-- keys -->\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--file", type=Path, default=Path("config/README.md"), help="the guide to rewrite")


def run(args: argparse.Namespace) -> int:
    """Rewrite the table; 0. Raises QuantbenchError for a file without the table's mark, and outside the repository."""
    if not args.file.is_file():
        raise QuantbenchError(f"{args.file} does not exist here", remedy="run it in the repository, or give --file")
    head, mark, _ = args.file.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise QuantbenchError(f"{args.file} has no line {MARK.strip()}", remedy="write that line where the table goes")
    write_text(args.file, f"{head}{MARK}{reference(settings.read_yaml(settings.SCHEMA))}\n")
    return 0
