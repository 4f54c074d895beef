"""A fleet on a real SLURM: `QUANTBENCH_SLURM=1 .venv/bin/pytest tests/slurm`, as root on a Debian of no cluster.

`cluster.py` makes the cluster of this machine. Jobs go through the executor plugin, as a user's do. The first test
takes real vLLM on the CPU, the others stand-in servers, as they are about what a scheduler does to a run.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keyed
import pytest
import yaml
from box import Box
from quantbench.config.schema import deep_merge
from quantbench.fleet import inner
from quantbench.records.base import read
from quantbench.records.comparison import Verdict
from quantbench.records.fleet import Joined
from quantbench.serving import processes
from servers import FAKE
from slurm import cluster
from source import ROOT, VLLM_PYTHON

ASKED = "QUANTBENCH_SLURM"
MODELS = "QUANTBENCH_SLURM_MODELS"
"""A folder with bf16/ and int8/, to which the demo has made its models; else the demo makes them here."""
pytestmark = [
    pytest.mark.skipif(ASKED not in os.environ, reason=f"makes this machine a SLURM cluster; {ASKED}=1 asks for it"),
    pytest.mark.alone,
    pytest.mark.timeout(1800),
]
HERE = (
    *("--slurm-status-command", "squeue", "--slurm-no-account"),
    *("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5"),
)
"""What this cluster needs that has no accounting, and what saves a test the time."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the pipeline and the executors, as `make setup-fleet` makes it."""
    if given := os.environ.get("QUANTBENCH_SLURM_PYTHON"):
        return Path(given)
    folder = tmp_path_factory.mktemp("fleet-env")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pinned = [word for name in ("pipeline", "fleet") for word in ("-r", ROOT / f"envs/{name}.txt")]
    subprocess.run([folder / "bin/pip", "install", "-q", *pinned], check=True)
    return folder / "bin/python"


@pytest.fixture(scope="module", autouse=True)
def slurm() -> Iterator[None]:
    cluster.install()
    cluster.up()
    yield
    cluster.down()
    assert not cluster.steps()


