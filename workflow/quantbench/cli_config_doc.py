"""Edge: `quantbench config-doc` rewrites the key table of config/README.md from the schema."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantbench.config import settings
from quantbench.config.schema_doc import reference
from quantbench.files import write_text

MARK = "<!-- keys -->\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--file", type=Path, default=Path("config/README.md"), help="the guide to rewrite")


def run(args: argparse.Namespace) -> int:
    """Rewrite the table; 0."""
    head = args.file.read_text(encoding="utf-8").partition(MARK)[0]
    write_text(args.file, f"{head}{MARK}{reference(settings.read_yaml(settings.SCHEMA))}\n")
    return 0
