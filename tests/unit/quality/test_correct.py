"""What a correct answer costs: the formula, what is blank and why, and how often the intervals hold what is true."""

from __future__ import annotations

import math

import numpy as np
import pytest
import runs
from natural_answers import item, population, sample, spread
from quantbench.judge.cost import cost_report
from quantbench.quality import correct, natural
from quantbench.records.comparison import Comparison
from quantbench.records.cost import CorrectCost, Price
from quantbench.records.suite import Outcome
from quantbench.stats import ratio_from_logs

PRICE = Price(hourly_price=3.6)
FREE = Price()


def cost_of(items: list[Outcome], row: Comparison | None = None, price: Price = PRICE) -> CorrectCost:
    rows = [row or runs.comparison(ratio=1.25, df=5.0)]
    capacity = [runs.capacity("bf16", values={"throughput_tok_s": 100.0}),
                runs.capacity("awq", values={"throughput_tok_s": 125.0})]  # fmt: skip
    pair = natural.natural(items, baseline="bf16", variant="awq")
    [found] = correct.with_answers(cost_report(capacity, rows, price), rows, {"awq": (pair, items)}).correct
    return found


def test_price_times_tokens_by_accuracy() -> None:
    items = spread(40)
    found = cost_of(items)
    base = np.mean([one.baseline.tokens for one in items])
    own = np.mean([one.variant.tokens for one in items])
    assert found.baseline_cost
    assert found.variant_cost
    assert found.ratio
    # 3.6 an hour and 100 tokens/s: 1e-5 a token.
    assert found.baseline_cost.value == pytest.approx(1e-5 * base / 0.75)
    assert found.variant_cost.value == pytest.approx(1e-5 / 1.25 * own / 0.5)
    assert found.ratio.value == pytest.approx(found.variant_cost.value / found.baseline_cost.value)
    assert found.ratio.low
    assert found.ratio.high
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert (found.ratio.n, found.reasons) == (40, ())


def test_a_retry_costs_what_the_baseline_answers_again_and_more_answers_are_correct() -> None:
    items = spread(40)
    found = cost_of(items)
    own = np.mean([one.variant.tokens for one in items]) * 1e-5 / 1.25
    again = np.mean([0 if one.variant.passed else one.baseline.tokens for one in items]) * 1e-5
    assert found.retry_cost
    assert found.retry_cost.value == pytest.approx((own + again) / 0.75)
    assert found.baseline_cost
    assert found.retry_ratio
    assert found.retry_ratio.value == pytest.approx(found.retry_cost.value / found.baseline_cost.value)


def test_the_same_files_give_the_same_figures() -> None:
    assert cost_of(spread(40)) == cost_of(spread(40))


def test_the_model_against_itself_costs_the_same_however_few_its_answers_are() -> None:
    items = [item(i, base=i % 2 == 0, passed=i % 2 == 0, tokens=(i + 1, i + 1)) for i in range(60)]
    found = cost_of(items, runs.comparison(ratio=1.0, ci_low=0.99, ci_high=1 / 0.99, df=5.0))
    assert found.ratio
    assert found.ratio.value == 1
    assert (found.ratio.low, found.ratio.high) == pytest.approx((0.99, 1.01), abs=0.002), "only the speed is open"


@pytest.mark.parametrize(("items", "row", "price", "reasons"), [
    (spread(28), None, PRICE, ("NEEDS_30_ITEMS",)),
    ([item(i, cluster=f"{i % 29}") for i in range(290)], None, PRICE, ("NEEDS_30_ITEMS",)),
    ([item(i, passed=i < 9) for i in range(60)], None, PRICE, ("NEEDS_10_CORRECT",)),
    ([item(i, tokens=(0, 0)) for i in range(60)], None, PRICE, ("NO_VALUES",)),
    ([item(i, same_input=i > 0) for i in range(60)], None, PRICE, ("OTHER_INPUT_OF_1",)),
    ([item(i, passed=None) for i in range(60)], None, PRICE, ("NO_VALUES",)),
])  # fmt: skip
def test_what_cannot_be_told_is_blank_with_its_reason(
    items: list[Outcome], row: Comparison | None, price: Price, reasons: tuple[str, ...]
) -> None:
    found = cost_of(items, row, price)
    assert found.reasons == reasons
    assert (found.ratio, found.baseline_cost, found.variant_cost, found.retry_ratio) == (None, None, None, None)