class FleetBox(Box):
    """A copy of the project with a fleet file; one GPU and one CPU for each comparison."""

    fleet = "proof"
    keys: Sequence[str] = ()
    """Names of variables that the fleet hands on."""

    def __init__(self, path: Path, python: Path) -> None:
        self.copy_project(path)
        self.python, self.entries = str(python), {}
        self.running: list[subprocess.Popen[bytes]] = []

    def add(self, name: str, **config: Any) -> None:
        """A comparison, or other values for one; the fleet file is written anew."""
        self.entries[name] = deep_merge(self.entries.get(name, {}), config)
        resources = {"gpus": 1, "cpus": 1, "mem_mb": 4000}
        entries = {key: {"config": values, "resources": resources} for key, values in self.entries.items()}
        asked = {"fleet": self.fleet, "keys": list(self.keys), "comparisons": entries}
        (self.path / "fleet.yaml").write_text(yaml.safe_dump(asked))

    def fleet_line(self, *options: str) -> list[str]:
        given = ["--profile", "profiles/slurm", "--configfile", "fleet.yaml", "--nocolor", *HERE, *options]
        return [self.python, "-m", "snakemake", "-s", "fleet.smk", *given]

    def begin(self) -> subprocess.Popen[bytes]:
        """The fleet, under way."""
        with self.out.open("ab") as out:
            where: dict[str, Any] = {"cwd": self.path, "env": self.environment(), "stdout": out, "stderr": out}
            self.running.append(subprocess.Popen(self.fleet_line(), start_new_session=True, **where))
        return self.running[-1]

    def end(self, ok: bool, seconds: float = 900) -> str:
        """Wait for the fleet that is under way; returns what all fleets here have printed."""
        code = self.running.pop().wait(timeout=seconds)
        printed = self.out.read_text()
        assert (code == 0) == ok, printed[-6000:]
        return printed

    def idle(self) -> bool:
        """Whether a further run has nothing to do."""
        where: dict[str, Any] = {"cwd": self.path, "env": self.environment(), "text": True, "capture_output": True}
        ran = subprocess.run(self.fleet_line("--dry-run"), check=True, timeout=120, **where)
        return "Nothing to be done" in ran.stdout + ran.stderr

    def place(self, name: str) -> Path:
        return self.path / "fleets" / self.fleet / name

    def blocks(self, name: str) -> dict[str, str]:
        """{finished block: hash of its context}."""
        found = self.place(name).glob("results/*/raw/*/*/*/b*.json")
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}

    def done(self, name: str) -> bool:
        return (self.place(name) / "done.json").exists()

    def job(self, name: str) -> str | None:
        """SLURM's number of the living job of a comparison."""
        return self.jobs().get(f"rule_run_comparison_wildcards_{name}")

    def jobs(self) -> dict[str, str]:
        """{comment: number} of the living jobs of this folder."""
        split = (line.split() for line in cluster.queue())
        return {comment: number for number, comment, folder in split if folder == str(self.path)}

    def of(self, name: str) -> dict[int, str]:
        """Living processes of a comparison, its servers and all that its job has started: by their working folder."""
        return {pid: line for pid, line in self.living().items() if self._works_in(pid, self.place(name))}

    def _works_in(self, pid: int, place: Path) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cwd").resolve().is_relative_to(place)
        return False

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 600) -> float:
        """Wait for it, as long as the fleet is under way; returns the seconds."""
        begun = time.monotonic()
        while not condition():
            alive = all(fleet.poll() is None for fleet in self.running)
            if not alive or time.monotonic() - begun > seconds:
                pytest.fail(f"not {what}: {self.out.read_text()[-4000:]}")
            time.sleep(0.2)
        return time.monotonic() - begun

    def in_mid_cell(self, name: str, least: int = 1) -> bool:
        """Blocks are there, of one cell some and not all, and the next is under way."""
        cells: dict[str, int] = {}
        for path in self.blocks(name):
            cells[str(Path(path).parent)] = cells.get(str(Path(path).parent), 0) + 1
        some = any(0 < count < self.entries[name]["blocks"] for count in cells.values())
        measures = any("measure_tuple" in line or "ask_lane" in line for line in self.of(name).values())
        return sum(cells.values()) >= least and some and measures

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of all tuples of a comparison."""
        tables = sorted(self.place(name).glob("results/*/capacity/*.csv"))
        return [row for table in tables for row in csv.DictReader(table.open())]

    def last_words(self, name: str) -> str:
        """Why a comparison is not done, as the joined record has it."""
        joined = read(self.path / "fleets" / self.fleet / "joined/fleet.json", Joined)
        return next(one.last_words for one in joined.missing if one.comparison == name)

    def clean_up(self) -> None:
        for fleet in self.running:
            fleet.kill()
            fleet.wait()
        if jobs := self.jobs().values():
            subprocess.run(["scancel", *jobs], check=False)
        cluster.until(lambda: not self.jobs(), cluster.KILL_WAIT_S + 15)
        super().clean_up()


@pytest.fixture
def box(tmp_path: Path, python: Path) -> Iterator[FleetBox]:
    made = FleetBox(tmp_path / "box", python)
    try:
        yield made
    finally:
        made.clean_up()


def on_vllm(folder: Path) -> dict[str, Any]:
    """Two models on real vLLM, two cells of two short blocks, nothing asked but speed."""
    models = {"bf16": {"source": f"{folder}/bf16"}, "int8": {"source": f"{folder}/int8"}}
    return {
        "gpu": "cpu",
        "vllm_python": str(VLLM_PYTHON),
        "lanes": {"cpu": {"devices": ["0"], "mode": "resident"}},
        "server": {"command": [str(VLLM_PYTHON), "-m", "vllm.entrypoints.cli.main"], "start_timeout_s": 900},
        "models": {**models, "int8": {**models["int8"], "quantization": "compressed-tensors"}},
        "workloads": {"chat": {"prompts": "config/prompts/chat.jsonl", "concurrency": [1, 2], "max_tokens": [8]}},
        "primary": {"workload": "chat", "concurrency": 2},
        "quality": {"prompts": None, "suites": {}},
        "blocks": 2,
        "budget": "none",
        "starts": 1,
        "aa_control": False,
        "block": {"min_seconds": 1.0, "min_requests_per_slot": 1, "warmup_requests_per_slot": 0},
        "cost": {"hourly_price": 0.1, "source": "test", "date": "2026-11-01"},
    }


def on_stand_ins(path: Path, **behaviour: Any) -> dict[str, Any]:
    """The same with stand-in servers that take 50 ms per token, so that a block is long enough to be cut off."""
    folder = path / "models/fake"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "fake"}')
    server = {"command": [sys.executable, str(FAKE)], "platform": "cpu", "max_model_len": 2048, "kv_cache_gib": 0.1}
    model = {"source": str(folder), "load_format": "dummy"}
    return {
        **{key: value for key, value in on_vllm(folder).items() if key != "vllm_python"},
        "gpu": "fake",
        "lanes": {"one": {"devices": ["0"]}},
        "server": {**server, "env": {"FAKE_VLLM": json.dumps({"token_s": 0.05, **behaviour})}},
        "models": {"alpha": model, "beta": model},
        "baseline": "alpha",
        "blocks": 3,
    }


@pytest.mark.vllm
@pytest.mark.fault(
    "A comparison of a fleet is cancelled (`scancel`) while it measures a block, beside another one on the same host",
    "nothing of it is left after SLURM's grace of 30 s; the other goes on and is done; the page names it; the "
    "next plain run resumes it alone, from its kept blocks",
)
def test_two_comparisons_on_vllm_one_cancelled_and_resumed(box: FleetBox, models: Path) -> None:
    for name in ("one", "two"):
        box.add(name, **on_vllm(models))
    box.begin()
    box.until(lambda: box.of("one") and box.of("two"), "both at once")
    box.until(lambda: box.in_mid_cell("one", 2), "in mid cell", 1200)  # two cores for four servers that compile
    number = box.job("one")
    assert number
    cancelled = time.monotonic()
    subprocess.run(["scancel", number], check=True)
    box.until(lambda: not box.of("one"), "ended", cluster.KILL_WAIT_S + 15)
    print(f"nothing left of `one` {time.monotonic() - cancelled:.1f} s after scancel")
    kept = box.blocks("one")
    assert box.of("two"), "the other goes on"
    printed = box.end(ok=False, seconds=1500)
    assert "quantbench: one is not done" in printed
    assert box.last_words("one").startswith("quantbench: interrupted; ")
    assert not box.done("one")
    assert box.done("two")
    box.assert_none_left()
    of_two = box.blocks("two")

    box.begin()
    box.end(ok=True, seconds=1500)
    assert kept.items() <= box.blocks("one").items(), "finished blocks are kept as they were"
    assert box.blocks("two") == of_two
    for name in ("one", "two"):
        assert_complete(box, name, models=2, blocks=2)
    assert box.idle()
    box.assert_none_left()


def assert_complete(box: FleetBox, name: str, models: int, blocks: int) -> None:
    rows = box.rows(name)
    assert len(rows) == models * 2
    assert len(box.blocks(name)) == len(rows) * blocks
    assert {row["failures"] for row in rows} == {"0"}
    # Fewer only where a guard has refused one: on a busy machine server and client stand still for half of a second.
    refused = {"stalled", "client_stalled"}
    assert all(int(row["blocks"]) == blocks or refused & {*row["reasons"].split(";")} for row in rows)
    assert all(float(row["throughput_tok_s"]) > 0 for row in rows)
    [verdict] = box.place(name).glob("results/*/comparison/verdict.json")
    assert {row.concurrency for row in read(verdict, Verdict).rows} == {1, 2}
    joined = list(csv.DictReader((box.path / "fleets" / box.fleet / "joined/fleet.csv").open()))
    assert len([row for row in joined if row["comparison"] == name]) == models * 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 in BF16 and INT8: as the demo makes them, or as they lie in $QUANTBENCH_SLURM_MODELS."""
    if not VLLM_PYTHON.exists():
        pytest.skip("no .venv-vllm: run `make setup`")
    if given := os.environ.get(MODELS):
        return Path(given)
    demo = Box.__new__(Box)
    demo.copy_project(tmp_path_factory.mktemp("demo") / "box")
    demo.profile = ["--config", "gpu=cpu"]
    demo.run("models/cpu/bf16/provenance.json", "models/cpu/int8/provenance.json")
    return demo.path / "models/cpu"


