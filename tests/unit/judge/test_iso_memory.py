from __future__ import annotations

from typing import Any

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from quantbench.judge import iso_memory
from quantbench.judge.verdict import build_verdict
from quantbench.records.block import BlockContext, Delta, ServerFacts
from quantbench.records.cell import Cell
from quantbench.records.comparison import IsoComparison
from quantbench.records.metric import COMPARED, PER_GPU
from quantbench.records.plan import ArmPlan, ComparisonPlan, IsoPlan
from quantbench.records.server import Memory

FITS = {"bf16": 24, "awq": 61}
ISO = IsoPlan(length=2048, max_tokens=128, concurrency=FITS, limits={"bf16": 64, "awq": 64})
GRID = Cell.of("chat", 16, 128)


def blocks(model: str, cell: Cell, speed: float, count: int = 6, **changes: Any) -> list[BlockContext]:
    """Blocks of one arm that alternate with the other's (A B B A) and scatter in their own way."""
    second = model == "awq"

    def metrics(n: int) -> dict[str, Any]:
        own = n % (4 if second else 3)
        return {"throughput_tok_s": speed * (1 + 0.002 * own), "p50_ttft_ms": 50.0 + own}

    turns = [2 * n + (second != (n % 2 == 0)) for n in range(1, count + 1)]
    return [
        runs.block(model, cell, n, started=60.0 * turn, metrics=metrics(n), **changes)
        for n, turn in enumerate(turns, start=1)
    ]


def plan(**changes: Any) -> ComparisonPlan:
    base = ComparisonPlan(
        baseline="bf16", gpu_name="x", variants=("awq",), primary=runs.primary(GRID), margin=0.02, precision=None,
        blocks=6, most_blocks=40, iso_memory={"chat": ISO},
    )  # fmt: skip
    return runs.but(base, **changes)  # type: ignore[no-any-return]


def compare(contexts: list[BlockContext], asked: ComparisonPlan | None = None, **facts: Any) -> list[IsoComparison]:
    asked = asked or plan()
    verdict = build_verdict(contexts, baseline="bf16", primary=asked.primary, variants=asked.variants)
    return list(iso_memory.compare(contexts, asked, verdict, **facts))


def at_what_fits(**changes: Any) -> list[BlockContext]:
    own = {model: Cell.of("chat", fits, 128) for model, fits in FITS.items()}
    return blocks("bf16", own["bf16"], 1000.0) + blocks("awq", own["awq"], 1800.0, **changes)


def test_each_model_at_what_fits_it_is_compared_by_paired_blocks() -> None:
    rows = compare(at_what_fits() + blocks("bf16", GRID, 700.0) + blocks("awq", GRID, 900.0))
    assert [row.metric for row in rows] == list(COMPARED)
    speed = rows[0]
    assert (speed.baseline_concurrency, speed.concurrency, speed.length, speed.n_pairs) == (24, 61, 2048, 6)
    assert (speed.code, speed.interleaved, speed.primary) == ("better", True, False)
    assert speed.ratio == pytest.approx(1.8, rel=5e-3)
    assert speed.ci_low is not None
    assert speed.reasons == ()


def test_it_is_a_family_of_its_own_and_the_primary_cell_counts_as_any_other_in_it() -> None:
    contexts = at_what_fits()
    grid = blocks("bf16", GRID, 700.0) + blocks("awq", GRID, 900.0)
    verdict = build_verdict(contexts + grid, baseline="bf16", primary=runs.primary(GRID))
    assert {row.cell for row in verdict.rows} == {GRID}, "the families of the grid are as they were"
    where = plan(primary=runs.primary(Cell.of("chat", 61, 128)))
    rows = compare(contexts, where)
    tests = [row for row in rows if row.p_value is not None]
    assert {row.family for row in tests} == {1}, "each question is a family, here of one cell per variant"
    assert all(row.p_holm is not None and row.p_holm >= row.p_value for row in tests if row.p_value is not None)


def test_what_speaks_against_calling_it_what_fits_stands_in_the_row() -> None:
    held = {"bf16": 24 * 2048.0, "awq": 50 * 2048.0}
    ready = {model: runs.ready(model, memory=Memory(kv_cache_tokens=tokens)) for model, tokens in held.items()}
    squeezed = at_what_fits(server=ServerFacts(delta=Delta(preemptions=2)))
    (speed, *_) = compare(squeezed, ready=ready, longest={"chat": 2100})
    assert (speed.baseline_fits, speed.variant_fits, speed.longest_request) == (24, 50, 2100)
    assert speed.reasons == ("61_IN_FLIGHT_50_FIT", "REQUESTS_OF_2100_TOKENS", "12_PREEMPTIONS")
    assert speed.code == "better", "true, and what it is of is said"


def test_where_nothing_was_measured_or_a_guard_refuses_there_is_no_figure() -> None:
    assert compare(at_what_fits(), plan(iso_memory={"chat": runs.but(ISO, measured=False)})) == []
    assert compare(blocks("bf16", Cell.of("chat", 24, 128), 1.0)) == []
    refused = compare(at_what_fits(), pair_failures={"awq": ["tokenizer"]})
    assert {(row.code, row.ratio) for row in refused} == {("invalid", None)}


def test_on_several_numbers_of_gpus_it_is_compared_per_gpu_too() -> None:
    rows = compare(at_what_fits(), plan(arms={"bf16": ArmPlan(gpus=2), "awq": ArmPlan()}))
    ratio = {row.metric: row.ratio for row in rows}
    assert ratio[PER_GPU] == pytest.approx(3.6, rel=5e-3)


@given(st.floats(1, 5000), st.integers(1, 1024), st.booleans())
def test_what_is_chosen_fits_may_run_and_stands(fits: float, limit: int, reckoned: bool) -> None:
    number = iso_memory.chosen(fits, limit, reckoned=reckoned)
    assert number <= min(fits, limit)
    assert number >= min(iso_memory.RECKONED * fits, limit) - 1
    assert iso_memory.stands(number, fits, limit), "the next plan has nothing to do"


@given(st.floats(1, 5000), st.integers(1, 1024), st.floats(0.985, 1.05))
def test_a_number_stands_where_another_start_has_a_little_more_or_less_cache(
    fits: float, limit: int, noise: float
) -> None:
    number = iso_memory.chosen(fits, limit, reckoned=False)
    assert iso_memory.stands(number, fits * noise, limit)


@given(st.integers(1, 5000), st.floats(1, 5000), st.integers(1, 1024))
def test_no_number_stands_that_is_too_many_or_far_too_few(number: int, fits: float, limit: int) -> None:
    if iso_memory.stands(number, fits, limit):
        assert number <= limit
        assert number <= 1.02 * fits
        assert number >= min(0.9 * min(fits, limit), min(fits, limit) - 2)
