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
from quantbench.records.metric import METRICS
from quantbench.stats import RatioCI, paired_ratio, percentile

Samples = Mapping[str, Sequence[float]]  # "ttft_ms", "e2e_ms", …: one value per successful request
BlockKey = tuple[str, Cell, int]  # arm, cell, block number

# Starts of a pair that lie further apart than this were not measured next to each other.
MAX_PAIR_GAP_S = 900.0


@dataclass(frozen=True)
class Block:
    """One measured block, reduced to what a comparison needs."""

    number: int
    started_unix: float
    metrics: Mapping[str, float | None]
    valid: bool
    reasons: tuple[str, ...] = ()
    samples: Samples = field(default_factory=dict)
    lane: str | None = None  # name of the devices that served it; None where the context does not say


@dataclass(frozen=True)
class Pairs:
    """The usable pairs of one (baseline, variant, cell), and what was left out."""

    a: tuple[Block, ...]
    b: tuple[Block, ...]
    invalid: tuple[InvalidBlock, ...] = ()
    unpaired: int = 0
    planned: int | None = None  # `blocks` of the plan; blocks with higher numbers were added later

    def __len__(self) -> int:
        return len(self.a)

    @property
    def interleaved(self) -> bool:
        """Whether lanes and times of the blocks prove that each pair was measured side by side on the same devices."""
        return self.same_lane and interleaved([x.started_unix for x in self.a], [y.started_unix for y in self.b])

    @property
    def same_lane(self) -> bool:
        """Whether no pair is known to lie on two lanes: at the same time on two cards is not side by side."""
        return all(x.lane == y.lane for x, y in zip(self.a, self.b, strict=True) if x.lane and y.lane)

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


def block_of(context: BlockContext, samples: Samples | None = None) -> Block:
    """A judged block, reduced."""
    return Block(
        number=context.block,
        started_unix=context.started_unix,
        metrics=context.metrics,
        valid=context.valid,
        reasons=context.reasons,
        samples=samples or {},
        lane=context.lane.lane,
    )


def arms_of(
    contexts: Iterable[BlockContext], samples: Mapping[BlockKey, Samples]
) -> dict[Cell, dict[str, list[Block]]]:
    """{cell: {arm: blocks}} in the order of first appearance."""
    arms: dict[Cell, dict[str, list[Block]]] = {}
    for context in contexts:
        block = block_of(context, samples.get((context.arm, context.cell, context.block)))
        arms.setdefault(context.cell, {}).setdefault(context.arm, []).append(block)
    return arms


def pair_up(a: Sequence[Block], b: Sequence[Block], names: tuple[str, str], planned: int | None = None) -> Pairs:
    """Pair by block number; a pair with an invalid block is left out. planned: the plan's `blocks`."""
    by_number = ({x.number: x for x in a}, {y.number: y for y in b})
    both = sorted(by_number[0].keys() & by_number[1].keys())
    valid, invalid = [], []
    for n in both:
        faulty = [(name, arm[n]) for name, arm in zip(names, by_number, strict=True) if not arm[n].valid]
        invalid += [InvalidBlock(model=name, block=n, guards=block.reasons) for name, block in faulty]
        if not faulty:
            valid.append(n)
    return Pairs(
        tuple(by_number[0][n] for n in valid),
        tuple(by_number[1][n] for n in valid),
        tuple(invalid),
        len(by_number[0].keys() ^ by_number[1].keys()),
        planned,
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


def measure(pairs: Pairs, metric: str) -> Estimate:
    """One metric over the pairs: from the block metrics, or pooled where blocks are too short for a p95."""
    values = [(x.number, x.metrics.get(metric), y.metrics.get(metric)) for x, y in zip(pairs.a, pairs.b, strict=True)]
    if not values:
        return Estimate(None, None, RatioCI(None, None, None, 0, None, None, codes.code("no_pairs")))
    complete = [(n, x, y) for n, x, y in values if x is not None and y is not None]
    missing = len(values) - len(complete)
    if missing and METRICS[metric].q == 95:
        return _pooled(pairs, metric)
    if not complete:
        return Estimate(None, None, RatioCI(None, None, None, 0, None, None, codes.code("not_measured")))
    remarks = (codes.code("missing_in_pairs", n=missing),) if missing else ()
    a, b = [x for _, x, _ in complete], [y for _, _, y in complete]
    ci = paired_ratio(a, b, first=pairs.first(n for n, _, _ in complete))
    if ci.ratio is None:
        return Estimate(None, None, ci, remarks)
    return Estimate(geometric_mean(a), geometric_mean(b), ci, remarks)


def geometric_mean(values: Sequence[float]) -> float:
    """The mean whose ratio between two arms is exactly the mean of the paired ratios."""
    return float(np.exp(np.mean(np.log(np.asarray(values, dtype=float)))))


def _pooled(pairs: Pairs, metric: str) -> Estimate:
    name = f"{METRICS[metric].time}_ms"
    a, b = ([block.samples.get(name, ()) for block in arm] for arm in (pairs.a, pairs.b))
    ci = pooled_ratio(a, b, 95, first=pairs.first(x.number for x in pairs.a))
    if ci.ratio is None:
        return Estimate(None, None, ci)
    values = [percentile([x for block in arm for x in block], 95).value for arm in (a, b)]
    return Estimate(values[0], values[1], ci, (codes.code("p95_pooled"),))
