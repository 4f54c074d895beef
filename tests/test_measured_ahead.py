"""A lane's process measures the next block before its job asks for it, and what comes of that is the job's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box, jobs
from quantbench.block import BlockSpec
from quantbench.errors import QuantbenchError
from quantbench.lane_process import Ahead, LaneProcess
from quantbench.records.server import ServerSpec

BLOCKS = [(model, f"chat/c4_t16/b{number}") for number in (1, 2, 3) for model in ("alpha", "beta")]
LATE_S = 2
"""So long a job takes in the first test until it asks for its block."""


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


def test_each_block_is_measured_once_in_the_order_of_the_schedule_and_before_its_job_asks(ahead: Box) -> None:
    asking = ahead.path / "workflow/scripts/measure_block.py"
    asking.write_text(f"import time\ntime.sleep({LATE_S})\n" + asking.read_text())
    ahead.run("capacity")
    events = ahead.events("block begins")
    begun = [(event["model"], event["cell"]) for event in events]
    assert sorted(begun) == sorted(BLOCKS)
    assert [model for model, _ in begun] == ["alpha", "beta", "beta", "alpha", "alpha", "beta"], "A B B A"
    written = [ahead.file(f"raw/{model}/{cell}.json").stat().st_mtime for model, cell in begun]
    early = [event["cell"] for event, before in zip(events[1:], written, strict=False) if event["t"] < before + LATE_S]
    assert len(early) == len(BLOCKS) - 1, "all but the first"
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
    assert jobs(ahead.run("capacity"))["measure_block"] == len(BLOCKS) - finished
    assert len(ahead.results("raw/*/chat/*/b*.json")) == len(BLOCKS)
    ahead.assert_none_left()


def test_what_failed_ahead_fails_its_job_and_no_other(tmp_path: Path) -> None:
    def block(number: int) -> BlockSpec:
        knobs: Any = None
        return BlockSpec("alpha", number, ServerSpec(model="alpha", source="", port=1), knobs, "fake", tmp_path)

    process = object.__new__(LaneProcess)
    process._ahead = Ahead(block(2), failure=QuantbenchError("the server died"))
    with pytest.raises(QuantbenchError, match="the server died"):
        process._taken(block(2), None)
    process._ahead = Ahead(block(2), failure=QuantbenchError("the server died"))
    assert process._taken(block(3), None) is None, "another one is measured as if nothing had been"
    assert process._ahead is None
