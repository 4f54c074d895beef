"""Natural answers: lengths, what is cut, loops, broken ones; how often their intervals hold what is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from natural_answers import item, population, sample
from quantbench.quality import natural
from quantbench.records.natural import Natural, Rates
from quantbench.records.quality import CheckResult, Item, Side
from quantbench.records.suite import Estimate, Outcome, SuiteScore


def of(items: list[Outcome]) -> Natural:
    return natural.natural(items, baseline="bf16", variant="int8")


def counts(rates: Rates | None) -> tuple[float, float, float]:
    assert rates
    return rates.baseline.value, rates.variant.value, rates.difference.value


def test_what_is_counted_of_both_sides() -> None:
    ends: list[dict[str, Any]] = [
        {"cut": True}, {"cut": True, "in_thought": True, "hard": ("not_empty",), "passed": False},
        {"hard": ("no_repetition",), "passed": False}, {"hard": ("not_garbled", "no_repetition"), "passed": False},
        {"in_thought": True, "hard": ("not_empty",), "passed": False},
    ]  # fmt: skip
    found = of([item(n, tokens=(100, 120), **(ends[n] if n < 5 else {})) for n in range(20)])
    assert (found.items, found.clusters, found.baseline_tokens, found.variant_tokens) == (20, 20, 100, 120)
    assert counts(found.cut) == (0, 0.1, 0.1)
    assert counts(found.cut_in_thought) == (0, 0.05, 0.05)
    assert counts(found.loops) == (0, 0.1, 0.1)
    assert counts(found.broken) == (0, 0.1, 0.1), "a cut thought is told apart from one that ends in nothing"
    assert counts(found.correct) == pytest.approx((1, 0.8, -0.2))
    assert found.either == Estimate(value=1.0, low=pytest.approx(0.8316, abs=1e-4), high=1.0, n=20)
    assert found.length_ratio
    assert found.length_ratio.value == pytest.approx(1.2)
    assert (found.length_ratio.low, found.reasons) == (None, ("NO_VARIATION",)), "all are longer by the same"


def test_an_item_whose_code_was_not_run_is_no_item() -> None:
    assert of([item(n, passed=None if n else True) for n in range(12)]).items == 1


@pytest.mark.parametrize(("items", "reason"), [
    ([], "NO_VALUES"),
    ([item(1, passed=None)], "NO_VALUES"),
    ([item(n, same_input=n != 3) for n in range(20)], "OTHER_INPUT_OF_1"),
])  # fmt: skip
def test_what_was_not_asked_alike_has_no_figures(items: list[Outcome], reason: str) -> None:
    found = of(items)
    assert (found.length_ratio, found.cut, found.correct, found.reasons) == (None, None, None, (reason,))


def test_few_clusters_give_figures_and_no_intervals() -> None:
    found = of([item(n, tokens=(100, 100 + n), cluster=f"passage {n % 9}") for n in range(90)])
    assert found.length_ratio
    assert found.length_ratio.low is None
    assert found.cut
    assert found.cut.difference == Estimate(value=0, n=90)
    assert found.reasons == ("CI_NEEDS_10_CLUSTERS",)


def test_items_of_one_passage_are_worth_fewer_than_as_many_alone() -> None:
    alone = [item(n, cut=n % 20 < 5) for n in range(100)]
    together = [runs.but(one, cluster=f"{n % 20}") for n, one in enumerate(alone)]
    spans = [rates.variant for rates in (of(alone).cut, of(together).cut) if rates]
    lengths = [(s.high or 0) - (s.low or 0) for s in spans]
    assert lengths[1] > 2 * lengths[0]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=10, max_size=60))
def test_intervals_hold_their_figures_and_turn_with_the_sides(pairs: list[tuple[bool, bool]]) -> None:
    groups = np.arange(len(pairs))
    forth, back = (natural._difference([p[i] for p in pairs], [p[1 - i] for p in pairs], groups) for i in (0, 1))
    assert forth.low is not None
    assert forth.high is not None
    assert -1 <= forth.low <= forth.value + 1e-12
    assert forth.value - 1e-12 <= forth.high <= 1
    assert back.low == pytest.approx(-forth.high)
    share = natural.share([p[0] for p in pairs], groups)
    assert share.low is not None
    assert share.high is not None
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_items_of_all_suites_count_and_the_prompts_only_where_there_are_none() -> None:
    def scored(suite: str, kind: str, *items: Outcome) -> SuiteScore:
        return SuiteScore(suite=suite, kind=kind, version="1", baseline="bf16", variant="awq", outcomes=items)  # type: ignore[arg-type]

    details = runs.quality(details=(runs_item("p1"), runs_item("p2", ok=None)))
    suites, items = natural.pooled([], details)
    assert (suites, [one.id for one in items]) == (("prompts",), ["p1", "p2"])
    assert (items[0].variant.in_thought, items[0].variant.hard, items[1].variant.passed) == (
        True, ("no_repetition",), None
    )  # fmt: skip
    scores = [
        scored("tasks", "answers", item(1, cluster="x")), scored("more", "answers", item(1), item(2, cluster="x")),
        scored("lm", "lm_eval", item(7)),
    ]  # fmt: skip
    suites, items = natural.pooled(scores, details)
    assert (suites, [one.id for one in items]) == (("tasks", "more"), ["tasks/1", "more/1", "more/2"])
    assert len({natural.cluster_of(one) for one in items}) == 3
    found = natural.of_run("bf16", scores, [details])
    assert [(pair.items, pair.suites) for pair, _ in found.values()] == [(3, ("tasks", "more"))]
    assert natural.tokens(pair for pair, _ in found.values()) == {"bf16": 100, "awq": 100}
    assert natural.of_run("bf16", [], []) == {}


def runs_item(name: str, *, ok: bool | None = True) -> Any:
    check = CheckResult(type="python", ok=ok, detail="")
    loop = CheckResult(type="no_repetition", ok=False, detail="", hard=True)
    base = Side(output="x", passed=bool(ok), tokens=1, finish_reason="stop", checks=(check,))
    own = Side(output="x", passed=False, tokens=9, finish_reason="length", checks=(check, loop), thought="open")
    return Item(
        id=name, kind="code", prompt="q", change="worse", identical=False, same_input=True, first_divergence_token=0,
        baseline=base, variant=own,
    )  # fmt: skip


@pytest.mark.parametrize(("clusters", "of_each"), [(30, 1), (40, 5)])
def test_intervals_hold_what_is_true_in_95_of_100_samples(clusters: int, of_each: int) -> None:
    """Answers of which 60 % are the same on both sides, the others longer or cut; items of a passage err together."""
    true = population(of_each)
    held: dict[str, list[bool]] = {}
    random = np.random.default_rng(5)
    for _ in range(300):
        found = of(sample(random, clusters, of_each))
        assert found.cut
        assert found.correct
        for name, estimate in {
            "length": found.length_ratio, "cut": found.cut.variant, "cut more": found.cut.difference,
            "correct": found.correct.variant, "correct less": found.correct.difference,
        }.items():  # fmt: skip
            assert estimate
            assert estimate.low is not None
            assert estimate.high is not None
            held.setdefault(name, []).append(estimate.low <= true[name] <= estimate.high)
    # 300 samples: a coverage has a standard error of 1.3 % (of 8000 the length's is 93.9 % at 30 items alone, 94.7 % at
    # 200 in 40 passages). Exact intervals of counts cover more than they say.
    shares = {name: float(np.mean(hits)) for name, hits in held.items()}
    assert {name: share for name, share in shares.items() if not 0.91 <= share <= 1} == {}
    assert shares["length"] <= 0.98
