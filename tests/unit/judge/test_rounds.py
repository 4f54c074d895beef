"""Which cells get a further round of blocks, and when there is none."""

from __future__ import annotations

import runs
from quantbench.judge.rounds import next_round
from quantbench.records.cell import Cell

C1, C8 = (Cell.of("chat", n, 128) for n in (1, 8))
COST = {C1.key: 60.0, C8.key: 60.0}


def open_(cell, more):
    return runs.comparison(cell, code="undecided", blocks_to_decide=more)


def test_the_cells_nearest_to_an_answer_share_what_is_left():
    verdict = runs.verdict([open_(C1, 6), open_(C8, 2)])
    assert next_round(verdict, {C1.key: 6, C8.key: 6}, 1e9, COST) == {C8.key: 2, C1.key: 2}
    assert next_round(verdict, {C1.key: 6, C8.key: 6}, 100, COST) == {C8.key: 2}
    assert next_round(verdict, {C1.key: 6, C8.key: 6}, 30, COST) == {}


def test_it_ends():
    assert next_round(runs.verdict([runs.comparison(C1)]), {C1.key: 6}, 1e9, COST) == {}
    assert next_round(runs.verdict([open_(C1, 2)]), {C1.key: 40}, 1e9, COST) == {}
