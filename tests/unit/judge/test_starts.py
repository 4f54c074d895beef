"""What two starts of a server tell, and what three: the layout, its components, and how often intervals cover.

Simulated: starts with an sd of 0, 0.5, 1 and 3 times that of a block, 20 000 runs each.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from quantbench.judge import starts
from quantbench.judge.decision import decide
from quantbench.judge.pairing import measure, pair_up
from quantbench.judge.starts import Layout, effects, layout, over_starts, widened
from quantbench.judge.verdict import build_verdict
from quantbench.records.block import ServerFacts
from runs import CHAT
from scipy import stats as scipy_stats

TRIALS = 20_000
MONTE_CARLO = 3 * np.sqrt(0.05 * 0.95 / TRIALS)
SPEED = "throughput_tok_s"


def simulated(sizes, sd, seed=1):
    """(half-width per trial of the block as unit, of the start as unit; mean; F) of starts with these numbers of pairs.

    The true log-ratio is 0, a block has an sd of 1.
    """
    rng, n, k = np.random.default_rng(seed), sum(sizes), len(sizes)
    group = np.repeat(np.arange(k), sizes)
    d = sd * rng.normal(size=(TRIALS, k))[:, group] + rng.normal(size=(TRIALS, n))
    mean, of_start = d.mean(1), np.stack([d[:, group == j].mean(1) for j in range(k)], 1)
    between = (np.array(sizes) * (of_start - mean[:, None]) ** 2).sum(1) / (k - 1)
    within = ((d - of_start[:, group]) ** 2).sum(1) / (n - k)
    q = sum((size / n) ** 2 for size in sizes)
    block = scipy_stats.t.ppf(0.975, n - 1) * d.std(axis=1, ddof=1) / math.sqrt(n)
    start = scipy_stats.t.ppf(0.975, k - 1) * np.sqrt(q * (k - 1) / (1 - q) * between / n)
    return block, start, mean, between / within, d[0]


def covered(half, mean):
    return float((abs(mean) < half).mean())


@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 3, 3), (4, 4, 1), (2, 2, 2, 2)])
@pytest.mark.parametrize("sd", [0, 0.5, 1, 3])
def test_from_three_starts_on_the_wider_interval_covers_whatever_a_start_is_worth(sizes, sd):
    block, start, mean, _, _ = simulated(sizes, sd)
    assert covered(np.maximum(block, start), mean) > 0.95 - MONTE_CARLO
    if sd == 3:
        assert covered(block, mean) < 0.83, "blocks alone do not see it"
    if not sd:
        assert np.median(np.maximum(block, start) / block) < 2.1, "the price where starts do not matter"


@pytest.mark.parametrize("pairs", [2, 3])
def test_two_starts_carry_no_interval(pairs):
    """The intervals of blocks cover too little; t with one degree of freedom is four to ten times as wide."""
    blocks, wide = [], []
    for sd in (0, 0.5, 1, 3):
        block, start, mean, _, _ = simulated((pairs, pairs), sd)
        blocks.append(covered(block, mean))
        wide.append(np.median(start / block))
        assert covered(start, mean) == pytest.approx(0.95, abs=MONTE_CARLO)
    assert blocks[0] == pytest.approx(0.95, abs=MONTE_CARLO)
    assert blocks[1] < 0.94
    assert blocks[2] < 0.90
    assert blocks[3] < 0.78
    assert min(wide) > 3


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (2, 2, 2)])
def test_starts_that_are_alike_are_called_different_in_one_run_of_twenty(sizes):
    f = simulated(sizes, 0)[3]
    p = scipy_stats.f.sf(f, len(sizes) - 1, sum(sizes) - len(sizes))
    assert float((p < 0.05).mean()) == pytest.approx(0.05, abs=MONTE_CARLO)


@pytest.mark.parametrize("sizes", [(3, 3), (2, 2, 2), (4, 4, 1), (5, 1)])
def test_the_simulated_formulas_are_those_of_the_library(sizes):
    _, start, mean, f, logs = simulated(sizes, 1)
    group = np.repeat(np.arange(len(sizes)), sizes)
    found = Layout(tuple(map(float, logs)), tuple(map(int, group)))
    between, within = found.mean_squares
    assert between / within == pytest.approx(f[0])
    anova = scipy_stats.f_oneway(*(logs[group == j] for j in range(len(sizes))))
    assert anova.statistic == pytest.approx(f[0])
    ci = over_starts(found)
    assert math.log(ci.ratio) == pytest.approx(mean[0])
    assert math.log(ci.high / ci.ratio) == pytest.approx(start[0])


def test_components_are_unbiased_for_starts_of_unlike_size():
    rng, sizes = np.random.default_rng(2), (4, 2, 2)
    group = np.repeat(np.arange(3), sizes)
    rows = []
    for _ in range(1500):
        logs = 0.03 * rng.normal(size=3)[group] + 0.01 * rng.normal(size=8)
        [row] = [row for row in effects("awq", {CHAT: paired(logs, group)}) if row.metric == SPEED]
        rows.append((row.between, row.within))
    between, within = np.mean(rows, axis=0)
    assert math.sqrt(between) == pytest.approx(0.03, rel=0.06)
    assert math.sqrt(within) == pytest.approx(0.01, rel=0.06)


def blocks(logs, of_baseline, of_variant=None, cell=CHAT):
    """Blocks of both arms, A B B A; the servers by number, None where a block does not tell."""
    made = []
    for n, (log, own, other) in enumerate(zip(logs, of_baseline, of_variant or of_baseline, strict=True), start=1):
        for arm, value, start in (("bf16", 100.0, own), ("awq", 100.0 * math.exp(log), other)):
            server = ServerFacts(started_unix=None if start is None else float(start))
            at = 40.0 * n + 20.0 * ((arm == "awq") == (n % 2 == 1))
            made.append(runs.block(arm, cell, n, started=at, metrics={SPEED: value}, server=server))
    return made


def paired(logs, *of):
    made = blocks(logs, *of)
    return pair_up([b for b in made if b.arm == "bf16"], [b for b in made if b.arm == "awq"], len(logs))


LOGS = (0.10, 0.11, 0.16, 0.17, 0.12, 0.13)


def test_pairs_that_share_a_server_on_either_side_are_of_one_start():
    assert layout(paired(LOGS, [1, 1, 2, 2, 3, 3]), SPEED).sizes == [2, 2, 2]
    assert layout(paired(LOGS, [1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 3, 3]), SPEED).sizes == [6], "the baseline had one"
    assert layout(paired(LOGS, [1, 1, 2, 2, 2, 2], [1, 2, 2, 2, 3, 3]), SPEED).sizes == [6], "a chain"
    assert layout(paired(LOGS, [1, 1, 2, 2, 2, 2], [1, 1, 2, 2, 3, 3]), SPEED).groups == (0, 0, 1, 1, 1, 1)
    assert layout(paired(LOGS, [1, 1, 2, 2, 1, 1]), SPEED).groups == (0, 0, 1, 1, 0, 0), "identity, not order"


def test_a_block_that_does_not_tell_its_server_tells_nothing_of_starts():
    assert layout(paired(LOGS, [1, 1, None, 2, 2, 2]), SPEED) is None
    assert layout(paired(LOGS, [1, 1, 1, 2, 2, 2]), "p95_ttft_ms") is None, "not measured"
    assert list(effects("awq", {CHAT: paired(LOGS, [None] * 6)})) == []


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8))
def test_any_division_of_pairs_gives_finite_components(of):
    logs = [0.01 * (7 * n % 5) for n in range(len(of))]
    for row in effects("awq", {CHAT: paired(logs, of)}):
        assert row.starts == len(set(of))
        assert (row.difference is None) == (row.starts == 1)
        assert row.between is None or math.isfinite(row.between)
        assert row.p_value is None or 0 <= row.p_value <= 1


def test_the_start_becomes_the_unit_only_where_three_or_more_are_planned_and_measured():
    three, two = paired(LOGS, [1, 1, 2, 2, 3, 3]), paired(LOGS, [1, 1, 1, 2, 2, 2])
    plain = measure(three, SPEED)
    assert widened(plain, three, SPEED, 2) == plain, "not asked for beforehand"
    assert widened(measure(two, SPEED), two, SPEED, 3) == measure(two, SPEED), "not measured"
    wide = widened(plain, three, SPEED, 3)
    assert wide.ci.ratio == pytest.approx(plain.ci.ratio)
    assert wide.ci.high > plain.ci.high
    assert (wide.ci.df, wide.remarks) == (2, ("START_IS_UNIT_OF_3",))
    alike = paired((0.1, 0.2, 0.101, 0.199, 0.1, 0.2), [1, 1, 2, 2, 3, 3])
    assert widened(measure(alike, SPEED), alike, SPEED, 3) == measure(alike, SPEED), "it is not the wider one"


def judged(logs, of, planned, cells=1):
    made = [b for c in range(cells) for b in blocks(logs, of, cell=[CHAT, runs.BATCH][c])]
    return build_verdict(made, baseline="bf16", primary=runs.primary(), planned_blocks=len(logs), starts=planned)


def speed(verdict):
    return next(row for row in verdict.rows if row.metric == SPEED)


def test_of_an_interval_over_starts_more_blocks_decide_nothing():
    logs = (0.01, 0.011, 0.06, 0.061, -0.03, -0.031)
    blocks_as_unit, starts_as_unit = (speed(judged(logs, [1, 1, 2, 2, 3, 3], n)) for n in (1, 3))
    assert blocks_as_unit.blocks_to_decide
    assert starts_as_unit.code == "undecided"
    assert starts_as_unit.by_start
    assert starts_as_unit.blocks_to_decide is None


def test_two_starts_that_differ_are_a_doubt_and_lower_the_confidence():
    logs = (0.10, 0.101, 0.102, 0.15, 0.151, 0.152)
    apart, once = (judged(logs, of, 2) for of in ([1, 1, 1, 2, 2, 2], [1] * 6))
    [row] = [row for row in apart.starts if row.metric == SPEED]
    assert row.differs
    assert row.difference == pytest.approx(math.expm1(0.05))
    assert [doubt.id for doubt in starts.doubts(apart)] == ["doubts.starts_differ"]
    assert [doubt.id for doubt in starts.doubts(once)] == ["doubts.one_start"]
    because = [
        {why.id for use in decide(runs.run(verdict=v)).uses for why in use.confidence_because} for v in (apart, once)
    ]
    assert "confidence.starts_differ" in because[0] - because[1]
    [(variant, between, within)] = starts.scatter(apart)
    assert (variant, within) == ("awq", pytest.approx(0.001))
    assert between == pytest.approx(0.05 / math.sqrt(2), rel=0.01)


def test_starts_that_are_in_the_interval_are_no_doubt():
    logs = (0.10, 0.101, 0.15, 0.151, 0.08, 0.081)
    assert list(starts.doubts(judged(logs, [1, 1, 2, 2, 3, 3], 3))) == []
    assert [d.id for d in starts.doubts(judged(logs, [1, 1, 2, 2, 3, 3], 2))] == ["doubts.starts_differ"]