def test_without_a_price_there_is_the_ratio_alone() -> None:
    found = cost_of(spread(40), price=FREE)
    assert (found.baseline_cost, found.variant_cost, found.retry_cost, found.reasons) == (
        None,
        None,
        None,
        ("NO_PRICE",),
    )
    assert found.ratio == cost_of(spread(40)).ratio


def test_without_a_comparison_of_speed_there_is_no_ratio_and_without_its_interval_none() -> None:
    refused = cost_of(spread(40), runs.comparison(ratio=None, code="invalid"))
    assert (refused.ratio, refused.reasons) == (None, ("NO_SPEED_RATIO",))
    assert refused.variant_cost
    untested = cost_of(spread(40), runs.comparison(ratio=1.25, ci_low=None, ci_high=None, code="no_test"))
    assert untested.ratio
    assert (untested.ratio.low, untested.reasons) == (None, ("NO_SPEED_INTERVAL",))


def test_models_with_prices_of_their_own_cost_these() -> None:
    half = Price(per_hour={"bf16": 7.2, "awq": 3.6}, gpus={"bf16": 2, "awq": 1})
    found, same = cost_of(spread(40), price=half), cost_of(spread(40))
    assert found.ratio
    assert same.ratio
    assert found.ratio.value == pytest.approx(same.ratio.value / 2)


def test_cells_of_other_metrics_and_variants_have_no_row() -> None:
    rows = [runs.comparison(metric="p50_ttft_ms"), runs.comparison(variant="fp8"), runs.comparison(runs.BATCH)]
    pair = natural.natural(spread(40), baseline="bf16", variant="awq")
    found = correct.with_answers(cost_report([], rows, FREE), rows, {"awq": (pair, spread(40))})
    assert [row.cell for row in found.correct] == [runs.BATCH]
    assert found.natural == (pair,)


@pytest.mark.parametrize(("clusters", "of_each", "pairs"), [(30, 1, 4), (40, 5, 6)])
def test_intervals_hold_what_is_true_in_95_of_100_runs(
    clusters: int, of_each: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items are drawn anew, and the speed is measured anew, from few pairs of blocks that scatter by 5 %."""
    monkeypatch.setattr(correct, "DRAWS", 1000)
    true, speed = population(of_each), 1.2
    ratio = true["own"] / true["base"] / speed
    retried = (true["own tokens"] / speed + true["again"]) / true["either"] / true["base"]
    held: dict[str, list[bool]] = {"ratio": [], "retry": []}
    random = np.random.default_rng(3)
    for _ in range(200):
        logs = math.log(speed) + 0.05 * random.normal(size=pairs)
        ci = ratio_from_logs(float(logs.mean()), float(logs.std(ddof=1)), pairs)
        row = runs.comparison(ratio=ci.ratio, ci_low=ci.low, ci_high=ci.high, n_pairs=pairs, df=ci.df)
        found = cost_of(sample(random, clusters, of_each), row, FREE)
        for name, estimate, value in (("ratio", found.ratio, ratio), ("retry", found.retry_ratio, retried)):
            if estimate and estimate.low and estimate.high:
                held[name].append(estimate.low <= value <= estimate.high)
    assert min(map(len, held.values())) > 180
    # 200 samples: a coverage has a standard error of 1.5 %.
    assert {name: np.mean(hits) for name, hits in held.items() if not 0.91 <= np.mean(hits) <= 0.99} == {}
