"""What goes with the scatter of blocks: found where it is there, and seldom offered where it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import runs
from quantbench.judge.scatter import SCATTERED, scatter
from quantbench.records.block import BlockContext, HostLoad, Telemetry
from quantbench.records.measurement import Scatter
from quantbench.stats import rank_trend
from scipy import stats

Array = npt.NDArray[np.float64]


def arm(rates: Sequence[float], model: str = "bf16", **facts: Sequence[float | None]) -> list[BlockContext]:
    """Blocks with these throughputs, and these facts of their host."""
    return [
        runs.block(
            model,
            number=n + 1,
            metrics={"throughput_tok_s": rate},
            host=HostLoad(**{name: values[n] for name, values in facts.items()}),
        )
        for n, rate in enumerate(rates)
    ]


FALLING = [100.0, 95.0, 90.0, 85.0, 80.0, 75.0]
RISING = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(("fact", "values"), [
    ("steal_share", RISING), ("foreign_cpu_share", RISING), ("throttled_share", RISING),
    ("cpu_freq_mhz", [3000.0, 2900.0, 2800.0, 2700.0, 2600.0, 2500.0]),
])  # fmt: skip
def test_a_fact_that_goes_with_the_scatter_is_offered(fact: str, values: list[float]) -> None:
    found = scatter([arm(FALLING, **{fact: values})])
    assert [(one.fact.replace("cores", "share"), one.blocks) for one in found.offered] == [(fact, 6)]
    assert found.offered[0].tau == (1.0 if fact == "cpu_freq_mhz" else -1.0)
    [cell] = found.cells
    assert (cell.model, cell.blocks) == ("bf16", 6)
    assert cell.sd == pytest.approx(np.std(np.log(FALLING), ddof=1), abs=1e-4)


def test_the_clock_of_the_card_is_asked_too() -> None:
    clocks = [1900.0, 1850.0, 1800.0, 1750.0, 1700.0, 1650.0]
    blocks = [
        runs.but(one, telemetry=Telemetry(sm_clock_mhz_mean=mhz)) for one, mhz in zip(arm(FALLING), clocks, strict=True)
    ]
    assert [one.fact for one in scatter([blocks]).offered] == ["sm_clock_mhz_mean"]


@pytest.mark.parametrize(("rates", "values", "asked"), [
    (FALLING, RISING[::-1], ["steal_share"]),  # faster with more steal: that explains nothing
    (FALLING, [0.001 * x for x in RISING], []),  # too little to matter
    (FALLING, [None] * 6, []),
    (FALLING[:5], RISING[:5], []),  # too few
    (FALLING, [0.2, 0.0, 0.3, 0.1, 0.5, 0.0], ["steal_share"]),
])  # fmt: skip
def test_what_is_not_offered(rates: list[float], values: list[float | None], asked: list[str]) -> None:
    found = scatter([arm(rates, steal_share=values)])
    assert (len(found.cells), list(found.asked), found.offered) == (1, asked, ())


def test_cells_that_do_not_scatter_and_blocks_that_were_refused_are_not_asked() -> None:
    assert scatter([arm([100.0, 101.0, 102.0, 101.0, 100.0, 99.0], steal_share=RISING)]) == Scatter()
    spoilt = arm([*FALLING, 300.0], steal_share=[*RISING, 0.9])
    refused = [runs.but(one, valid=one.block != 7) for one in spoilt]
    assert scatter([refused]) == scatter([arm(FALLING, steal_share=RISING)])
    assert scatter([]) == Scatter()


def test_cells_of_different_speeds_are_asked_together() -> None:
    """Three blocks are too few alone; four cells of three are enough, whatever their own levels of load."""
    cells = [arm([100.0 * s, 90.0 * s, 80.0 * s], f"m{s}", steal_share=[x + s / 10 for x in (0, 0.1, 0.2)])
             for s in range(1, 5)]  # fmt: skip
    [offered] = scatter(cells).offered
    assert (offered.fact, offered.tau, offered.blocks) == ("steal_share", -1.0, 12)


def test_a_single_group_is_kendalls_test() -> None:
    rng = np.random.default_rng(1)
    for n in (6, 10, 30):
        x, y = rng.integers(0, n, n).tolist(), rng.normal(size=n).tolist()
        ours, theirs = rank_trend([(x, y)]), stats.kendalltau(x, y, alternative="greater", method="asymptotic")
        assert ours.tau == pytest.approx(theirs.statistic)
        assert ours.p_value >= theirs.pvalue - 1e-9, "the continuity correction"
        assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.09)


def simulated(rng: np.random.Generator, cells: int, n: int, effect: float, lag: float = 0.0) -> Scatter:
    """A run of cells of n blocks that scatter by 5 %; each 10 % of steal cost `effect`. lag: of both, from block to
    block."""

    def noise() -> Array:
        steps = rng.normal(size=n)
        for i in range(1, n):
            steps[i] = lag * steps[i - 1] + np.sqrt(1 - lag**2) * steps[i]
        return steps

    made = []
    for i in range(cells):
        facts = {"steal_share": 0.1 + 0.05 * noise(), "foreign_cpu_share": 0.3 + 0.1 * noise(),
                 "cpu_freq_mhz": 2000.0 * np.exp(0.05 * noise())}  # fmt: skip
        logs = 0.05 * noise() - effect * facts["steal_share"] / 0.1
        made.append(arm(np.exp(logs).tolist(), f"m{i}", **{k: v.tolist() for k, v in facts.items()}))
    return scatter(made)


@pytest.mark.parametrize(("cells", "n"), [(1, 6), (1, 12), (4, 3), (4, 6), (10, 4)])
def test_nothing_is_offered_by_chance_more_often_than_it_says(cells: int, n: int) -> None:
    """Independent blocks, three facts that have nothing to do with them."""
    rng = np.random.default_rng(100 * cells + n)
    false = [bool(simulated(rng, cells, n, effect=0.0).offered) for _ in range(300)]
    assert np.mean(false) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_an_effect_as_large_as_the_noise_is_found_and_is_the_one() -> None:
    rng = np.random.default_rng(7)
    runs_ = [simulated(rng, 4, 6, effect=0.10) for _ in range(100)]
    assert np.mean([[one.fact for one in run.offered][:1] == ["steal_share"] for run in runs_]) > 0.6


def test_blocks_that_drift_with_the_host_are_why_it_is_no_proven_cause() -> None:
    """Where both drift (0.7 from block to block), chance offers more than 5 %: the words must not say "cause"."""
    rng = np.random.default_rng(8)
    false = np.mean([bool(simulated(rng, 2, 12, effect=0.0, lag=0.7).offered) for _ in range(200)])
    assert 0.05 < false < 0.40


def test_the_limit_is_a_few_percent() -> None:
    for factor, cells in ((0.999, 0), (1.001, 1)):
        logs = factor * SCATTERED * np.arange(3)  # their standard deviation is one step
        assert len(scatter([arm((100 * np.exp(logs)).tolist())]).cells) == cells
