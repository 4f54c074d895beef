"""A scheduler that takes the ready job of highest priority gets A B B A, or one model after the other."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.judge.schedule import ROUNDS, Schedule, round_order
from quantbench.records.cell import Cell
from quantbench.records.plan import start_of

NAMES = ["bf16", "w8a8", "w4a16", "fp8", "gptq"]
CELLS = [Cell.of("chat", 1, 128), Cell.of("chat", 8, 128), Cell.of("batch", 16, 256)]


def jobs_in_order(schedule, arms, cells, blocks, served=lambda arm: arm):
    """What a run does: blocks need their server's start, stops need all blocks; the highest priority goes first."""
    jobs = {("start", served(arm)): (schedule.start(served(arm)), set()) for arm in arms}
    for arm in arms:
        for cell in cells:
            for n in range(1, blocks + 1):
                jobs["block", arm, cell, n] = (schedule.block(arm, cell, n), {("start", served(arm))})
    for model in {served(arm) for arm in arms}:
        own = {job for job in jobs if job[0] == "block" and served(job[1]) == model}
        jobs["answers", model] = (schedule.start(model), {("start", model)})
        jobs["stop", model] = (schedule.stop(model), own | {("answers", model)})
    done: list[tuple] = []
    while len(done) < len(jobs):
        ready = [job for job, (_, needs) in jobs.items() if job not in done and needs <= set(done)]
        done.append(max(ready, key=lambda job: jobs[job][0]))
    return done


def test_two_models_on_an_interleaving_lane_alternate_as_abba_per_tuple():
    schedule = Schedule({"a": "gpu0", "b": "gpu0"}, {"gpu0": "sleep"}, CELLS)
    order = jobs_in_order(schedule, ["a", "b"], CELLS, 4)
    assert order[:4] == [("start", "a"), ("answers", "a"), ("start", "b"), ("answers", "b")]
    blocks = [job for job in order if job[0] == "block"]
    assert [job[2] for job in blocks] == [cell for cell in CELLS for _ in range(8)]
    assert [job[1] for job in blocks] == list("abbaabba") * len(CELLS)
    assert [job[0] for job in order[-3:]] == ["block", "stop", "stop"]


def test_cells_that_belong_together_alternate_as_one_and_those_of_the_grid_keep_their_place():
    own = {"a": Cell.of("chat", 24, 128), "b": Cell.of("chat", 61, 128)}
    schedule = Schedule({"a": "x", "b": "x"}, {"x": "sleep"}, CELLS, together=[own])
    turns = sorted(
        ((arm, n) for arm in own for n in (1, 2, 3, 4)), key=lambda t: -schedule.block(t[0], own[t[0]], t[1])
    )
    assert turns == [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3), ("b", 4), ("a", 4)]
    assert schedule.block("a", own["a"], 1) < min(schedule.block("b", cell, 4) for cell in CELLS), "after the grid"
    assert schedule.block("b", own["b"], 4) > schedule.block("a", Cell.of("chat", 3, 128), 1) > schedule.stop("a") > 0
    within = Schedule({"a": "x", "b": "x"}, {"x": "sleep"}, CELLS, together=[own | {"a": CELLS[1]}])
    alone = Schedule({"a": "x", "b": "x"}, {"x": "sleep"}, CELLS)
    grid = [(arm, cell, n) for arm in own for cell in CELLS for n in (1, 2)]
    assert sorted(grid, key=lambda g: within.block(*g)) == sorted(grid, key=lambda g: alone.block(*g))
    assert within.block("a", CELLS[1], 1) > within.block("b", own["b"], 1) > within.block("a", CELLS[1], 2)


@pytest.mark.parametrize("mode", ["sleep", "resident", "auto", "endpoint"])
def test_all_modes_but_restart_interleave(mode):
    schedule = Schedule({"a": "x", "b": "x"}, {"x": mode}, CELLS[:1])
    order = jobs_in_order(schedule, ["a", "b"], CELLS[:1], 2)
    assert [job[1] for job in order if job[0] == "block"] == list("abba")


def test_a_restarting_lane_goes_model_by_model():
    schedule = Schedule({"a": "x", "b": "x", "c": "x"}, {"x": "restart"}, CELLS)
    order = jobs_in_order(schedule, ["a", "b", "c"], CELLS, 3)
    kinds = [(job[1], job[0]) for job in order]
    expected = [(model, kind) for model in "abc" for kind in ["start", "answers", *["block"] * 9, "stop"]]
    assert kinds == expected


def test_the_aa_arm_shares_its_models_server_on_a_restarting_lane():
    aa = {"a__aa": "a"}
    schedule = Schedule({"a": "x", "b": "x", "a__aa": "x"}, {"x": "restart"}, CELLS[:1], aa)
    order = jobs_in_order(schedule, ["a", "b", "a__aa"], CELLS[:1], 4, lambda arm: aa.get(arm, arm))
    arms = [job[1] for job in order if job[0] == "block"]
    assert arms == ["a", "a__aa", "a__aa", "a"] * 2 + ["b"] * 4
    assert order.index(("stop", "a")) < order.index(("start", "b"))


