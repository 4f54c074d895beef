"""Two runs compared: what the unpaired interval covers, which verdicts it gives, and what is refused.

Simulated: blocks (sd 1) within starts (sd 0, 0.5, 1 and 3) within runs that do not differ, 20 000 pairs of runs each.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import two_run_facts as made
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.judge.starts import Layout
from quantbench.judge.two_runs import compare_runs, of_model, shared_blocks, unpaired
from quantbench.records.block import ServerFacts
from quantbench.records.cell import Cell
from quantbench.records.two_runs import RunRow, TwoRuns
from scipy import stats as scipy_stats
from two_run_facts import STEADY, facts, shifted

TRIALS = 20_000
MONTE_CARLO = 3 * np.sqrt(0.05 * 0.95 / TRIALS)
SPEED = "throughput_tok_s"
STARTS = {
    "2 + 2": ((3, 3), (3, 3)),
    "3 + 3": ((2, 2, 2), (2, 2, 2)),
    "1 + 3": ((6,), (2, 2, 2)),
    "2 + 3, unequal": ((4, 2), (3, 2, 1)),
    "2 + 2, unequal": ((5, 1), (3, 3)),
    "2 + 2, of one block": ((2, 1), (2, 1)),
}
SPREADS = (0, 0.5, 1, 3)


def layout(logs, sizes):
    return Layout(tuple(map(float, logs)), tuple(map(int, np.repeat(np.arange(len(sizes)), sizes))))


@functools.cache
def simulated(sizes, sd, run_sd=0.0, given_sd=None):
    """(mean new - mean old, half-width, logs of the first pair of runs, one-sided p) as `unpaired` has them."""
    rng = np.random.default_rng(len(sizes[0]) * 10 + len(sizes[1]))
    logs, means, errors, between = [], [], [], []
    for of in sizes:
        group = np.repeat(np.arange(len(of)), of)
        x = run_sd * rng.normal(size=(TRIALS, 1)) + sd * rng.normal(size=(TRIALS, len(of)))[:, group]
        x = x + rng.normal(size=(TRIALS, sum(of)))
        starts = np.stack([x[:, group == j].mean(1) for j in range(len(of))], 1)
        logs.append(x)
        means.append((x.mean(1), starts.mean(1)))
        errors.append((x.var(axis=1, ddof=1) / sum(of), sum(of) - 1))
        between.append(((starts - starts.mean(1, keepdims=True)) ** 2).sum(1))
    variance = sum(v for v, _ in errors)
    df = variance**2 / sum(v**2 / n for v, n in errors)
    error, free = np.sqrt(variance), sum(map(len, sizes)) - 2
    by_start = free >= 2
    mean = means[1][by_start] - means[0][by_start]
    half = scipy_stats.t.ppf(0.975, df) * error
    if by_start:
        own = np.sqrt(sum(between) / free * sum(1 / len(of) for of in sizes))
        wide = scipy_stats.t.ppf(0.975, free) * own
        error, df, half = np.where(wide >= half, own, error), np.where(wide >= half, free, df), np.maximum(half, wide)
    if given_sd:
        whole = error**2 + 2 * given_sd**2
        half = np.maximum(half, scipy_stats.t.ppf(0.975, df * (whole / error**2) ** 2) * np.sqrt(whole))
    return mean, half, (logs[0][0], logs[1][0]), scipy_stats.t.sf(-mean / error, df)


def covered(mean, half):
    return float((abs(mean) < half).mean())


def worse(mean, half):
    return float((mean < -half).mean())


@pytest.mark.parametrize("sd", SPREADS)
@pytest.mark.parametrize("sizes", STARTS.values(), ids=STARTS)
def test_a_run_is_called_worse_than_an_identical_one_in_one_of_forty_at_most(sizes, sd):
    """From two degrees of freedom between starts on, whatever a start is worth and however blocks are divided."""
    mean, half, *_ = simulated(sizes, sd)
    assert covered(mean, half) > 0.95 - MONTE_CARLO
    assert worse(mean, half) < 0.025 + MONTE_CARLO


def test_blocks_of_one_start_each_would_call_identical_runs_worse_and_so_have_no_verdict():
    assert worse(*simulated(((6,), (6,)), 0)[:2]) == pytest.approx(0.025, abs=MONTE_CARLO)
    assert worse(*simulated(((6,), (6,)), 0.5)[:2]) > 0.08
    assert worse(*simulated(((6,), (6,)), 3)[:2]) > 0.35
    old, new = (layout(logs, (6,)) for logs in simulated(((6,), (6,)), 3)[2])
    assert unpaired(old, new).unknown
    assert not unpaired(old, new, spread=3.0).unknown


@pytest.mark.parametrize("sizes", [((6,), (6,)), ((4,), (6,)), ((3, 3), (3, 3))])
@pytest.mark.parametrize("sd", [0.5, 1, 3])
def test_a_spread_of_runs_that_is_known_makes_the_interval_hold(sizes, sd):
    """Also for what a day does to a machine, which starts within a run do not see; half of it is not enough."""
    mean, half, *_ = simulated(sizes, 0, sd, sd)
    assert covered(mean, half) > 0.95 - MONTE_CARLO
    if sd == 3:
        assert covered(*simulated(sizes, 0, sd)[:2]) < 0.6, "without it"
        assert covered(*simulated(sizes, 0, sd, sd / 2)[:2]) < 0.9


@pytest.mark.parametrize("spread", [None, 0.5])
@pytest.mark.parametrize("sizes", [*STARTS.values(), ((6,), (6,)), ((4,), (6,)), ((3, 3), (6,))])
def test_the_simulated_formulas_are_those_of_the_library(sizes, spread):
    mean, half, logs, _ = simulated(sizes, 1, 0.0, spread)
    found = unpaired(layout(logs[0], sizes[0]), layout(logs[1], sizes[1]), spread)
    assert math.log(found.ci.ratio) == pytest.approx(mean[0])
    assert math.log(found.ci.high / found.ci.ratio) == pytest.approx(half[0])
    assert found.by_start == (len(sizes[0]) + len(sizes[1]) >= 4)
    if not spread and len(sizes[0]) == len(sizes[1]) == 1:
        welch = scipy_stats.ttest_ind(logs[1], logs[0], equal_var=False)
        assert found.ci.p_value == pytest.approx(welch.pvalue)


def test_the_spread_of_starts_is_told_without_what_blocks_add_to_it():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(800):
        sides = [0.03 * rng.normal(size=3).repeat(4) + 0.01 * rng.normal(size=12) for _ in range(2)]
        found.append(unpaired(*(layout(side, (4, 4, 4)) for side in sides)).start_sd ** 2)
    assert math.sqrt(np.mean(found)) == pytest.approx(0.03, rel=0.06)
    assert unpaired(layout(range(6), (6,)), layout(range(6), (6,))).start_sd is None


def test_pooled_p95s_of_short_blocks_cover():
    """Blocks of 25 requests, long-tailed, with an error of their own: four in each run."""
    rng, hits, trials = np.random.default_rng(5), 0, 400
    cell, names = Cell.of("chat", 1, 128), ("p95_ttft_ms", "ttft_ms")
    arms = [made.blocks("bf16", [[0.0] * 4], cell, day, metrics={SPEED: 100.0}) for day in (0, 1)]
    for _ in range(trials):
        samples = [
            {
                (b.arm, b.cell, b.block): {names[1]: list(np.exp(0.05 * rng.normal() + 0.3 * rng.normal(size=25)))}
                for b in arm
            }
            for arm in arms
        ]
        seen = of_model(arms[0], arms[1], names[0], samples, None)
        hits += seen.found.ci.low < 1 < seen.found.ci.high
    assert hits / trials > 0.95 - 3 * math.sqrt(0.05 * 0.95 / trials)
    short = [{key: {names[1]: values[names[1]][:19]} for key, values in side.items()} for side in samples]
    assert of_model(arms[0], arms[1], names[0], short, None).reasons == ("BLOCK_NEEDS_N20",)
    assert of_model(arms[0], arms[1], names[0], ({}, {}), None).reasons == ("NOT_MEASURED",)


# Verdicts ------------------------------------------------------------------------------------------------------------


def compared(old, new, **more) -> TwoRuns:
    """One model in two runs, a day apart."""
    return compare_runs(facts({"bf16": old}), facts({"bf16": new}, day=1, folder="results/b"), **more)


def speed(found: TwoRuns, model: str = "bf16", baseline: str | None = None) -> RunRow:
    return next(r for r in found.rows if (r.metric, r.model, r.baseline) == (SPEED, model, baseline))


@pytest.mark.parametrize(
    ("by", "code", "outcome"), [(0.0, "equivalent", "fine"), (0.2, "better", "fine"), (-0.2, "worse", "worse")]
)
def test_two_starts_in_each_run_decide(by, code, outcome):
    found = compared(STEADY, shifted(STEADY, by))
    assert {row.code for row in found.gated} == {code}
    assert found.outcome == outcome
    row = speed(found)
    assert (row.unit, row.starts_old, row.starts_new, row.n_old) == ("start", 2, 2, 6)
    assert row.ratio == pytest.approx(math.exp(by))
    assert "START_IS_UNIT_OF_4" in row.reasons


def test_what_undoes_a_verdict_is_the_drift_that_takes_its_interval_to_no_change_or_out_of_the_margin():
    row = speed(compared(STEADY, shifted(STEADY, -0.2)))
    assert row.undone_by == pytest.approx(1 / row.ci_high)
    same = speed(compared(STEADY, STEADY))
    assert same.undone_by == pytest.approx(1.03 / max(same.ci_high, 1 / same.ci_low))
    assert speed(compared([[0.0, 0.1, -0.1]] * 2, [[0.0, 0.1, -0.1]] * 2)).undone_by is None


ONE = ((0.0, 0.004, -0.003, 0.002, -0.002, 0.001),)


@pytest.mark.parametrize(("old", "new"), [(ONE, ONE), (ONE, STEADY), (STEADY, ONE)])
@pytest.mark.parametrize("by", [0.0, -0.2])
def test_with_one_start_a_restart_is_not_told_from_a_change(old, new, by):
    found = compared(old, shifted(new, by))
    assert {row.code for row in found.gated} == {"undecided"}
    row = speed(found)
    assert row.likely == ("loss" if by else None)
    assert (row.p_value, row.undone_by) == (None, None)
    assert "START_SPREAD_UNKNOWN" in row.reasons
    known = compared(old, shifted(new, by), run_spread=0.005)
    assert {row.code for row in known.gated} == ({"worse"} if by else {"equivalent"})
    assert "RUN_SPREAD_GIVEN" in speed(known).reasons
    assert speed(compared(old, shifted(new, by), run_spread=0.2)).code == "undecided"


def test_blocks_that_do_not_tell_their_start_count_as_one():
    untold = facts({"bf16": STEADY}, server=ServerFacts(source_id="d1e5"))
    row = speed(compare_runs(untold, facts({"bf16": STEADY}, day=1)))
    assert (row.code, row.starts_old, row.starts_new) == ("undecided", 0, 2)
    assert {"STARTS_NOT_TOLD", "START_SPREAD_UNKNOWN"} <= set(row.reasons)


def test_what_a_day_does_to_the_machine_cancels_in_the_ratio_to_the_baseline():
    old = {"bf16": STEADY, "int8": shifted(STEADY, 0.3)}
    new = {"bf16": shifted(STEADY, -0.1), "int8": shifted(STEADY, 0.2)}
    found = compare_runs(facts(old), facts(new, day=1))
    assert speed(found).code == speed(found, "int8").code == "worse"
    change = speed(found, "int8", "bf16")
    assert change.ratio == pytest.approx(1)
    assert change.old_value == change.new_value == pytest.approx(math.exp(0.3))
    assert (change.code, change.undone_by) in (("no_test", None), ("equivalent", None))
    assert all(row.baseline is None for row in found.gated)
    less = compare_runs(
        facts(old), facts(new | {"int8": shifted(((0.002, 0.0, 0.001), (0.0, 0.001, 0.003)), 0.0)}, day=1)
    )
    assert speed(less, "int8", "bf16").code == "worse"


def test_the_cells_of_a_workload_are_one_family():
    cells = [Cell.of("chat", c, 128) for c in (1, 2, 4)]
    old, new = ([facts({"bf16": STEADY}, day, cell=cell) for cell in cells] for day in (0.0, 1.0))
    joined = [made.RunFacts("x", [b for one in some for b in one.blocks], some[0].ready, "bf16") for some in (old, new)]
    found = compare_runs(*joined)
    assert {row.family for row in found.gated} == {3}


def test_a_cell_that_is_gone_from_the_new_run_is_not_decided():
    both, one = {"bf16": STEADY, "int8": STEADY}, {"bf16": STEADY}
    gone = compare_runs(facts(both), facts(one, day=1))
    assert (gone.outcome, gone.only_old) == ("undecided", ("int8 chat/c8_t128",))
    assert compare_runs(facts(both), facts(one, day=1), subset=True).outcome == "fine"
    assert compare_runs(facts(one), facts(both, day=1)).outcome == "fine"


def test_only_asked_for_metrics_are_tested():
    found = compared(STEADY, shifted(STEADY, -0.2), metrics=["p95_e2e_ms"])
    assert {row.metric for row in found.gated} == {"p95_e2e_ms"}
    assert speed(found).code == "described"


@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=3), st.sampled_from([None, 0.01]), st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_the_verdict_of_the_runs_the_other_way_round_is_its_mirror(effects, spread, seed):
    rng = np.random.default_rng(seed)
    old, new = ([list(e * k + 0.01 * rng.normal(size=3)) for e in effects] for k in (0, 1))
    one, other = (compared(*pair, run_spread=spread) for pair in ((old, new), (new, old)))
    mirror = {"better": "worse", "worse": "better"}
    for a, b in zip(one.rows, other.rows, strict=True):
        assert b.code == mirror.get(a.code, a.code)
        assert a.ratio * b.ratio == pytest.approx(1)
        assert a.ci_low * b.ci_high == pytest.approx(1)
        assert (a.undone_by is None) == (b.undone_by is None)


def test_copies_of_blocks_are_seen():
    one = facts({"bf16": STEADY})
    assert shared_blocks(one, one) == 6
    assert shared_blocks(one, facts({"bf16": STEADY}, day=1)) == 0


def test_a_row_that_is_worse_among_its_own_alone_fails_no_run():
    """Among many rows some are worse by chance: what fails a run is corrected over all of them."""
    worse = ((-0.025, -0.024, -0.026), (-0.035, -0.034, -0.036))
    alone = compared(STEADY, worse, metrics=[SPEED])
    assert (speed(alone).code, speed(alone).fails, alone.outcome) == ("worse", True, "worse")
    models = ["bf16", *(f"m{n}" for n in range(12))]
    old, new = (dict.fromkeys(models, STEADY) for _ in range(2))
    found = compare_runs(facts(old), facts(new | {"m3": worse}, day=1), metrics=[SPEED])
    row = speed(found, "m3")
    assert (row.code, row.fails, found.outcome) == ("worse", False, "undecided")
    assert row.p_run == pytest.approx(13 * row.p_value / 2)


@pytest.mark.parametrize("rows", [6, 24])
@pytest.mark.parametrize("sd", SPREADS)
@pytest.mark.parametrize("sizes", [STARTS["2 + 2"], STARTS["3 + 3"]])
def test_a_run_with_many_rows_is_failed_against_an_identical_one_in_one_of_twenty_at_most(sizes, sd, rows):
    """Rows of models that have nothing to do with each other; where all of one start are alike it is less."""
    p = simulated(sizes, sd)[3][: TRIALS // rows * rows].reshape(-1, rows)
    failed = (rows * p.min(axis=1) < 0.05).mean()
    assert failed < 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(p))
    if sd == 3:
        assert (p < 0.025).any(axis=1).mean() > 0.1, "what rows alone would come to"
