"""What a correct answer costs: price of a token × tokens of an answer / share of correct ones, with its interval.

Tokens and correctness are of the same items, so both models are resampled together, cluster by cluster: a bootstrap of
items. The speed comes in with the t distribution of its own comparison, drawn beside each resample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from quantbench.quality.natural import TWO_SIDED, cluster_of, judged
from quantbench.records.codes import code
from quantbench.records.comparison import Comparison
from quantbench.records.cost import CorrectCost, Cost
from quantbench.records.metric import SPEED
from quantbench.records.natural import Natural
from quantbench.records.suite import Estimate, Outcome
from quantbench.stats import t_quantile

MIN_ITEMS: Final = 30
"""Fewest clusters of items that a cost per correct answer rests on."""
MIN_CORRECT: Final = 10
"""Fewest clusters in which each side must pass an item."""
DRAWS: Final = 4000
Z: Final = 1.959964
"""Two-sided 95 % of the normal distribution."""
SEED: Final = 0
"""The same files give the same figures."""
Array = npt.NDArray[np.float64]


def with_answers(
    cost: Cost,
    comparisons: Sequence[Comparison],
    answers: Mapping[str, tuple[Natural, Sequence[Outcome]]],
) -> Cost:
    """The costs with those of correct answers, in every cell in which a variant's speed was compared.

    answers: {variant: its natural answers against the baseline's, and the items that they are of}.
    """
    rows: list[CorrectCost] = []
    for variant, (natural, outcomes) in answers.items():
        sample = _Sample(judged(outcomes)) if natural.correct else None
        rows += [
            _row(row, natural, sample, cost) for row in comparisons if (row.metric, row.variant) == (SPEED, variant)
        ]
    return replace(cost, natural=tuple(natural for natural, _ in answers.values()), correct=tuple(rows))


class _Sums(NamedTuple):
    """Sums over items, of all or of each resample. again: tokens of the baseline where the variant is wrong; either:
    items that one of both passes.
    """

    items: Array
    baseline_tokens: Array
    variant_tokens: Array
    baseline_correct: Array
    variant_correct: Array
    again: Array
    either: Array


Figure = Callable[[_Sums, Array], Array]
"""Of sums, and of what a token of the variant costs in tokens of the baseline: what a correct answer costs in these."""


def _baseline(sums: _Sums, price: Array) -> Array:
    del price
    return sums.baseline_tokens / sums.baseline_correct


def _variant(sums: _Sums, price: Array) -> Array:
    return price * sums.variant_tokens / sums.variant_correct


def _retried(sums: _Sums, price: Array) -> Array:
    """Where the baseline is asked again what the variant got wrong: c_v + (1 - p_v) c_b, item by item."""
    return (price * sums.variant_tokens + sums.again) / sums.either


def _against_baseline(figure: Figure) -> Figure:
    return lambda sums, price: figure(sums, price) / _baseline(sums, price)


class _Sample:
    """The items, and their clusters resampled DRAWS times."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        clusters: dict[str, Array] = {}
        for item in outcomes:
            name = cluster_of(item)
            clusters[name] = clusters.get(name, np.zeros(len(_Sums._fields))) + _figures(item)
        table, self.clusters = np.array(list(clusters.values())).reshape(-1, len(_Sums._fields)), len(clusters)
        self.sums = _Sums(*table.sum(axis=0)[:, None])
        with_correct = _Sums(*(table > 0).sum(axis=0)[:, None])
        self.correct = min(with_correct.baseline_correct[0], with_correct.variant_correct[0])
        self.random = np.random.default_rng(SEED)
        even = np.full(self.clusters, 1 / self.clusters)
        self.drawn = _Sums(*(self.random.multinomial(self.clusters, even, size=DRAWS) @ table).T)

    def refused(self) -> tuple[str, ...]:
        """Why there is no cost of a correct answer."""
        if self.clusters < MIN_ITEMS:
            return (code("needs_items", n=MIN_ITEMS),)
        if not (self.sums.baseline_tokens[0] and self.sums.variant_tokens[0]):
            return (code("no_values"),)
        if self.correct < MIN_CORRECT:
            return (code("needs_correct", n=MIN_CORRECT),)
        return ()

    def estimate(self, figure: Figure, price: float = 1.0, prices: Array | None = None) -> Estimate:
        """A figure with its percentile interval; prices: draws of the price, None for one that is known.

        The spread of a bootstrap is too narrow where clusters are few: in logs it is widened by sqrt(G / (G - 1)) t / z
        (Hesterberg 2014). Its centre moves with the price that is drawn, so the t of the speed is not widened again.
        """
        drawn = np.full(DRAWS, price) if prices is None else prices
        value, centre = float(figure(self.sums, np.array([price]))[0]), np.log(figure(self.sums, drawn))
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.log(figure(self.drawn, drawn))
        g = self.clusters
        logs = centre + (own - centre) * math.sqrt(g / (g - 1)) * t_quantile(TWO_SIDED, g - 1) / Z
        # A resample without a correct answer costs without end; MIN_CORRECT keeps these out of the quantiles.
        ends = np.quantile(np.nan_to_num(logs, nan=np.inf), (1 - TWO_SIDED, TWO_SIDED), method="nearest")
        low, high = map(float, np.exp(ends))
        return Estimate(value=value, low=low, high=high, n=round(self.sums.items[0]))


def _figures(item: Outcome) -> Array:
    base, own = item.baseline, item.variant
    again = 0 if own.passed else base.tokens
    either = bool(own.passed or base.passed)
    return np.array((1, base.tokens, own.tokens, bool(base.passed), bool(own.passed), again, either), dtype=float)


def _row(row: Comparison, natural: Natural, sample: _Sample | None, cost: Cost) -> CorrectCost:
    about = CorrectCost(variant=row.variant, baseline=row.baseline, **row.cell.columns)
    if sample is None:
        return replace(about, reasons=natural.reasons)
    if reasons := sample.refused():
        return replace(about, reasons=reasons)
    base, own = (_per_token(cost, model, row) for model in (row.baseline, row.variant))
    base_cost, own_cost = _priced(sample.estimate(_baseline), base), _priced(sample.estimate(_variant), own)
    found = replace(about, baseline_cost=base_cost, variant_cost=own_cost, reasons=_blank(cost, row))
    if row.ratio is None:
        return replace(found, reasons=(*found.reasons, code("no_speed_ratio")))
    price = 1 / (row.ratio * cost.assumptions.hours(row.baseline, row.variant))
    error = _speed_error(row, sample.random)
    prices = None if error is None else price * np.exp(-error)
    ratio, again = (sample.estimate(_against_baseline(figure), price, prices) for figure in (_variant, _retried))
    if prices is None:  # an interval of the items alone would be too narrow
        ratio, again = (replace(estimate, low=None, high=None) for estimate in (ratio, again))
        found = replace(found, reasons=(*found.reasons, code("no_speed_interval")))
    retried = base_cost and Estimate(value=again.value * base_cost.value, n=again.n)
    return replace(found, ratio=ratio, retry_ratio=again, retry_cost=retried)


def _speed_error(row: Comparison, random: np.random.Generator) -> Array | None:
    """Draws of the error of the log throughput ratio, from the t distribution of its comparison; None without one."""
    if row.ci_low is None or row.ci_high is None:
        return None
    df = row.df or max(1, row.n_pairs - 1)
    error = math.log(row.ci_high / row.ci_low) / 2 / t_quantile(TWO_SIDED, df)
    return error * random.standard_t(df, DRAWS)


def _per_token(cost: Cost, model: str, row: Comparison) -> float | None:
    of_cell = (entry for entry in cost.rows if entry.model == model and entry.cell == row.cell)
    per_1m = next((entry.cost_per_1m_tokens for entry in of_cell), None)
    return None if per_1m is None else per_1m / 1e6


def _blank(cost: Cost, row: Comparison) -> tuple[str, ...]:
    """Why a model has no price here."""
    of_cell = [e for e in cost.rows if e.model in (row.baseline, row.variant) and e.cell == row.cell]
    return tuple(dict.fromkeys(reason for e in of_cell if e.cost_per_1m_tokens is None for reason in e.reasons))


def _priced(tokens: Estimate, per_token: float | None) -> Estimate | None:
    """Tokens in money."""
    if per_token is None:
        return None
    low, high = (None if end is None else end * per_token for end in (tokens.low, tokens.high))
    return replace(tokens, value=tokens.value * per_token, low=low, high=high)
