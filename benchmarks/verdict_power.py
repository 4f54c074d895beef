"""Coverage, errors and power of verdicts, simulated: the tables of docs/measurement.md.

    python benchmarks/verdict_power.py --trials 10000
    python benchmarks/verdict_power.py --of results/cpu/comparison/verdict.json

Sessions of five cells, as tests/power_simulation.py makes them; takes minutes. With `--of`, the answers of a run
instead: how many of them would be decided, were they true, on machines whose blocks scatter more or less.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
from power_simulation import SCENES, corrected, covered, pair_logs, rounds_until_decided, shared_rows
from quantbench.judge.rounds import ROUND, asked
from quantbench.records.base import read
from quantbench.records.comparison import Verdict
from scipy.special import stdtr, stdtrit

CELLS = 5


def intervals(trials: int, seed: int) -> Iterator[str]:
    """Shared intervals without further rounds, beside the plain ones of the same sessions."""
    yield "| pairs | last cell's variance | machine | coverage (noisiest cell) | plain | width against plain | false difference in a family | false equivalence, primary |"  # noqa: E501
    yield "|---:|---:|---|---|---|---:|---:|---:|"
    for pairs in (4, 6, 10):
        for variance in (1.0, 2.0, 5.0):
            for name, scene in SCENES.items():
                logs = pair_logs(np.random.default_rng(1000 * seed + pairs), trials, CELLS, pairs, scene, variance)
                mean, error, df = shared_rows(logs)
                plain = logs.std(axis=2, ddof=1) / np.sqrt(pairs), np.full(mean.shape, pairs - 1.0)
                hit, before = covered(mean, error, df), covered(mean, *plain)
                width = np.exp(np.log(stdtrit(df, 0.975) * error / (stdtrit(plain[1], 0.975) * plain[0])).mean())
                family = (corrected(2 * stdtr(df, -abs(mean) / error)) < 0.05).any(axis=1).mean()
                alike = (stdtr(df, (abs(mean + 1) - 1) / error)[:, 0] < 0.05).mean()
                yield (
                    f"| {pairs} | {variance:g}× | {name} | {hit.mean():.1%} ({hit[:, -1].mean():.1%}) | "
                    f"{before.mean():.1%} ({before[:, -1].mean():.1%}) | {width:.2f} | {family:.1%} | {alike:.1%} |"
                )


def rounds(trials: int, seed: int) -> Iterator[str]:
    """The stopping rule: four planned blocks, then time for so many rounds of all cells."""
    yield "| rounds | last cell's variance | machine | false difference: primary (family) | false equivalence: primary (family) | coverage, true ratio 1 (noisiest) | coverage at the margin (noisiest) | baseline against itself named: one workload, any of two | decided at the margin |"  # noqa: E501
    yield "|---:|---:|---|---|---|---|---|---:|---:|"
    for n in (0, 3, 6, 10):
        for variance in (1.0, 5.0):
            for name, scene in SCENES.items():
                start = 1000 * seed + n
                none, edge = (
                    rounds_until_decided(np.random.default_rng(start), trials, n, variance, true=true, scene=scene)
                    for true in (0.0, 1.0)
                )
                yield (
                    f"| {n} | {variance:g}× | {name} | {none.primary_different:.1%} ({none.family_different:.1%}) | "
                    f"{edge.primary_equivalent:.1%} ({edge.family_equivalent:.1%}) | "
                    f"{none.coverage:.1%} ({none.noisiest:.1%}) | {edge.coverage:.1%} ({edge.noisiest:.1%}) | "
                    f"{none.first_better:.1%}, {none.named:.1%} | {edge.decided:.0%} |"
                )


def how_quiet(verdict: Verdict, trials: int, seed: int) -> Iterator[str]:
    """The run's ratios as the truth, four planned pairs, and time for 0, 2 and 6 further rounds of all cells."""
    rows = sorted((row for row in asked(verdict) if row.ratio), key=lambda row: not row.primary)
    true = np.log([[row.ratio] for row in rows])
    margin = math.log1p(rows[0].margin)
    yield f"| a pair scatters by | decided of {len(rows)}: planned blocks | with 2 further rounds of all | with 6 |"
    yield "|---:|---:|---:|---:|"
    for scatter in (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2):
        shares = []
        for n in (0, 2, 6):
            logs = pair_logs(
                np.random.default_rng(seed), trials, len(rows), 4 + ROUND * min(n * len(rows), 18), SCENES["plain"]
            )
            found = rounds_until_decided(
                None, trials, n, margin=margin / scatter, cells=len(rows), logs=logs + true / scatter
            )
            shares.append(found.decided)
        yield f"| {scatter:.0%} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="sessions per line (a third with rounds)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", type=Path, help="a run's verdict.json")
    args = parser.parse_args()
    if args.of:
        lines: Iterator[str] = how_quiet(read(args.of, Verdict), args.trials // 3, args.seed)
    else:
        lines = chain(intervals(args.trials, args.seed), [""], rounds(args.trials // 3, args.seed))
    for line in lines:
        print(line.replace("%", " %"), flush=True)
