"""What the process of a lane makes of a request: all its blocks in order, until one fails."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from quantbench import lane_process
from quantbench.ask_lane import AGAIN, RUN
from quantbench.errors import QuantbenchError
from quantbench.lane_writer import Measured, Place
from quantbench.records.plan import ArmPlan
from quantbench.serving import agenda

A, B = ["a", "chat", 4, 16], ["b", "chat", 4, 16]
BLOCKS = [[*A, 1], [*B, 1], [*B, 2], [*A, 2]]
LATER = ["a", "chat", 8, 16, 1]


@dataclass
class Fake:
    """A process to which blocks are there already, and some cannot be measured."""

    folder: Path
    fails: list[list[Any]] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    def place(self, reference: Any) -> Place:
        return Place("one", reference, self.folder / f"{reference[0]}.log")

    def measure(self, reference: Any, following: Any, progress: str | None) -> Measured:
        self.asked.append((reference, following, progress))
        if reference in self.fails:
            raise QuantbenchError("the server died", remedy="look at its log")
        return Measured(self.place(reference), None, ArmPlan(), progress)


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv(RUN, str(tmp_path / "run"))


def ask(fake: Any, **request: Any) -> int:
    with socket.socket() as job:
        asked = {"blocks": BLOCKS, "next": LATER, "tuple": A} | request
        return lane_process._measured(fake, None, job, asked, lambda: None)


def journal() -> list[Any]:
    return [json.loads(line) for line in (agenda.folder() / "one.journal").open()]


def test_all_blocks_of_a_request_are_measured_in_order_each_with_the_one_that_follows(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    assert ask(fake, progress="further") == 0
    assert fake.asked == [(block, then, "further") for block, then in zip(BLOCKS, [*BLOCKS[1:], LATER], strict=True)]
    assert journal() == [["measured", block] for block in BLOCKS]
    assert (tmp_path / "a.log").read_text() == "done\n", "its job is over"
    assert not (tmp_path / "b.log").exists(), "that of the other has not come yet"


@pytest.mark.fault(
    "a block of one tuple cannot be measured while another tuple's job has it measured on its way",
    "that tuple is left out, the other completes; its own job tries again, and fails with its words",
)
@pytest.mark.parametrize(
    ("failing", "mine", "code", "words"),
    [([*B, 1], A, AGAIN, "b"), ([*A, 2], A, 1, "a"), ([*B, 1], None, 1, "b")],
    ids=["of another tuple", "of its own", "of a request without a tuple"],
)
def test_a_block_that_fails_ends_the_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], failing: list[Any], mine: Any, code: int, words: str
) -> None:
    fake = Fake(tmp_path, [failing])
    assert ask(fake, tuple=mine) == code
    before = BLOCKS[: BLOCKS.index(failing)]
    assert [asked for asked, *_ in fake.asked] == [*before, failing]
    assert journal() == [*(["measured", block] for block in before), ["failed", failing[:4]]]
    assert "the server died" in (tmp_path / f"{words}.log").read_text()
    assert "the server died" in capfd.readouterr().err


def test_what_cannot_be_noted_is_not_measured_again_and_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (agenda.folder() / "one.journal").mkdir()
    fake = Fake(tmp_path)
    assert ask(fake) == 1
    assert len(fake.asked) == 1
    said = capfd.readouterr().err
    assert "one.journal cannot be written: Is a directory" in said
    assert "remedy: make room there" in said
