"""One comparison, decided: two tests on the paired log-ratios, corrected in families.

Equivalence within the margin (TOST), and difference from 1 (Student's t). The declared primary cell and metric is
tested at 5 %; all other comparisons of a variant are one family per test, corrected with Holm's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from quantbench.judge.pairing import Measured, Pairs
from quantbench.judge.precision import blocks_to_decide
from quantbench.records.cell import Cell
from quantbench.records.comparison import Code
from quantbench.records.metric import METRICS
from quantbench.stats import MIN_PAIRS, half_width, holm, tost

ALPHA: Final = 0.05
COARSE_MARGIN: Final = 0.1
"""Where the A/A control widens the margin beyond this, "equivalent" would call two models the same that nobody measured
well enough to say so. A margin that the config itself sets wider is the user's own."""


@dataclass(frozen=True)
class Candidate:
    """One comparison before it is written: what was measured, and both p-values as they count.

    blockers: why it is refused as a whole. family: how many comparisons it is corrected with. coarse: the A/A control
    widened the margin so far that "equivalent" would say too much.
    """

    cell: Cell
    variant: str
    metric: str
    measured: Measured
    margin: float
    pairs: Pairs
    blockers: tuple[str, ...] = ()
    primary: bool = False
    p_difference: float | None = None
    p_equivalence: float | None = None
    family: int = 1
    coarse: bool = False

    @property
    def alike(self) -> bool:
        """Whether the ratio is shown to lie within the margin."""
        return self.p_equivalence is not None and self.p_equivalence < ALPHA


def is_coarse(margin: float, wanted: float) -> bool:
    """Whether a margin was widened so far beyond the wanted one that nothing should be called equivalent within it."""
    return margin > max(COARSE_MARGIN, wanted)


def correct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Fill in both p-values: the primary as it is, all others corrected together (Holm)."""
    usable = [bool(not c.blockers and len(c.pairs) >= MIN_PAIRS) for c in candidates]
    raw = [c.measured.ci.p_value if ok else None for c, ok in zip(candidates, usable, strict=True)]
    same = [tost(c.measured.ci, c.margin) if ok else None for c, ok in zip(candidates, usable, strict=True)]
    family = [not c.primary for c in candidates]
    held = [holm([p if rest else None for p, rest in zip(ps, family, strict=True)]) for ps in (raw, same)]
    size = sum(p is not None for p in held[0])
    return [
        replace(
            candidate,
            p_difference=held[0][i] if family[i] else raw[i],
            p_equivalence=held[1][i] if family[i] else same[i],
            family=size if family[i] else 1,
        )
        for i, candidate in enumerate(candidates)
    ]


def decide(candidate: Candidate) -> Code:
    """The code of a corrected comparison."""
    ci = candidate.measured.ci
    if candidate.blockers or (candidate.pairs.invalid and len(candidate.pairs) < MIN_PAIRS):
        return "invalid"
    if candidate.p_difference is None or candidate.p_equivalence is None or ci.ratio is None:
        return "no_test"
    if candidate.alike:
        return "undecided" if candidate.coarse else "equivalent"
    if candidate.p_difference < ALPHA:
        return "better" if METRICS[candidate.metric].is_better(ci.ratio) else "worse"
    return "undecided"


def likely(candidate: Candidate) -> Literal["gain", "loss"] | None:
    """What the own CI of an undecided comparison suggests, where it excludes 1 but the corrected test does not.

    A CI within the margin suggests neither: if there is a difference, it is one that does not matter.
    """
    ci, bound = candidate.measured.ci, 1 + candidate.margin
    if ci.ratio is None or ci.low is None or ci.high is None or ci.low <= 1 <= ci.high:
        return None
    if ci.low > 1 / bound and ci.high < bound:
        return None
    return "gain" if METRICS[candidate.metric].is_better(ci.ratio) else "loss"


def blocks_more(candidate: Candidate, most_blocks: int) -> int | None:
    """Further blocks until the CI is as narrow as the margin, or, where it is already, until it would decide.

    None where more than `most_blocks` in all would be needed.
    """
    ci, width = candidate.measured.ci, half_width(candidate.measured.ci)
    if width is None or ci.ratio is None:
        return None
    return blocks_to_decide(ci.ratio, width, ci.n, candidate.margin, most_blocks)
