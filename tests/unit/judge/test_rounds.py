"""Which cells get a further round of blocks, when there is none, and why an answer stays open."""

from __future__ import annotations

import math

import pytest
import runs
from quantbench.judge.rounds import BEYOND_DOUBT, explained, next_round
from quantbench.records.cell import Cell
from quantbench.records.metric import PER_GPU
from quantbench.stats import ratio_from_logs, tost

C1, C8, C16 = (Cell.of("chat", n, 128) for n in (1, 8, 16))
COST = {C1.key: 60.0, C8.key: 60.0}
SIX = {C1.key: 6, C8.key: 6}


def row(cell, log=0.01, sd=0.01, n=6, metric="throughput_tok_s", **changes):
    ci = ratio_from_logs(log, sd, n)
    figures = {"ratio": ci.ratio, "ci_low": ci.low, "ci_high": ci.high, "n_pairs": n, "sd": sd, "df": ci.df}
    tests = {"p_value": ci.p_value, "p_equivalence": tost(ci, 0.02), "code": "undecided"}
    return runs.comparison(cell, metric, **{**figures, **tests, "primary": False, **changes})


def rounds(*rows, measured=SIX, left=1e9, cost=COST):
    return next_round(runs.verdict(rows), measured, left, cost)


def rounds_of(answer):
    """Rounds until one answer is beyond doubt: the least time in which it is reached, so that a far one gets none."""
    far = row(C16, 0.01, 0.5)
    cost = {answer.cell.key: 1.0, C16.key: 1.0}
    reached = (n for n in range(2, 1000) if rounds(far, answer, left=n, cost=cost, measured={}) == {answer.cell.key: 2})
    return next(reached)


@pytest.mark.parametrize("log", [0.2, 0.0001])
def test_a_cell_is_left_alone_where_its_difference_or_its_equivalence_is_beyond_doubt(log):
    sure, unsure = row(C1, log, 0.004), row(C1, log / 4, 0.04)
    assert min(sure.p_value, sure.p_equivalence) < BEYOND_DOUBT
    assert rounds(sure) == {}
    assert rounds(unsure) == {C1.key: 2}


def test_that_an_answer_is_significant_at_5_percent_stops_nothing():
    shown = row(C1, 0.02, 0.015, code="better")
    assert 0.001 < shown.p_value < 0.05
    assert rounds(shown) == {C1.key: 2}


def test_one_variant_that_is_open_keeps_its_cell_open():
    assert rounds(row(C1, 0.2, 0.004), row(C1, variant="gptq")) == {C1.key: 2}


def test_what_is_cheapest_to_decide_comes_first_and_what_is_out_of_reach_last():
    near, far = row(C8, 0.03, 0.015), row(C1, 0.01, 0.05)
    assert rounds(near, far) == {C8.key: 2, C1.key: 2}
    assert rounds(near, far, left=600) == {C8.key: 2}, "the far one would take what the near one needs"
    assert rounds(far, left=130) == {C1.key: 2}, "nothing is in reach, so the time goes where it is open"
    assert rounds(near, far, left=130) == {C8.key: 2} | {C1.key: 2}
    assert rounds(near, far, left=30) == {}


def test_the_declared_cell_comes_before_cheaper_ones_if_the_time_suffices_for_it():
    near, declared = row(C8, 0.03, 0.015), row(C1, 0.03, 0.02, primary=True)
    needed = 60 * rounds_of(declared)
    assert rounds(near, declared, left=needed) == {C1.key: 2}
    assert rounds(near, declared, left=needed - 1) == {C8.key: 2}, "one out of reach takes nothing from one in reach"


def test_a_variant_that_is_out_of_reach_does_not_keep_another_of_its_cell_from_an_answer():
    near, hopeless, other = row(C8, 0.03, 0.015), row(C8, 0.01, 0.05, variant="gptq"), row(C1, 0.03, 0.02)
    assert rounds(near, hopeless, other, left=60 * rounds_of(near)) == {C8.key: 2}


def test_other_metrics_and_refused_comparisons_ask_for_nothing():
    assert rounds(row(C1, metric="p95_ttft_ms")) == {}
    assert rounds(row(C1, blockers=("tokenizer",), code="invalid")) == {}
    assert rounds(row(C1, metric="p95_ttft_ms", primary=True)) == {C1.key: 2}, "but the declared one does"


def test_on_another_number_of_gpus_the_throughput_per_gpu_is_asked_for():
    assert rounds(row(C1, 0.01), row(C1, 0.7, 0.004, metric=PER_GPU)) == {}
    assert rounds(row(C1, 0.7, 0.004), row(C1, 0.01, metric=PER_GPU)) == {C1.key: 2}


def test_too_few_pairs_get_others():
    lost = runs.comparison(C1, ratio=None, code="invalid", n_pairs=2, p_value=None)
    assert rounds(lost) == {C1.key: 2}


def test_it_ends():
    assert rounds(row(C1), measured={C1.key: 39}) == {}
    assert rounds(row(C16)) == {}, "a cell without a price is not measured"
    left, blocks = 1000.0, dict(SIX)
    for _ in range(100):
        more = rounds(row(C1, 0.01, 0.3), row(C8, 0.01, 0.3), measured=blocks, left=left)
        if not more:
            break
        left -= sum(COST[key] for key in more)
        blocks = {key: n + more.get(key, 0) for key, n in blocks.items()}
    assert not more
    assert 0 <= left < 60


def test_the_same_files_give_the_same_round():
    rows = [row(C1, 0.01, 0.02), row(C8, 0.02, 0.02)]
    assert rounds(*rows, left=200) == rounds(*rows[::-1], left=200)


@pytest.mark.parametrize(("measured", "left", "cost", "why"), [
    (SIX, 30, COST, "budget_spent"),
    ({C1.key: 40}, 1e9, COST, "most_blocks"),
    (SIX, 1e9, {}, "not_measured"),
])  # fmt: skip
def test_an_open_answer_says_why_it_got_no_more_blocks(measured, left, cost, why):
    verdict = runs.verdict([row(C1), row(C8, 0.2, 0.004, code="better")])
    found = explained(verdict, measured, left, cost)
    assert [r.left_open for r in found.rows] == [why, None]
    assert math.isclose(found.rows[0].ratio, verdict.rows[0].ratio)
