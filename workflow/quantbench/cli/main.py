"""The command line. A command is a module with `add_arguments(parser)` and `run(args) -> exit code`.

Modules are imported only when their command is asked for, so that `load` starts fast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from quantbench.errors import QuantbenchError

# command -> (module, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "load": ("quantbench.cli.load", "measure an OpenAI-compatible server: one CSV row per point of the grid"),
    "inspect": (
        "quantbench.cli.inspect",
        "what a model claims and holds, and what it needs on which card",
    ),
    "calibrate": ("quantbench.cli.calibrate", "measure the load client itself against a known-truth server"),
    "compare": (
        "quantbench.cli.compare",
        "two runs against each other: better, equivalent or worse, for people and CI",
    ),
    "refine": ("quantbench.cli.refine", "add blocks until the comparisons are as precise as wanted"),
    "export": ("quantbench.cli.export", "results as one tidy parquet, and as OpenMetrics text for a dashboard"),
    "lane": ("quantbench.cli.lane", "list the servers of this machine, or stop those of dead runs"),
    "lm-eval-task": ("quantbench.cli.lm_eval_task", "make a task of lm-eval from a prompt file"),
    "docs": ("quantbench.cli.docs", "make the tables of docs/ and config/README.md anew from the code"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 for an error of the user's (`ERROR` of a command for which 2 is an answer), 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="quantbench", description="Is the quantized model worth it?")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    module = None
    for name, (path, line) in COMMANDS.items():
        sub = commands.add_parser(name, help=line, description=line)
        if arguments[:1] == [name]:
            module = import_module(path)
            module.add_arguments(sub)
    error_code: int = getattr(module, "ERROR", 2)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as error:  # argparse ends with 2
        raise SystemExit(error_code if error.code == 2 else error.code) from None
    assert module is not None, "argparse refuses unknown commands"
    try:
        code: int = module.run(args)
    except QuantbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code
