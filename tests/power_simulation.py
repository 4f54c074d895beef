"""Sessions of several cells, simulated many at once: tests/unit/judge/test_sharing.py, benchmarks/verdict_power.py.

The formulas are those of `quantbench.stats.shared` and `quantbench.judge.rounds`, row by row in numpy; the tests
compare both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from quantbench.judge.rounds import BEYOND_DOUBT, ROUND
from scipy.special import digamma, fdtrc, polygamma, stdtr, stdtrit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A machine: steps of its random walk between slots, lag-1 correlation of blocks, depth of one slow block in ten.

    All in standard deviations of a block.
    """

    drift: float = 0.6
    correlation: float = 0.0
    burst: float = 0.0


SCENES: Final = {"plain": Scene(), "correlated": Scene(correlation=0.2), "bursts": Scene(burst=8.0)}


def pair_logs(
    rng: np.random.Generator, trials: int, cells: int, pairs: int, scene: Scene, last_variance: float = 1.0
) -> Floats:
    """Log-ratios (trials, cells, pairs) of A B B A without a true difference; sd 1 without bursts."""
    shape = (trials, cells, 2 * pairs)
    noise = rng.normal(size=shape)
    for i in range(1, shape[2] if scene.correlation else 0):
        fresh = np.sqrt(1 - scene.correlation**2) * noise[..., i]
        noise[..., i] = scene.correlation * noise[..., i - 1] + fresh
    walk = np.cumsum(rng.normal(0, scene.drift, shape), axis=2)
    speed = walk + noise - scene.burst * (rng.random(shape) < 0.1)
    first, second = speed[..., 0::2], speed[..., 1::2]
    sign = np.where(np.arange(pairs) % 2, -1.0, 1.0)  # A B, then B A
    logs = (second - first) * sign / np.sqrt(2 * (1 - scene.correlation) + scene.drift**2)
    logs[:, -1] *= np.sqrt(last_variance)
    return logs


def shared_rows(logs: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, standard error and degrees of freedom (trials, cells), as `stats.shared` has them."""
    pairs = logs.shape[2]
    s2, df = moderated(logs.var(axis=2, ddof=1), np.full(logs.shape[:2], pairs - 1.0))
    return logs.mean(axis=2), np.sqrt(s2 / pairs), df


def moderated(s2: Floats, d: Floats) -> tuple[Floats, Floats]:
    """Variances and degrees of freedom after sharing (trials, cells)."""
    if s2.shape[1] < 3:
        return s2, d
    logs = np.log(s2) - digamma(d / 2) + np.log(d / 2)
    mean, excess = logs.mean(axis=1), logs.var(axis=1, ddof=1) - polygamma(1, d / 2).mean(axis=1)
    half = np.full(len(s2), 1e8)
    ok = excess > 1e-4
    found = 0.5 + 1 / excess[ok]
    for _ in range(30):
        trigamma = polygamma(1, found)
        found = found + trigamma * (1 - trigamma / excess[ok]) / polygamma(2, found)
    half[ok] = found
    prior = np.exp(mean + digamma(half) - np.log(half))[:, None]
    worth = np.minimum(2 * half[:, None], d)
    worth = worth * fdtrc(d, worth, s2 / prior)
    return np.maximum(s2, (worth * prior + d * s2) / (worth + d)), d + worth


def covered(mean: Floats, error: Floats, df: Floats, true: float = 0.0) -> NDArray[np.bool_]:
    """Whether the 95 % interval holds the truth."""
    return abs(mean - true) <= stdtrit(df, 0.975) * error


def corrected(p: Floats) -> Floats:
    """Holm's correction of the p-values of each row."""
    order = np.argsort(p, axis=1)
    ranked = np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1)
    held = np.empty_like(p)
    np.put_along_axis(held, order, np.maximum.accumulate(np.minimum(ranked, 1), axis=1), 1)
    return held


@dataclass(frozen=True)
class Found:
    """Shares of the sessions; the first cell is the primary, the others are its family. pairs: (trials, cells).

    named: the variant is called faster for the primary's workload, or for another one, which the second cell decides.
    """

    primary_different: float
    family_different: float
    primary_equivalent: float
    family_equivalent: float
    first_better: float
    named: float
    decided: float
    coverage: float
    noisiest: float
    pairs: NDArray[np.int64]


