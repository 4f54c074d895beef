"""What further blocks cost, and what of their budget is spent."""

from __future__ import annotations

from typing import Any

import pytest
from quantbench.judge import budget
from quantbench.records.block import BlockContext, LaneFacts
from runs import BATCH, CHAT, block


def on(lane: str = "gpu0", action: Any = "woken", **more: Any) -> BlockContext:
    return block(lane=LaneFacts(lane=lane, mode="sleep", action=action), **more)


BLOCKS = [  # of 20 s each
    on(started=0, number=1),
    on(started=21, number=1, model="awq"),
    on(started=43, number=2, model="awq"),
    on(started=1043, number=2, action="started"),  # after the run was killed
    on(started=1363, number=3),  # 300 s after it: a night between two runs
    on(started=1384, number=3, model="awq"),
]


def test_a_block_costs_its_time_and_the_pause_before_it_unless_that_was_no_measuring() -> None:
    assert [seconds for _, seconds in budget.costs(BLOCKS)] == [20, 21, 22, 20, 20, 21]


@pytest.mark.parametrize(("planned", "seconds"), [(3, 0), (2, 41), (1, 83)])
def test_what_is_beyond_the_plan_is_spent(planned: int, seconds: float) -> None:
    assert budget.spent(BLOCKS, lambda cell: planned) == seconds


def test_lanes_measure_side_by_side() -> None:
    other = [on("gpu1", started=started, number=3, model="fp8") for started in (1363, 1385)]
    assert budget.spent([*BLOCKS, *other], lambda cell: 2) == 42
    assert budget.spent(BLOCKS, lambda cell: {CHAT: 2, BATCH: 0}[cell]) == 41


def test_a_round_is_two_blocks_of_every_arm_on_the_lane_that_takes_longest() -> None:
    prices = budget.prices([*BLOCKS, on(cell=BATCH, started=1500)], {"bf16": "gpu0", "awq": "gpu0"})
    assert prices == {CHAT.key: pytest.approx(2 * 20 + 2 * (21 + 22 + 21) / 3), BATCH.key: 2 * 20}
    beside = on("gpu1", started=0, model="fp8", duration_s=50.0)
    assert budget.prices([*BLOCKS, beside], {"bf16": "gpu0", "fp8": "gpu1"})[CHAT.key] == 100
