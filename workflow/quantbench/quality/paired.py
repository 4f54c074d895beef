"""Two models on the same items: how much was lost, how sure that is, and what so many items could have seen.

An item is lost when only the baseline passes it, gained when only the variant does. Items that share a passage come in
clusters: they may fall together, so they count for less than as many that stand alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from quantbench.records.base import Record
from quantbench.stats import beta_quantile, t_quantile

LEVEL: Final = 0.95
"""Of each one-sided bound."""
POWER: Final = 0.8
WITHIN: Final = 0.2
"""Correlation within clusters that is supposed at least: few discordant items cannot show theirs. Simulated: with it
the bounds hold for correlations up to 0.3 in clusters of 3 to 5 (tests/unit/quality/test_paired.py)."""
Z_LEVEL: Final = 1.6448536269514722
Z_POWER: Final = 0.8416212335729143
MOST_ITEMS: Final = 10_000
"""Above it, no number of items is worth naming."""


class Paired(Record, frozen=True, kw_only=True):
    """The outcomes of n items. nets: lost less gained, of each cluster in which these differ; effective: as how many
    items that stand alone they count, after the correction for few clusters.
    """

    n: int
    lost: int
    gained: int
    nets: tuple[int, ...]
    effective: float

    @property
    def loss(self) -> float | None:
        """(lost - gained) / n."""
        return (self.lost - self.gained) / self.n if self.n else None

    @property
    def discordance(self) -> float | None:
        """(lost + gained) / n."""
        return (self.lost + self.gained) / self.n if self.n else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """One-sided 95 % bounds of the loss from below and above; None without items."""
        if not self.n:
            return None
        share = self.effective / self.n
        lost, gained = self.lost * share, self.gained * share
        return -upper_bound(gained, lost, self.effective), upper_bound(lost, gained, self.effective)

    @property
    def p(self) -> float | None:
        """Two-sided p of no difference: `sign_test` of the clusters."""
        return sign_test(self.nets)


def paired(changes: Iterable[tuple[str, int]]) -> Paired:
    """From (cluster, change) of each item; an empty cluster stands for alone; change: 1 lost, -1 gained, 0 neither."""
    alone: list[int] = []
    clusters: dict[str, list[int]] = {}
    for cluster, change in changes:
        (clusters.setdefault(cluster, []) if cluster else alone).append(change)
    groups = [[change] for change in alone] + list(clusters.values())
    every = [change for group in groups for change in group]
    return Paired(
        n=len(every),
        lost=every.count(1),
        gained=every.count(-1),
        nets=tuple(sorted(net for net in map(sum, groups) if net)),
        effective=_effective(groups, len(every)),
    )


def _effective(groups: list[list[int]], n: int) -> float:
    """n by the design effect, and by (t / z)² for few clusters.

    Korn and Graubard (1998), Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24: a count out of n is put as the same share out of fewer. The
    design effect is the variance of the sum over clusters by that over items, at least 1 + (m - 1) `WITHIN` with the
    cluster size m (weighted by items).
    """
    k = len(groups)
    if k == n or k < 2:  # all stand alone; or one cluster, which is as good as one item
        return float(n if k == n else min(n, 1))
    loss = sum(map(sum, groups)) / n
    between = k / (k - 1) * sum((sum(group) - len(group) * loss) ** 2 for group in groups)
    within = sum((change - loss) ** 2 for group in groups for change in group)
    least = 1 + (sum(len(group) ** 2 for group in groups) / n - 1) * WITHIN
    effect = max(least, between / within if within else 1.0)
    return n / (effect * (t_quantile(LEVEL, k - 1) / Z_LEVEL) ** 2)


@lru_cache(maxsize=4096)
def upper_bound(lost: float, gained: float, n: float) -> float:
    """One-sided 95 % upper bound of (lost - gained) / n.

    Both shares have their exact limits (Clopper and Pearson), put together by the method of variance estimates recovery
    (Zou and Donner 2008, Construction of confidence limits about effect measures: a general approach, Statistics in
    Medicine 27): d + sqrt((u - lost/n)² + (gained/n - l)²), u the upper limit of the lost, l the lower of the gained.
    None lost and gained of 59: 5.0 %. Worst coverage where it was looked for (n 60 to 400, up to 20 % discordant, a
    loss of up to 10 points): 94.9 %; Tango's score interval has 94.2 %, Agresti and Min's adjusted Wald 86.6 %.
    """
    lost_share, gained_share = lost / n, gained / n
    above = beta_quantile(lost + 1, n - lost, LEVEL) - lost_share
    below = gained_share - beta_quantile(gained, n - gained + 1, 1 - LEVEL)
    return min(1.0, lost_share - gained_share + math.hypot(above, below))


@lru_cache(maxsize=4096)
def sign_test(nets: tuple[int, ...]) -> float | None:
    """Exact two-sided p of the sum of nets, when each could as well have had the other sign; None where all are 0.

    Of items that stand alone this is the exact McNemar test; of clusters it is its permutation form (as in Durkalski et
    al. 2003, Analysis of clustered matched-pair data, Statistics in Medicine 22, without the approximation).
    """
    sizes = [abs(net) for net in nets if net]
    if not sizes:
        return None
    ways = Counter({0: 1})
    for size, count in Counter(sizes).items():
        ways = _spread(ways, size, count)
    seen = abs(sum(nets))
    return float(sum(n for total, n in ways.items() if abs(total) >= seen) / 2 ** len(sizes))


def _spread(ways: Counter[int], size: int, count: int) -> Counter[int]:
    """In how many ways each sum comes about when `count` more of one size get a sign."""
    more: Counter[int] = Counter()
    for plus in range(count + 1):
        shift, times = size * (2 * plus - count), math.comb(count, plus)
        for total, n in ways.items():
            more[total + shift] += n * times
    return more


def smallest_loss(n: float, discordance: float) -> float | None:
    """The loss that n items find with a power of 80 % at one-sided 5 %; None without items.

    Connor (1987), Sample size for testing differences in proportions for the paired-sample design, Biometrics 43:
    (z.95 + z.80) sqrt(discordance / n), where a loss is itself discordant: at least (z.95 + z.80)² / n.
    """
    if not n:
        return None
    z = Z_LEVEL + Z_POWER
    return min(1.0, max(z * math.sqrt(discordance / n), z * z / n))


def needed(outcome: Paired, margin: float, discordance: float) -> int | None:
    """Items that show with a power of 80 % on which side of the margin the loss is, if it is as it was found.

    ((z.95 + z.80) / (margin - loss))² discordance, and at least so many that the bound itself would lie on that side;
    more in the ratio in which clusters count for less. None for a loss at the margin, which no number decides, and
    above `MOST_ITEMS`.
    """
    loss = outcome.loss
    if loss is None or loss == margin:
        return None
    lost, gained = outcome.lost / outcome.n, outcome.gained / outcome.n
    alone = max(1, math.ceil(((Z_LEVEL + Z_POWER) / (margin - loss)) ** 2 * discordance))
    while alone <= MOST_ITEMS:
        high, low = upper_bound(lost * alone, gained * alone, alone), -upper_bound(gained * alone, lost * alone, alone)
        if (high < margin) if loss < margin else (low > margin):
            break
        alone += max(1, alone // 50)
    items = math.ceil(alone * outcome.n / outcome.effective)
    return items if items <= MOST_ITEMS else None
