"""A block far from its siblings, the other valid blocks of its arm in its cell.

It is named and stays in: to leave out blocks for their values makes intervals narrower than the truth allows (95 % ones
then hold in 88 %; tests/unit/judge/test_siblings.py). A block is refused for a cause, which has a guard of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from quantbench.records.block import BlockContext
from quantbench.records.measurement import FarBlock
from quantbench.records.metric import SPEED

FAR: Final = 0.25
"""Nearer than this to the others a block is not worth a word, however near those are to each other."""
SPREADS: Final = 5.0
"""Of the others, by their median absolute deviation: where blocks scatter, one that does is no exception."""
_NORMAL: Final = 1.4826
"""Standard deviation / median absolute deviation of a normal distribution."""


def rates(blocks: Iterable[BlockContext]) -> list[tuple[BlockContext, float]]:
    """The valid blocks that have a throughput, each with it, tok/s."""
    return [(block, rate) for block in blocks if block.valid and (rate := block.metrics.get(SPEED))]


def far(blocks: Sequence[BlockContext]) -> list[FarBlock]:
    """Blocks of one arm in one cell whose throughput is far from the median of the others; at most half of them.

    Of two blocks nobody knows which one is odd: the slower is named, as what disturbs a block makes it slow.
    """
    known, named = rates(blocks), []
    for block, rate in known:
        others = [math.log(other) for its, other in known if its is not block]
        if not others:
            continue
        middle = median(others)
        spread = _NORMAL * median(abs(other - middle) for other in others)
        distance = math.log(rate) - middle
        if abs(distance) > max(math.log1p(FAR), SPREADS * spread) and (len(others) > 1 or distance < 0):
            usual = math.exp(middle)
            named.append(FarBlock(model=block.arm, **block.cell.columns, block=block.block, rate=rate, usual=usual))
    return named
