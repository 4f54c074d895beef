"""A lane's process measures the next block before its job asks for it, and what comes of that is the job's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from box import Box, jobs
from quantbench.block import BlockSpec
from quantbench.errors import QuantbenchError
from quantbench.lane_process import Ahead, LaneProcess
from quantbench.records.base import read
from quantbench.records.block import MeasuredTuple
from quantbench.records.server import ServerSpec

BLOCKS = [(model, f"chat/c4_t16/b{number}") for number in (1, 2, 3) for model in ("alpha", "beta")]
LATE_S = 2
"""So long a job takes in the first test until it asks for its blocks."""
WRITING_S = 2
"""So long the second process of the lane takes in some tests to write a block."""


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[Box]:
    """Two models on a card, in sleep mode, where any number of CPUs is enough for going ahead."""
    box = Box(tmp_path / "box")
    source = box.path / "workflow/quantbench/lane_process.py"
    source.write_text(source.read_text().replace("AHEAD_CPUS = 8", "AHEAD_CPUS = 1"))
    box.config["server"].pop("kv_cache_gib")
    box.configure(
        server={"platform": "cuda", "env": {"FAKE_GPU_DIR": str(box.path / "gpu")}},
        lanes={"one": {"mode": "sleep", "devices": ["0"]}},
        workloads={"chat": {"concurrency": [4]}},
        blocks=3,
        budget="none",
    )
    yield box
    box.clean_up()


def write_with(box: Box, line: str) -> None:
    """Have the second process of the lane do this before it parses a block."""
    source = box.path / "workflow/quantbench/lane_writer.py"
    before = "        records, context = heard.parsed()"
    assert before in source.read_text()
    source.write_text(source.read_text().replace(before, f"        {line}\n{before}"))


def the(box: Box, module: str) -> int:
    """The process that runs a module for the lane."""
    (pid,) = [pid for pid, line in box.living().items() if f"quantbench.{module} " in line]
    return pid


def test_each_block_is_measured_once_in_the_order_of_the_schedule_and_the_next_before_its_job_asks(ahead: Box) -> None:
    ahead.configure(workloads={"chat": {"concurrency": [2, 4]}}, blocks=2)
    asking = ahead.path / "workflow/scripts/measure_tuple.py"
    asking.write_text(f"import time\ntime.sleep({LATE_S})\n" + asking.read_text())
    made = jobs(ahead.run("capacity"))
    assert (made["measure_tuple"], made["summarize_tuple"]) == (4, 4)
    events = ahead.events("block begins")
    begun = [(event["model"], event["cell"]) for event in events]
    one, two = ([f"chat/{cell}/b{number}" for number in (1, 2)] for cell in ("c2_t16", "c4_t16"))
    a_b_b_a = ("alpha", 0), ("beta", 0), ("beta", 1), ("alpha", 1)
    assert begun == [(model, cell[number]) for cell in (one, two) for model, number in a_b_b_a]
    written = [ahead.file(f"raw/{model}/{cell}.json").stat().st_mtime for model, cell in begun]
    assert events[4]["t"] < written[3] + LATE_S, "that of the next cell, which no job has asked for yet"
    for model in ("alpha", "beta"):
        for cell in ("c2_t16", "c4_t16"):
            told = read(ahead.file(f"raw/{model}/chat/{cell}/measured.json"), MeasuredTuple)
            assert (told.measured, list(told.blocks)) == ((1, 2), ["b1", "b2"])
    ahead.assert_none_left()


def test_the_lane_goes_on_while_a_block_is_parsed_and_written(ahead: Box) -> None:
    write_with(ahead, f"import time; time.sleep({WRITING_S})")
    ahead.run("capacity")
    events = ahead.events()
    begun = [event for event in events if event["event"] == "block begins"]
    assert len(begun) == len(BLOCKS)
    for one, two in pairwise(begun):
        written = ahead.file(f"raw/{one['model']}/{one['cell']}.json").stat().st_mtime
        assert two["t"] < written, "the next block has begun, its warm-up and the change of the model included"
        if one["model"] != two["model"]:
            changed = [e["t"] for e in events if e["event"] == "wake" and one["t"] < e["t"] < two["t"]]
            assert changed, "the model was changed between the two, and not after the files"


@pytest.mark.fault("a block that cannot be written while the next one is measured", "its job fails, with its words")
def test_what_cannot_be_written_fails_its_job_and_no_other(ahead: Box) -> None:
    broken = "if asked.number == 2 and asked.arm == 'beta': from quantbench.errors import QuantbenchError"
    write_with(ahead, f"{broken}; raise QuantbenchError('no room for it', remedy='make room')")
    printed = ahead.run("capacity", ok=False)
    assert "no room for it" in printed.partition("the run is not finished")[2]
    log = "logs/fake/measure_tuple/{}/chat/c4_t16.log"
    assert "no room for it" in (ahead.path / log.format("beta")).read_text()
    assert (ahead.path / log.format("alpha")).read_text() == "done\n", "once"
    assert not ahead.results("raw/beta/chat/*/b2.*")
    assert len(ahead.results("raw/alpha/chat/*/b*.json")) == 3, "on the way to its last block that of the other failed"
    ahead.assert_none_left()


@pytest.mark.fault(
    "`kill -9` of the process that writes a block while the next one is measured",
    "it is said; a fresh process writes on, what was lost is measured again, and the run completes",
)
def test_a_killed_writer_costs_what_it_had_not_written(ahead: Box) -> None:
    write_with(ahead, f"import time; time.sleep({WRITING_S})")
    run = ahead.spawn("capacity")
    ahead.wait_for(lambda: len(ahead.events("block begins")) >= 3)
    os.kill(the(ahead, "lane_writer"), signal.SIGKILL)
    assert run.wait(120) == 0, ahead.out.read_text()[-4000:]
    assert "the process that writes blocks has ended" in ahead.out.read_text()
    assert len(ahead.results("raw/*/chat/*/b*.json")) == len(BLOCKS)
    assert len(ahead.events("block begins")) > len(BLOCKS)
    ahead.assert_none_left()


@pytest.mark.fault(
    "`kill -9` of the process that measures while another writes the block before",
    "that block is written, the last line says what happened; the next run goes on from there",
)
def test_what_was_handed_over_outlives_the_process_that_measured_it(ahead: Box) -> None:
    write_with(ahead, f"import time; time.sleep({WRITING_S})")
    run = ahead.spawn("capacity")
    ahead.wait_for(lambda: len(ahead.events("block begins")) >= 2)
    assert not ahead.results("raw/*/chat/*/b*.json"), "the first is still being written"
    os.kill(the(ahead, "lane_process"), signal.SIGKILL)
    assert run.wait(120) != 0
    said = ahead.out.read_text().partition("the run is not finished")[2]
    assert "the process that measures on lane one, or the one that writes, ended" in said
    assert ahead.results("raw/*/chat/*/b*.json"), "what was handed over"
    ahead.assert_none_left()
    ahead.run("capacity")
    begun = [(event["model"], event["cell"]) for event in ahead.events("block begins")]
    assert begun.count(BLOCKS[0]) == 1, "it is not measured again"
    assert len(ahead.results("raw/*/chat/*/b*.json")) == len(BLOCKS)
    ahead.assert_none_left()


@pytest.mark.fault(
    "`kill -9` of snakemake while a block is measured ahead",
    "nothing left running, finished blocks kept, the next run completes",
)
def test_what_was_measured_ahead_of_a_killed_run_counts_for_nothing(ahead: Box) -> None:
    run = ahead.spawn("capacity")
    ahead.wait_for(lambda: len(ahead.events("block begins")) >= 4)
    os.kill(run.pid, signal.SIGKILL)
    struck = time.monotonic()
    run.wait(60)
    ahead.assert_none_left(since=struck)
    finished = len(ahead.results("raw/*/chat/*/b*.json"))
    assert 2 <= finished <= 4
    ahead.forget_events()
    ahead.run("capacity")
    assert len(ahead.events("block begins")) == len(BLOCKS) - finished
    assert len(ahead.results("raw/*/chat/*/b*.json")) == len(BLOCKS)
    ahead.assert_none_left()


def test_what_failed_ahead_fails_its_job_and_no_other(tmp_path: Path) -> None:
    def block(number: int) -> BlockSpec:
        knobs: Any = None
        return BlockSpec("alpha", number, ServerSpec(model="alpha", source="", port=1), knobs, "fake", tmp_path)

    process = object.__new__(LaneProcess)
    process._ahead = Ahead(block(2), failure=QuantbenchError("the server died"))
    with pytest.raises(QuantbenchError, match="the server died"):
        process._taken(block(2))
    process._ahead = Ahead(block(2), failure=QuantbenchError("the server died"))
    assert process._taken(block(3)) is None, "another one is measured as if nothing had been"
    assert process._ahead is None
