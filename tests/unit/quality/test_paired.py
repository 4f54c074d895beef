"""Do the bounds of a loss hold what they promise? Exactly for items that stand alone, by simulation for clusters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.quality.paired import Paired, needed, paired, sign_test, smallest_loss, upper_bound
from scipy.stats import beta, binom

PROMISED = 0.94
SHARES = [
    (discordance, loss)
    for discordance in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
    for loss in (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
    if loss <= discordance
]
"""(share of items that differ, loss)."""


def alone(n: int, lost: int, gained: int) -> Paired:
    return paired([("", 1)] * lost + [("", -1)] * gained + [("", 0)] * (n - lost - gained))


def counts(n: int, p: float) -> np.ndarray:
    return np.arange(int(binom.ppf(1 - 1e-7, n, p)) + 1)


@pytest.mark.parametrize("n", [60, 150, 400])
def test_the_bounds_cover_what_they_promise(n: int) -> None:
    """One-sided 95 %: the probability of all counts whose bound lies on the right side, summed exactly."""
    for discordance, loss in SHARES:
        lost, gained = (discordance + loss) / 2, (discordance - loss) / 2
        above = below = 0.0
        for b in counts(n, lost):
            of_b = binom.pmf(b, n, lost)
            cs = counts(n - b, gained / (1 - lost))
            for c, of_c in zip(cs, binom.pmf(cs, n - b, gained / (1 - lost)), strict=True):
                if of_b * of_c > 1e-8:
                    low, high = alone_bounds(n, int(b), int(c))
                    above += of_b * of_c * (high >= loss - 1e-12)
                    below += of_b * of_c * (low <= loss + 1e-12)
        assert min(above, below) >= PROMISED, (discordance, loss)


def alone_bounds(n: int, lost: int, gained: int) -> tuple[float, float]:
    return -upper_bound(gained, lost, n), upper_bound(lost, gained, n)


def clusters(n: int, shares: tuple[float, float], within: float, trials: int, rng: np.random.Generator) -> np.ndarray:
    """Changes (trials, clusters, 5) of items in clusters of 3 to 5 (absent ones are 2), correlated within these."""
    sizes = [3, 4, 5] * math.ceil(n / 12)
    discordance, loss = shares
    p = np.array([(discordance + loss) / 2, (discordance - loss) / 2, 1 - discordance])
    if within:
        gammas = rng.gamma(np.maximum(p * (1 - within) / within, 1e-12), size=(trials, len(sizes), 3))
        of_cluster = gammas / gammas.sum(-1, keepdims=True)
    else:
        of_cluster = np.broadcast_to(p, (trials, len(sizes), 3))
    draw = rng.random((trials, len(sizes), 5))
    lost = draw < of_cluster[..., :1]
    gained = ~lost & (draw < of_cluster[..., :2].sum(-1, keepdims=True))
    changes = lost.astype(int) - gained
    changes[:, np.arange(5)[None, :] >= np.array(sizes)[:, None]] = 2
    return changes


@pytest.mark.parametrize("within", [0.0, 0.15, 0.3])
def test_the_bounds_cover_in_clusters_of_correlated_items(within: float) -> None:
    rng, trials = np.random.default_rng(11), 300
    covered = []
    for n, shares in itertools.product((60, 240), [(0.02, 0.02), (0.05, 0.05), (0.1, 0.0), (0.1, 0.05), (0.2, 0.1)]):
        hits = 0
        for trial in clusters(n, shares, within, trials, rng):
            found = paired((f"c{i}", int(c)) for i, row in enumerate(trial) for c in row if c != 2).bounds
            hits += found is not None and found[1] >= shares[1] - 1e-12
        covered.append(hits / trials)
    # 3 standard errors of a share over the trials below what is promised; over all cases, none.
    assert min(covered) >= PROMISED - 3 * math.sqrt(0.95 * 0.05 / trials), covered
    assert np.mean(covered) >= 0.95


def test_clusters_of_one_are_items_that_stand_alone() -> None:
    changes = [1, -1, 1, 0, 0, 1, 0, 0]
    own = paired((f"c{i}", change) for i, change in enumerate(changes))
    assert own == paired(("", change) for change in changes) == alone(8, 3, 1)
    assert own.effective == 8


def test_items_that_fall_together_count_for_less() -> None:
    together = paired([("a", 1)] * 4 + [(f"b{i // 4}", 0) for i in range(76)])
    apart = alone(80, 4, 0)
    assert together.bounds
    assert apart.bounds
    assert together.loss == apart.loss
    assert together.bounds[1] > apart.bounds[1]
    assert (apart.p, together.p) == (0.125, 1.0), "one cluster that fell is one coin"
    assert paired([("a", 0)] * 9).effective == 1, "one passage is as good as one item"
    quiet = paired((f"c{i // 4}", 0) for i in range(80))
    assert quiet.effective < 80 / (1 + 3 * 0.2), "where nothing differs, a correlation is supposed all the same"


def test_known_bounds() -> None:
    assert upper_bound(0, 0, 59) == pytest.approx(1 - 0.05 ** (1 / 59)) == pytest.approx(0.0495, abs=1e-4)
    assert upper_bound(3, 0, 50) == pytest.approx(beta.ppf(0.95, 4, 47)), "nothing gained: Clopper and Pearson"
    assert upper_bound(5, 0, 5) == 1.0
    assert paired([]).bounds is None
    assert (paired([]).loss, paired([]).p, paired([]).discordance) == (None, None, None)


@settings(deadline=None)
@given(n=st.integers(1, 300), data=st.data())
def test_the_bounds_enclose_the_loss_and_mirror_each_other(n: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, n))
    gained = data.draw(st.integers(0, n - lost))
    found, other = alone(n, lost, gained), alone(n, gained, lost)
    assert found.bounds
    assert other.bounds
    assert found.loss is not None
    assert found.bounds == pytest.approx((-other.bounds[1], -other.bounds[0]))
    assert -1 <= found.bounds[0] <= found.loss + 1e-12
    assert found.loss - 1e-12 <= found.bounds[1] <= 1


@settings(deadline=None)
@given(b=st.integers(0, 40), c=st.integers(0, 40))
def test_of_single_items_the_sign_test_is_exact_mcnemar(b: int, c: int) -> None:
    p = alone(b + c + 5, b, c).p
    if b + c:
        assert p == pytest.approx(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)))
    else:
        assert p is None


@given(st.lists(st.integers(-3, 3), max_size=9))
def test_of_clusters_it_counts_all_signs(nets: list[int]) -> None:
    moved = [abs(net) for net in nets if net]
    if not moved:
        assert sign_test(tuple(nets)) is None
        return
    sums = [abs(sum(s * m for s, m in zip(signs, moved, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(moved))]  # fmt: skip
    assert sign_test(tuple(nets)) == pytest.approx(sum(x >= abs(sum(nets)) for x in sums) / len(sums))


def test_published_values_of_mcnemar() -> None:
    assert [alone(30, *pair).p for pair in ((5, 0), (6, 0), (5, 1), (8, 1))] == pytest.approx(
        [0.0625, 0.03125, 0.21875, 0.0390625]
    )


@pytest.mark.parametrize(("n", "discordance"), [(60, 0.02), (200, 0.05), (400, 0.04), (400, 0.1)])
def test_the_smallest_loss_is_seen_four_times_in_five(n: int, discordance: float) -> None:
    loss = smallest_loss(n, discordance)
    assert loss is not None
    rng, share = np.random.default_rng(3), max(discordance, loss)
    lost = rng.binomial(n, (share + loss) / 2, 4000)
    gained = rng.binomial(n - lost, (share - loss) / 2 / (1 - (share + loss) / 2))
    seen = np.mean([binom.cdf(c, b + c, 0.5) < 0.05 for b, c in zip(lost, gained, strict=True)])
    assert 0.65 <= seen <= 0.9, "the exact test of small counts has less power than the formula says"
    assert (smallest_loss(0, 0.1), smallest_loss(2, 0.5)) == (None, 1.0)


def test_the_number_that_would_decide() -> None:
    found = alone(400, 8, 6)
    more = needed(found, 0.02, found.discordance or 0)
    assert more is not None
    assert 400 < more < 2000
    decided = 0
    rng = np.random.default_rng(7)
    for _ in range(400):
        lost = rng.binomial(more, 0.02)
        gained = rng.binomial(more - lost, 0.015 / 0.98)
        decided += upper_bound(int(lost), int(gained), more) < 0.02
    assert 0.7 <= decided / 400 <= 0.9, "four times in five"
    assert needed(alone(100, 2, 0), 0.02, 0.02) is None, "a loss at the margin is never decided"
    assert needed(alone(1000, 20, 1), 0.0191, 0.02) is None, "too many to be worth naming"
    assert needed(paired([]), 0.02, 0.0) is None
    clustered = paired((f"c{i // 4}", int(i % 50 == 0) - int(i % 60 == 1)) for i in range(400))
    assert (needed(clustered, 0.05, 0.04) or 0) > (
        needed(alone(400, clustered.lost, clustered.gained), 0.05, 0.04) or 0
    )
