"""One comparison, decided: two tests on the paired log-ratios, corrected in families. Pure.

Equivalence within the margin (TOST), and difference from 1 (Student's t). The declared primary cell and metric is
tested at 5 %; all other rows of a variant are one family per test, corrected with Holm's method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantbench.judge import verdict_words as words
from quantbench.judge.pairing import Cell, Measured, Pairs
from quantbench.judge.precision import blocks_to_decide
from quantbench.stats import MIN_PAIRS, half_width, holm, tost

ALPHA = 0.05


@dataclass(frozen=True)
class Row:
    """One comparison before it is written: what was measured, and both p-values as they count."""

    cell: Cell
    variant: str
    metric: str
    measured: Measured
    margin: float
    pairs: Pairs
    blockers: tuple[str, ...]  # why the comparison is refused as a whole
    primary: bool
    p_difference: float | None = None
    p_equivalence: float | None = None
    family: int = 1  # comparisons in the family it is corrected with
    coarse: bool = False  # the A/A control widened the margin so far that "equivalent" would say too much

    @property
    def alike(self) -> bool:
        """Whether the ratio is shown to lie within the margin."""
        return self.p_equivalence is not None and self.p_equivalence < ALPHA


def correct(rows: Sequence[Row]) -> list[Row]:
    """Fill in both p-values: the primary as it is, all others corrected together (Holm)."""
    usable = [bool(not row.blockers and len(row.pairs) >= MIN_PAIRS) for row in rows]
    raw = [row.measured.ci.p_value if ok else None for row, ok in zip(rows, usable, strict=True)]
    same = [tost(row.measured.ci, row.margin) if ok else None for row, ok in zip(rows, usable, strict=True)]
    family = [not row.primary for row in rows]
    held = [holm([p if rest else None for p, rest in zip(ps, family, strict=True)]) for ps in (raw, same)]
    size = sum(p is not None for p in held[0])
    return [
        replace(
            row,
            p_difference=held[0][i] if family[i] else raw[i],
            p_equivalence=held[1][i] if family[i] else same[i],
            family=size if family[i] else 1,
        )
        for i, row in enumerate(rows)
    ]


def decide(row: Row) -> str:
    """better | worse | equivalent | undecided | no_test | invalid."""
    ci = row.measured.ci
    if row.blockers or (row.pairs.refused and len(row.pairs) < MIN_PAIRS):
        return "invalid"
    if row.p_difference is None or row.p_equivalence is None or ci.ratio is None:
        return "no_test"
    if row.alike:
        return "undecided" if row.coarse else "equivalent"
    if row.p_difference < ALPHA:
        return "better" if (ci.ratio > 1) == words.higher_is_better(row.metric) else "worse"
    return "undecided"


def blocks_more(row: Row, most_blocks: int) -> int | None:
    """Further blocks until the CI is as narrow as the margin, or, where it is already, until it would decide.

    None where more than `most_blocks` in all would be needed.
    """
    ci, width = row.measured.ci, half_width(row.measured.ci)
    if width is None or ci.ratio is None:
        return None
    return blocks_to_decide(ci.ratio, width, ci.n, row.margin, most_blocks)