def rounds_until_decided(
    rng: np.random.Generator | None,
    trials: int,
    rounds: int,
    last_variance: float = 1.0,
    *,
    true: float = 0.0,
    margin: float = 1.0,
    cells: int = 5,
    planned: int = 4,
    scene: Scene = SCENES["plain"],
    stop_at: float = BEYOND_DOUBT,
    logs: Floats | None = None,
) -> Found:
    """Sessions with time for `rounds` further rounds of all cells, which `next_round` spends; 5 % at the last look.

    true, margin: log-ratios, in standard deviations of a pair.
    """
    if logs is None:
        if rng is None:
            raise ValueError("rng or logs")
        logs = pair_logs(rng, trials, cells, planned + ROUND * min(rounds * cells, 18), scene, last_variance)
    d = logs + true
    sums, squares = np.cumsum(d, axis=2), np.cumsum(d**2, axis=2)
    i, j = np.ogrid[: d.shape[0], : d.shape[1]]
    n = np.full(d.shape[:2], planned)
    left = np.full(d.shape[0], rounds * d.shape[1])
    while True:
        mean = sums[i, j, n - 1] / n
        s2, df = moderated((squares[i, j, n - 1] - n * mean**2) / (n - 1), n - 1.0)
        error, effect = np.sqrt(s2 / n), abs(mean)
        different, alike = 2 * stdtr(df, -effect / error), stdtr(df, (effect - margin) / error)
        more = (np.minimum(different, alike) >= stop_at) & (n + ROUND <= d.shape[2])
        give = _given(more, effect, np.sqrt(s2), df, n, left, margin, stop_at)
        if not give.any():
            break
        n, left = n + ROUND * give, left - give.sum(axis=1)
    hit = covered(mean, error, df, true)
    held = {"different": different.copy(), "alike": alike.copy()}
    for p in held.values():
        p[:, 1:] = corrected(p[:, 1:])
    equal = held["alike"] < 0.05
    shown = (held["different"] < 0.05) & ~equal
    return Found(
        primary_different=float((different[:, 0] < 0.05).mean()),
        family_different=float((held["different"][:, 1:] < 0.05).any(axis=1).mean()),
        primary_equivalent=float(equal[:, 0].mean()),
        family_equivalent=float(equal[:, 1:].any(axis=1).mean()),
        first_better=float((shown[:, 0] & (mean[:, 0] > 0)).mean()),
        named=float((shown[:, :2] & (mean[:, :2] > 0)).any(axis=1).mean()),
        decided=float((equal | shown).mean()),
        coverage=float(hit.mean()),
        noisiest=float(hit[:, -1].mean()),
        pairs=n,
    )


def _given(more: Any, effect: Floats, sd: Floats, df: Floats, n: Any, left: Any, margin: float, at: float) -> Any:
    """Which cells get a round, as `next_round` decides it at equal prices; the first is the declared one."""
    gap = np.maximum(margin - effect, 1e-12)
    ways = ((stdtrit(df, 1 - at / 2) * sd / effect) ** 2, (stdtrit(df, 1 - at) * sd / gap) ** 2)
    need = np.where(more, np.maximum(1, np.ceil((np.minimum(*ways) - n) / ROUND)), np.inf)
    order = np.argsort(np.where(np.arange(need.shape[1]) == 0, 0, need), axis=1, kind="stable")
    ranked = np.take_along_axis(need, order, 1)
    far = ranked[:, 0] > left  # the declared one, out of reach, takes nothing from the others
    reached = np.cumsum(np.where(far[:, None] & (order == 0), 0, ranked), axis=1) <= left[:, None]
    reached[:, 0] &= ~far
    chosen = np.where(reached.any(axis=1, keepdims=True), reached, np.isfinite(ranked))
    chosen &= np.cumsum(chosen, axis=1) <= left[:, None]
    give = np.zeros_like(chosen)
    np.put_along_axis(give, order, chosen, 1)
    return give