def kill(number: str) -> None:
    """All its processes at once, without a SIGTERM before."""
    cluster.kill_steps()


def run_out(number: str) -> None:
    """Its time is over: SIGTERM within a minute, as SLURM looks at limits that often."""
    subprocess.run(["scontrol", "update", f"JobId={number}", "TimeLimit=1"], check=True)


@pytest.mark.parametrize(
    ("how", "words", "block_s"),
    [
        pytest.param(
            kill,
            inner.KILLED,
            1.0,
            marks=pytest.mark.fault(
                "all processes of a comparison's job get SIGKILL at once in mid-cell (as for memory)",
                "nothing of it is left running; the next plain run measures the missing blocks only",
            ),
        ),
        pytest.param(
            run_out,
            "quantbench: interrupted; ",
            12.0,  # all blocks together must outlast the minute that SLURM takes to see it
            marks=pytest.mark.fault(
                "the time limit of a comparison's job is over in mid-cell (SLURM: SIGTERM, SIGKILL 30 s later)",
                "its servers stop within the 30 s and its last words say what is kept; the next plain run measures the "
                "missing blocks only",
            ),
        ),
    ],
)
def test_ended_by_the_scheduler(box: FleetBox, how: Callable[[str], None], words: str, block_s: float) -> None:
    box.add("one", **on_stand_ins(box.path))
    box.add("one", block={"min_seconds": block_s})
    box.begin()
    box.until(lambda: box.in_mid_cell("one", 2), "in mid cell")
    number = box.job("one")
    assert number
    how(number)
    box.until(lambda: box.job("one") != number, "ended by the scheduler", 150)
    box.end(ok=False)
    box.assert_none_left()
    kept = box.blocks("one")
    assert 2 <= len(kept) < 12
    assert box.last_words("one").startswith(words)
    assert not box.done("one")
    box.begin()
    box.end(ok=True)
    assert kept.items() <= box.blocks("one").items()
    assert_complete(box, "one", models=2, blocks=3)
    box.assert_none_left()


