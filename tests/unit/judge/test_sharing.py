"""Do intervals, tests and the stopping rule hold where cells share their scatter and rounds are added until decided?

The machine: steps of a random walk between block slots, noise of each block (on request correlated from block to block,
or with one slow block in ten), A B B A. Scatters are equal in all cells, or the last one's variance is 2 or 5 times the
others'. benchmarks/verdict_power.py makes the table of docs/measurement.md from the same functions.
"""

from __future__ import annotations

import numpy as np
import pytest
import runs
from power_simulation import SCENES, covered, pair_logs, rounds_until_decided, shared_rows
from quantbench.judge.rounds import next_round
from quantbench.records.cell import Cell
from quantbench.stats import paired_ratio, shared, tost

TRIALS = 1500
# 3 standard errors of a share of 5 % over TRIALS sessions
CHANCE = 3 * np.sqrt(0.05 * 0.95 / TRIALS)


def test_the_simulated_formulas_are_those_of_the_library():
    logs = pair_logs(np.random.default_rng(1), 20, 5, 6, SCENES["plain"], 5.0)
    mean, error, df = shared_rows(logs)
    for i in range(20):
        own = [paired_ratio(np.ones(6), np.exp(cell)) for cell in logs[i]]
        for k, ci in enumerate(shared(own)):
            assert (np.log(ci.ratio), ci.df) == (pytest.approx(mean[i, k]), pytest.approx(df[i, k], rel=1e-4))
            assert ci.sd / np.sqrt(6) == pytest.approx(error[i, k], rel=1e-4)
            assert ci.sd_shared >= ci.sd_log * (1 - 1e-9)


def test_nothing_is_shared_by_two_cells_or_three_pairs():
    rng = np.random.default_rng(2)
    for cells, pairs in ((2, 6), (5, 3)):
        own = [paired_ratio(np.ones(pairs), np.exp(rng.normal(0, 0.01, pairs))) for _ in range(cells)]
        assert shared(own) == own


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("variances", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("pairs", [4, 6, 10])
def test_shared_intervals_cover_95_percent_and_92_in_the_noisiest_cell(pairs, variances, scene):
    logs = pair_logs(np.random.default_rng(3), TRIALS, 5, pairs, SCENES[scene], variances)
    hit = covered(*shared_rows(logs))
    assert hit.mean() >= 0.94 - CHANCE / np.sqrt(5)
    assert hit[:, -1].mean() >= 0.92 - CHANCE


@pytest.mark.parametrize("variances", [1.0, 5.0])
@pytest.mark.parametrize("rounds", [0, 3, 8])
def test_after_rounds_until_decided_no_error_is_more_frequent_than_5_percent(rounds, variances):
    """Of no true difference, "different"; of one as large as the margin, "equivalent"; and the interval covers."""
    none = rounds_until_decided(np.random.default_rng(4), TRIALS, rounds, variances, true=0.0)
    edge = rounds_until_decided(np.random.default_rng(5), TRIALS, rounds, variances, true=1.0)
    assert none.primary_different <= 0.05 + CHANCE
    assert none.family_different <= 0.06 + CHANCE
    assert edge.primary_equivalent <= 0.05 + CHANCE
    assert edge.family_equivalent <= 0.06 + CHANCE
    for found in (none, edge):
        assert found.coverage >= 0.94 - CHANCE / np.sqrt(5)
        assert found.noisiest >= 0.92 - CHANCE


def test_stopping_at_the_first_5_percent_would_be_wrong_twice_as_often():
    assert rounds_until_decided(np.random.default_rng(6), TRIALS, 6, stop_at=0.05).primary_different > 0.08


def test_a_baseline_against_itself_never_wins():
    """The decision of a use names a variant where its deciding cell is better: here the first of each workload."""
    wins = [rounds_until_decided(np.random.default_rng(seed), TRIALS, 4, cells=3).first_better for seed in (7, 8)]
    assert sum(wins) <= 0.05 + CHANCE


def test_the_simulated_rounds_are_those_of_the_library():
    """Session by session: the same cells get the same blocks as from `next_round`."""
    trials, cells, rounds = 6, 4, 4
    logs = pair_logs(np.random.default_rng(9), trials, cells, 4 + 2 * rounds * cells, SCENES["plain"], 5.0) * 0.02
    found = rounds_until_decided(None, trials, rounds, logs=logs, margin=0.02)
    places = [Cell.of("chat", 2**k, 128) for k in range(cells)]
    margin = float(np.expm1(0.02))
    prices = dict.fromkeys((cell.key for cell in places), 1.0)
    for i in range(trials):
        counts, left = dict.fromkeys(prices, 4), float(rounds * cells)
        while True:
            own = [paired_ratio(np.ones(n), np.exp(logs[i, k, :n])) for k, n in enumerate(counts.values())]
            rows = [
                runs.comparison(
                    cell, ratio=ci.ratio, ci_low=ci.low, ci_high=ci.high, n_pairs=ci.n, sd=ci.sd, df=ci.df,
                    p_value=ci.p_value, p_equivalence=tost(ci, margin), margin=margin, primary=False,
                )
                for cell, ci in zip(places, shared(own), strict=True)
            ]  # fmt: skip
            more = next_round(runs.verdict(rows), counts, left, prices)
            if not more:
                break
            left -= len(more)
            counts = {key: n + more.get(key, 0) for key, n in counts.items()}
        assert list(counts.values()) == found.pairs[i].tolist()
