"""`quantbench lane list` shows the servers of this machine; `lane sweep` stops what dead runs have left."""

from __future__ import annotations

import argparse

from quantbench.serving import lane, registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("action", choices=("list", "sweep"))


def run(args: argparse.Namespace) -> int:
    """Print one line per server, or the models whose servers were stopped; 0."""
    if args.action == "sweep":
        print("stopped:", ", ".join(lane.sweep("asked by hand")) or "nothing")
        return 0
    for state in registry.servers():
        print(state.key, state.spec.url, "asleep" if state.asleep else "awake", registry.members(state))
    return 0