@pytest.mark.fault(
    "the node of a comparison is lost: slurmd and all that its steps have started end without a word",
    "servers and their supervisors end by themselves; the next plain run resumes it from its kept blocks",
)
def test_a_lost_node(box: FleetBox) -> None:
    box.add("one", **on_stand_ins(box.path))
    box.begin()
    box.until(lambda: box.in_mid_cell("one", 2), "in mid cell")
    kept = box.blocks("one")
    cluster.lose_node()
    assert processes.until(lambda: not box.of("one"), 60), box.of("one")
    assert cluster.until(lambda: "down" in cluster.node_state(), 90), cluster.node_state()
    cluster.start_node()
    box.end(ok=False)
    assert box.last_words("one") == inner.KILLED
    assert not box.done("one")
    box.begin()
    box.end(ok=True)
    assert kept.items() <= box.blocks("one").items()
    assert_complete(box, "one", models=2, blocks=3)
    box.assert_none_left()


@pytest.mark.fault(
    "one of three comparisons of a fleet on SLURM fails (its servers run out of memory)",
    "the two others are done; it alone is missing, with its remedy; mended, the next plain run runs it alone",
)
def test_one_of_three_fails(box: FleetBox) -> None:
    for name in ("one", "two"):
        box.add(name, **on_stand_ins(box.path))
    box.add("bad", **on_stand_ins(box.path, fail="CUDA out of memory"))
    box.begin()
    box.end(ok=False)
    assert [box.done(name) for name in ("one", "two", "bad")] == [True, True, False]
    assert "out of memory" in box.last_words("bad")
    before = box.blocks("one") | box.blocks("two")
    assert_complete(box, "one", models=2, blocks=3)
    box.add("bad", **on_stand_ins(box.path))
    box.begin()
    box.end(ok=True)
    assert before == box.blocks("one") | box.blocks("two")
    assert_complete(box, "bad", models=2, blocks=3)
    assert box.idle()
    box.assert_none_left()


@pytest.mark.fault(
    "others read what SLURM tells of a job (`scontrol show job`, its script, the queue) and all command lines of the "
    "node, while a fleet with keys (of its servers, of a judge) runs",
    "no key in any of it, nor in a file of the fleet; SLURM's own copy of a job's environment is its user's and root's",
)
def test_no_job_shows_a_key(box: FleetBox) -> None:
    box.shell, box.keys = keyed.KEYS, sorted(keyed.KEYS)
    with keyed.comparison(box.path) as config:
        box.add("one", **config)
        with keyed.Onlooker(cluster.told) as onlooker:
            box.begin()
            box.until(lambda: box.blocks("one"), "measuring")
            copies = keyed.files_with_key(cluster.HOME)
            box.end(ok=True)  # whoever lacks a key is refused
    assert not onlooker.leaks
    for words in ("fleet.smk", "srun", "quantbench.cli.snakemake", "JobId=", "StepId=", "#!/bin/"):
        assert onlooker.saw(words), words
    assert not keyed.files_with_key(box.path)
    assert keyed.asked_the_judge(box.place("one"))
    assert {path.name for path in copies} == {"environment"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in copies if path.exists())
