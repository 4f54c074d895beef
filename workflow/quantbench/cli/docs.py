"""`quantbench docs` makes anew what stands in docs/ and config/README.md of guards, metrics, columns, keys, modules."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantbench.docs import pages
from quantbench.errors import QuantbenchError
from quantbench.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if a page is not as the code makes it"
    )


def run(args: argparse.Namespace) -> int:
    """Rewrite what changed; 0. Raises QuantbenchError outside the repository, and for a stale page (--check)."""
    if not Path("docs/architecture.md").is_file():
        raise QuantbenchError("docs/ is not here", remedy="run it in the folder of the repository")
    stale = {path: new for path, (old, new) in pages.made_anew(Path()).items() if old != new}
    if stale and args.check:
        names = ", ".join(map(str, stale))
        raise QuantbenchError(f"not as the code makes it: {names}", remedy="run `python -m quantbench docs`")
    for path, text in stale.items():
        write_text(path, text)
        print(f"{path} made anew")
    return 0
