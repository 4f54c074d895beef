"""A fleet under real snakemake with stand-in servers: one comparison is cancelled, the other is not touched by that."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyed
import pytest
import yaml
from box import GPU, Box
from quantbench.records.base import read
from quantbench.records.fleet import Joined
from quantbench.serving import processes

VICTIM, OTHER = "fleets/two/victim", "fleets/two/other"
ONE_CELL = {"chat": {"concurrency": [4]}}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A fleet of two comparisons of the same models."""
    made = Box(tmp_path / "box")
    made.configure(workloads={"chat": {"concurrency": [4]}}, blocks=3, block={"min_seconds": 0.5})
    entries: dict[str, Any] = {
        "victim": {"config": {"gpu": GPU}},
        "other": {"configfiles": ["more.yaml"], "config": {"gpu": GPU, "blocks": 2}},
    }
    (made.path / "more.yaml").write_text(yaml.safe_dump({"margin": 0.03}))
    (made.path / "fleet.yaml").write_text(yaml.safe_dump({"fleet": "two", "comparisons": entries}))
    made.profile = ["-s", "fleet.smk", "--configfile", "fleet.yaml"]
    yield made
    made.clean_up()


def blocks(box: Box, comparison: str) -> list[str]:
    """Blocks that are kept."""
    return sorted(str(path) for path in (box.path / comparison).glob("results/*/raw/*/*/*/b*.json"))


def begun(box: Box, comparison: str) -> int:
    """How many blocks were begun, ever."""
    logs = (box.path / comparison).glob("results/*/servers/*/events.jsonl")
    return sum(json.loads(line)["event"] == "block begins" for log in logs for line in log.read_text().splitlines())


def joined(box: Box) -> Joined:
    return read(box.path / "fleets/two/joined/fleet.json", Joined)


@pytest.mark.timeout(1800)  # two whole runs and a half: minutes on a busy machine
@pytest.mark.fault(
    "one comparison of a fleet is cancelled in mid-run",
    "it alone is missing, the page names it; the next run of the fleet measures only what it lacks",
)
def test_a_cancelled_comparison_costs_only_itself_and_is_resumed(box: Box) -> None:
    running = box.spawn()
    lock = box.path / VICTIM / ".snakemake/quantbench.lock"
    assert processes.until(lambda: len(blocks(box, VICTIM)) >= 2, box.timeout), box.out.read_text()[-4000:]
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGINT)
    assert running.wait(timeout=box.timeout) != 0
    kept, before = blocks(box, VICTIM), begun(box, VICTIM)
    assert 2 <= len(kept) < 6
    assert len(blocks(box, OTHER)) == 4

    told, page = joined(box), (box.path / "fleets/two/joined/fleet.md").read_text()
    assert [one.comparison for one in told.done] == ["other"]
    assert {row.folder for row in told.rows} == {OTHER}
    assert told.missing[0].comparison == "victim"
    assert "victim is missing" in page
    assert f"{VICTIM}/run.log" in page
    assert "blocks are kept" in told.missing[0].last_words
    assert not (box.path / "fleets/two/joined/complete.json").exists()

    box.run()
    assert set(kept) < set(blocks(box, VICTIM))
    assert len(blocks(box, VICTIM)) == 6
    assert begun(box, VICTIM) - before == 6 - len(kept), "what was kept is not measured again"
    assert len(blocks(box, OTHER)) == 4
    assert {row.folder for row in joined(box).rows} == {VICTIM, OTHER}
    assert not joined(box).missing
    assert box.plan() == {}

    fleet = yaml.safe_load((box.path / "fleet.yaml").read_text())
    fleet["comparisons"]["other"]["config"]["blocks"] = 3
    (box.path / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    assert box.plan() == {"fleet": 1, "join_fleet": 1, "run_comparison": 1}, "the changed one alone"
    box.assert_none_left()


@pytest.mark.timeout(1800)
@pytest.mark.fault(
    "another user reads all command lines of the machine while a fleet with keys (of its servers, of a judge) runs",
    "no command line, file, page or log has a key, plain or in base64; servers and judge get theirs",
)
def test_no_command_line_and_no_file_of_a_fleet_has_a_key(box: Box) -> None:
    box.shell = keyed.KEYS
    with keyed.comparison(box.path) as config:
        fleet = {"fleet": "keyed", "keys": sorted(keyed.KEYS), "comparisons": {"one": {"config": config}}}
        (box.path / "fleet.yaml").write_text(yaml.safe_dump(fleet))
        with keyed.Onlooker() as onlooker:
            box.run()  # whoever lacks a key is refused
    assert not onlooker.leaks
    for program in ("fleet.smk", "run_comparison", "quantbench.cli.snakemake", "measure_tuple", "lane_process"):
        assert onlooker.saw(program), program
    assert not keyed.files_with_key(box.path)
    assert keyed.asked_the_judge(box.path / "fleets/keyed/one")
