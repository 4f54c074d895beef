"""`quantbench lane list` shows the servers of this machine; `lane sweep` stops what dead runs have left."""

from __future__ import annotations

import argparse
import shlex

from quantbench.serving import lane, registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("action", choices=("list", "sweep"))


def run(args: argparse.Namespace) -> int:
    """Print one line per server, and one per state that is left alone; or the models whose servers were stopped. 0."""
    if args.action == "sweep":
        print("stopped:", ", ".join(lane.sweep("asked by hand")) or "nothing")
        return 0
    for state in registry.servers():
        print(state.key, state.spec.url, "asleep" if state.asleep else "awake", registry.members(state))
    for error in registry.broken().values():
        print(f"left alone: {error.what}; `lane sweep` removes it once its run is dead")
    for folder, host in registry.elsewhere().items():
        print(f"left alone: {folder} of {host}: another machine or container, or this one before it was restarted")
        print(f"  if nothing of it runs any more: rm -r {shlex.quote(str(folder))}")
    return 0
