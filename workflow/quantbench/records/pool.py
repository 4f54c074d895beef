"""How a figure is had from blocks: a sum, a quotient of sums, or a percentile over requests.

Blocks are taken together as a `Pool`; a block's own figure is that of a pool of it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from quantbench.records.request import RequestRecord, Window


@dataclass(frozen=True)
class Measured:
    """A block as metrics see it: its requests, its steady window, energy of its devices in J, whether it is valid."""

    requests: Sequence[RequestRecord]
    window: Window | None = None
    energy_j: float | None = None
    valid: bool = True

    @property
    def ok(self) -> list[RequestRecord]:
        """Requests that succeeded."""
        return [request for request in self.requests if request.ok]


@dataclass(frozen=True)
class Pool:
    """Blocks taken together. Figures are of the valid ones; where none is, of all, which are then not valid either.

    gpus: how many served them.
    """

    everyone: Sequence[Measured]
    gpus: int = 1

    @property
    def used(self) -> Sequence[Measured]:
        """The blocks that figures rest on."""
        return [block for block in self.everyone if block.valid] or self.everyone

    def requests(self, *, everyone: bool = False) -> list[RequestRecord]:
        """Requests of the used blocks, or of every block."""
        return list(chain.from_iterable(block.requests for block in (self.everyone if everyone else self.used)))


@dataclass(frozen=True, slots=True)
class Sum:
    """A quantity of a block that adds up; a block without it adds nothing.

    whole: unless every block has it, it is not known. everyone: over blocks that are not valid too.
    """

    of: Callable[[Measured], float | None]
    whole: bool = False
    everyone: bool = False

    def over(self, pool: Pool) -> float | None:
        """The sum over a pool."""
        each = [self.of(block) for block in (pool.everyone if self.everyone else pool.used)]
        known = [value for value in each if value is not None]
        return None if each and len(known) < (len(each) if self.whole else 1) else sum(known)


@dataclass(frozen=True, slots=True)
class Quotient:
    """A sum over another, so that long blocks weigh more; None where there is nothing to divide by."""

    numerator: Sum
    denominator: Sum

    def over(self, pool: Pool) -> float | None:
        """The quotient of a pool."""
        numerator, denominator = self.numerator.over(pool), self.denominator.over(pool)
        return numerator / denominator if numerator is not None and denominator else None


@dataclass(frozen=True, slots=True)
class Whole:
    """What only a pool of blocks has."""

    over: Callable[[Pool], float | None]


@dataclass(frozen=True, slots=True)
class Time:
    """A time of a request in ms: its name in columns and in prose, its values.

    values: one, none where it is not defined, or several. unfit: the code of why requests have no percentile of it.
    independent: whether its values are, so far as requests are; only then order statistics give an interval.
    """

    name: str
    words: str
    formula: str
    values: Callable[[RequestRecord], Sequence[float]]
    unfit: Callable[[Sequence[RequestRecord]], str | None] = lambda _: None
    independent: bool = True


@dataclass(frozen=True, slots=True)
class Quantile:
    """The q-th percentile of a time over requests; adjusted: of every block, a failed one as +inf."""

    time: Time
    q: int
    adjusted: bool = False
