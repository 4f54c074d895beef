"""Blocks of two arms put side by side: block n of the baseline with block n of the variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quantbench.judge.pooled import pooled_ratio
from quantbench.records import codes
from quantbench.records.block import BlockContext
from quantbench.records.cell import Cell
from quantbench.records.comparison import InvalidBlock
from quantbench.records.metric import METRICS, PER_GPU, SPEED
from quantbench.stats import RatioCI, paired_ratio, percentile

Samples = Mapping[str, Sequence[float]]  # "ttft_ms", "e2e_ms", …: one value per successful request
BlockKey = tuple[str, Cell, int]  # arm, cell, block number

# Starts of a pair that lie further apart than this were not measured next to each other.
MAX_PAIR_GAP_S = 900.0


@dataclass(frozen=True)
class Pairs:
    """The usable pairs of one (baseline, variant, cell), and what was left out."""

    a: tuple[BlockContext, ...]
    b: tuple[BlockContext, ...]
    invalid: tuple[InvalidBlock, ...] = ()
    unpaired: int = 0
    planned: int | None = None  # `blocks` of the plan, where blocks with higher numbers were added for precision
    samples: Mapping[BlockKey, Samples] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.a)

    @property
    def interleaved(self) -> bool:
        """Whether lanes and times of the blocks prove that each pair was measured side by side on the same devices."""
        return self.same_lane and interleaved([x.started_unix for x in self.a], [y.started_unix for y in self.b])

    @property
    def same_lane(self) -> bool:
        """Whether no pair is known to lie on two lanes: at the same time on two cards is not side by side."""
        lanes = [(x.lane.lane, y.lane.lane) for x, y in zip(self.a, self.b, strict=True)]
        return all(x == y for x, y in lanes if x and y)

    def first(self, numbers: Iterable[int]) -> int | None:
        """How many of the pairs with these block numbers were planned from the start; None if there was no plan."""
        return None if self.planned is None else sum(n <= self.planned for n in numbers)


@dataclass(frozen=True)
class Estimate:
    """One metric of two arms: the two values in the metric's unit, their ratio, remarks as reason codes."""

    a: float | None
    b: float | None
    ci: RatioCI
    remarks: tuple[str, ...] = ()


def arms_of(contexts: Iterable[BlockContext]) -> dict[Cell, dict[str, list[BlockContext]]]:
    """{cell: {arm: blocks}} in the order of first appearance."""
    arms: dict[Cell, dict[str, list[BlockContext]]] = {}
    for context in contexts:
        arms.setdefault(context.cell, {}).setdefault(context.arm, []).append(context)
    return arms


def pair_up(
    a: Sequence[BlockContext],
    b: Sequence[BlockContext],
    planned: int | None = None,
    samples: Mapping[BlockKey, Samples] | None = None,
) -> Pairs:
    """Pair judged blocks by number; a pair with an invalid block is left out. planned: the plan's `blocks`."""
    arms = ({x.block: x for x in a}, {y.block: y for y in b})
    valid, invalid = [], []
    for n in sorted(arms[0].keys() & arms[1].keys()):
        faulty = [arm[n] for arm in arms if not arm[n].valid]
        invalid += [InvalidBlock(model=block.arm, block=n, guards=block.reasons) for block in faulty]
        if not faulty:
            valid.append(n)
    return Pairs(
        tuple(arms[0][n] for n in valid),
        tuple(arms[1][n] for n in valid),
        tuple(invalid),
        len(arms[0].keys() ^ arms[1].keys()),
        planned,
        samples or {},
    )


def interleaved(a: Sequence[float], b: Sequence[float]) -> bool:
    """True where the members of every pair are neighbours in time (A B B A …), not arm by arm.

    a, b: start times in seconds, pair by pair. Neighbours: no other block of the two arms lies between them, and
    they start within MAX_PAIR_GAP_S. One pair alone proves no order.
    """
    if len(a) < 2:
        return False
    order = sorted(range(2 * len(a)), key=[*a, *b].__getitem__)
    place = {index: position for position, index in enumerate(order)}
    return all(abs(place[i] - place[i + len(a)]) == 1 and abs(a[i] - b[i]) <= MAX_PAIR_GAP_S for i in range(len(a)))


def measure(pairs: Pairs, metric: str, gpus: tuple[int, int] = (1, 1)) -> Estimate:
    """One metric over the pairs: from the block metrics, or pooled where blocks are too short for a p95.

    gpus: how many serve each arm, for `PER_GPU`, which is the throughput of a block divided by a constant.
    """
    name, shares = (SPEED, gpus) if metric == PER_GPU else (metric, (1, 1))
    values = [(x.block, x.metrics.get(name), y.metrics.get(name)) for x, y in zip(pairs.a, pairs.b, strict=True)]
    if not values:
        return Estimate(None, None, RatioCI(None, None, None, 0, None, None, codes.code("no_pairs")))
    complete = [(n, x, y) for n, x, y in values if x is not None and y is not None]
    missing = len(values) - len(complete)
    if missing and METRICS[metric].q == 95:
        return _pooled(pairs, metric)
    if not complete:
        return Estimate(None, None, RatioCI(None, None, None, 0, None, None, codes.code("not_measured")))
    remarks = (codes.code("missing_in_pairs", n=missing),) if missing else ()
    a, b = [x / shares[0] for _, x, _ in complete], [y / shares[1] for _, _, y in complete]
    ci = paired_ratio(a, b, first=pairs.first(n for n, _, _ in complete))
    if ci.ratio is None:
        return Estimate(None, None, ci, remarks)
    return Estimate(geometric_mean(a), geometric_mean(b), ci, remarks)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean whose ratio between two arms is exactly the mean of the paired ratios."""
    return float(np.exp(np.mean(np.log(np.asarray(values, dtype=float)))))


def _pooled(pairs: Pairs, metric: str) -> Estimate:
    name = f"{METRICS[metric].time}_ms"
    a, b = (
        [pairs.samples.get((block.arm, block.cell, block.block), {}).get(name, ()) for block in arm]
        for arm in (pairs.a, pairs.b)
    )
    ci = pooled_ratio(a, b, 95, first=pairs.first(x.block for x in pairs.a))
    if ci.ratio is None:
        return Estimate(None, None, ci)
    values = [percentile([x for block in arm for x in block], 95).value for arm in (a, b)]
    return Estimate(values[0], values[1], ci, (codes.code("p95_pooled"),))