@given(st.integers(2, 5), st.integers(1, 8), st.integers(1, 3))
def test_any_number_of_models_interleaves_with_starts_first(models, blocks, cells):
    arms = NAMES[:models]
    schedule = Schedule(dict.fromkeys(arms, "x"), {"x": "sleep"}, CELLS[:cells])
    order = jobs_in_order(schedule, arms, CELLS[:cells], blocks)
    assert {job[0] for job in order[: 2 * models]} == {"start", "answers"}
    measured = [job for job in order if job[0] == "block"]
    for i in range(0, len(measured), models):
        part = measured[i : i + models]
        assert {job[1] for job in part} == set(arms), "a round measures every arm once"
        assert len({job[2:] for job in part}) == 1, "with the same block number of the same tuple"


@given(st.integers(2, 5), st.integers(1, 6))
def test_places_balance_and_variants_are_equally_near_to_the_baseline(models, pairs):
    arms, turn = NAMES[:models], 2 * (models - 1)
    places, distance = defaultdict(int), defaultdict(int)
    for order in (round_order(arms, number) for number in range(2 * pairs)):
        for place, arm in enumerate(order):
            places[arm] += place
    assert len(set(places.values())) == 1, "over any even number of rounds"
    for order in (round_order(arms, number) for number in range(turn)):
        for arm in arms[1:]:
            distance[arm] += abs(order.index(arm) - order.index(arms[0]))
    assert len(set(distance.values())) == 1, "over a full turn"
    assert models > 3 or set(distance.values()) == {turn}, "always next to it"


@given(
    st.sampled_from(["sleep", "restart"]),
    st.sampled_from([*NAMES[:2], "unknown", "bf16__aa"]),
    st.integers(1, 500),
    st.integers(1, 4096),
    st.integers(0, 200),
)
def test_cells_and_arms_asked_for_by_name_get_a_place_between_start_and_stop(mode, arm, concurrency, tokens, n):
    schedule = Schedule({"bf16": "x", "w8a8": "x"}, {"x": mode}, CELLS)
    priority = schedule.block(arm, Cell.of("chat", concurrency, tokens), n)
    model = arm.removesuffix("__aa")
    assert schedule.start(model) > priority > schedule.stop(model) > 0
    if Cell.of("chat", concurrency, tokens) not in CELLS and mode == "sleep" and arm == "bf16":
        assert priority < min(schedule.block(a, cell, ROUNDS) for a in NAMES[:2] for cell in CELLS)


@given(st.integers(1, 60))
def test_more_blocks_of_a_tuple_come_later(n):
    schedule = Schedule({"a": "x", "b": "x"}, {"x": "sleep"}, CELLS)
    assert schedule.block("b", CELLS[0], n) > schedule.block("a", CELLS[0], n + 2)


def test_all_that_is_of_a_start_comes_before_the_next_start():
    schedule = Schedule({"a": "gpu0", "b": "gpu0"}, {"gpu0": "sleep"}, CELLS, starts={"gpu0": 2}, blocks=4)
    order = jobs_in_order(schedule, ["a", "b"], CELLS, 5)
    blocks = [job for job in order if job[0] == "block"]
    halves = [("abba", (1, 2)), ("abbaab", (3, 4, 5))]
    assert [job[1] for job in blocks] == [arm for arms, _ in halves for _ in CELLS for arm in arms]
    assert [job[2:] for job in blocks] == [(c, n) for _, ns in halves for c in CELLS for n in ns for _ in "ab"]
    assert [job[0] for job in order[-3:]] == ["block", "stop", "stop"]


def test_a_restarting_lane_goes_through_its_models_once_for_each_start():
    schedule = Schedule({"a": "x", "b": "x"}, {"x": "restart"}, CELLS[:1], starts={"x": 2}, blocks=4)
    order = jobs_in_order(schedule, ["a", "b"], CELLS[:1], 4)
    assert [(job[1], job[3]) for job in order if job[0] == "block"] == [
        *(("a", 1), ("a", 2), ("b", 1), ("b", 2)),
        *(("a", 3), ("a", 4), ("b", 3), ("b", 4)),
    ]
    assert [job[:2] for job in order[:4]] == [(what, arm) for arm in "ab" for what in ("start", "answers")]
    assert order.index(("stop", "a")) > order.index(("block", "a", CELLS[0], 4))


@given(st.integers(1, 40), st.integers(1, 10))
def test_blocks_are_divided_over_the_starts_in_order_and_evenly(blocks, starts):
    of = [start_of(n, blocks, starts) for n in range(1, blocks + 5)]
    assert of == sorted(of)
    assert set(of[blocks:]) == {starts}, "what comes later is of the last start"
    sizes = [of[:blocks].count(start) for start in range(1, starts + 1)]
    assert max(sizes) - min(sizes) <= 1


def test_lanes_are_independent():
    both = Schedule({"a": "x", "b": "y", "c": "y"}, {"x": "restart", "y": "sleep"}, CELLS)
    order = [both.block(arm, CELLS[0], n) for n, arm in [(1, "b"), (1, "c"), (2, "c"), (2, "b")]]
    assert order == sorted(order, reverse=True)
    assert both.start("a") > both.block("a", CELLS[0], 1) > both.stop("a")
