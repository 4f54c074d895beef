"""Rounds of further blocks: what the processes of the lanes are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from quantbench import ask_lane
from quantbench.further import Rounds
from quantbench.records.cell import Cell
from quantbench.serving import agenda

CELL = Cell.of("chat", 4, 16)
BLOCKS = [("a", CELL, 5), ("b", CELL, 5), ("b", CELL, 6), ("a", CELL, 6)]


@pytest.fixture
def rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv(ask_lane.RUN, str(tmp_path / "run"))
    made = Rounds.__new__(Rounds)
    made._lanes = {"a": "one", "b": "two"}
    return made


@pytest.mark.fault(
    "`kill -9` of the process that writes, in a round of further blocks", "what it had not written is measured again"
)
def test_a_round_asks_again_for_what_was_lost(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def of_lane(lane: str, request: Any) -> int:
        asked.append((lane, [number for *_, number in request["blocks"]]))
        agenda.note(lane, ask_lane.MEASURED, request["blocks"][-1])  # the one before it is lost
        return 0

    monkeypatch.setattr(ask_lane, "ask", of_lane)
    rounds._measure(BLOCKS, "further")
    assert sorted(asked) == [("one", [5]), ("one", [5, 6]), ("two", [5]), ("two", [5, 6])]
    lines = [json.loads(line) for line in (agenda.folder() / "one.journal").open()]
    assert lines == [["measured", ["a", "chat", 4, 16, number]] for number in (6, 5)]


def test_a_round_ends_with_a_block_that_failed(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_lane, "ask", lambda *_: 1)
    with pytest.raises(SystemExit):
        rounds._measure(BLOCKS, "further")
