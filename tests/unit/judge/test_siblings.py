"""A block far from its siblings: who is named, how often, and why no block is left out for its value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import runs
from quantbench.judge.siblings import far
from quantbench.records.block import BlockContext
from scipy import stats


def blocks(*rates: float | None) -> list[BlockContext]:
    return [runs.block(number=n, metrics={"throughput_tok_s": rate}) for n, rate in enumerate(rates, start=1)]


@pytest.mark.parametrize(("rates", "named"), [
    ((), []), ((100,), []), ((None, 100, None), []),
    ((57, 699), [1]), ((699, 57), [2]),  # of two, the slower
    ((100, 124), []), ((100, 126), [1]),
    ((100, 101, 57), [3]), ((100, 101, 160), [3]), ((100, 140, 57), []),  # nobody knows
    ((100, 101, 99, 57), [4]), ((80, 100, 120, 64), []),  # one that scatters as the others do
    ((100, 101, 57, 58, 99, 100), [3, 4]),
])  # fmt: skip
def test_a_block_is_named_that_the_others_agree_against(rates: Sequence[float | None], named: list[int]) -> None:
    assert [one.block for one in far(blocks(*rates))] == named


def test_its_figures_are_named_and_blocks_that_were_refused_do_not_count() -> None:
    [one] = far(blocks(57, 690, 700, 710))
    assert (one.model, one.rate, round(one.usual)) == ("bf16", 57, 700)
    assert far([runs.but(one, valid=one.block != 1) for one in blocks(57, 690, 700, 710)]) == []


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_ordinary_scatter_is_not_worth_a_word(n: int) -> None:
    """5 % between blocks is much; a machine that scatters by 10 % is told so in one cell of ten."""
    rng = np.random.default_rng(n)
    named = [bool(far(blocks(*np.exp(rng.normal(0, 0.05, n))))) for _ in range(800)]
    assert np.mean(named) <= 0.01


def test_intervals_without_the_far_blocks_promise_too_much() -> None:
    """No true difference, blocks that scatter by 5 %; a block is left out where it is 5 % and 3 spreads off."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 0.05, (2, 20_000, 6))
    whole = np.ones(a.shape, dtype=bool)
    assert coverage(b - a, whole) == pytest.approx(0.95, abs=0.01)
    assert coverage(b - a, ~(off(a) | off(b))) < 0.90


def off(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which blocks of each row are far from the others of it, by a rule that finds many."""
    found = np.zeros(logs.shape, dtype=bool)
    for i in range(logs.shape[1]):
        others = np.delete(logs, i, axis=1)
        middle = np.median(others, axis=1)
        spread = 1.4826 * np.median(abs(others - middle[:, None]), axis=1)
        found[:, i] = abs(logs[:, i] - middle) > np.maximum(0.05, 3 * spread)
    return found


def coverage(differences: npt.NDArray[np.float64], used: npt.NDArray[np.bool_]) -> float:
    """Share of t intervals over the used pairs that hold zero, of those with three pairs or more."""
    n = used.sum(axis=1)
    differences, used, n = differences[n >= 3], used[n >= 3], n[n >= 3]
    mean = np.where(used, differences, 0).sum(axis=1) / n
    sd = np.sqrt(np.where(used, (differences - mean[:, None]) ** 2, 0).sum(axis=1) / (n - 1))
    return float(np.mean(abs(mean) <= stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n)))
