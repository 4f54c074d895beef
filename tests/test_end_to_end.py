"""The whole pipeline on real vLLM (CPU build), real weights and a really quantized copy; a reduced grid."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box, jobs
from ports import free_ports
from quantbench.config.schema import deep_merge
from quantbench.records.base import read
from quantbench.records.comparison import Verdict
from quantbench.records.quality import PlainPair, QualityDetails
from quantbench.records.server import Ready, Session
from quantbench.results import read_capacity
from source import VLLM_PYTHON

W8 = "int8_per_channel_weight_only"
pytestmark = [pytest.mark.vllm, pytest.mark.alone, pytest.mark.timeout(1200)]

SPEC_COLUMNS = (
    "gpu_name,model,workload,concurrency,max_tokens,p50_ttft_ms,p95_ttft_ms,p50_e2e_ms,p95_e2e_ms,throughput_tok_s,"
)


class RealBox(Box):
    """The toy model and its 8-bit copy on this machine's CPU; servers are real."""

    gpu = "cpu"
    timeout = 1100

    def __init__(self, path: Path) -> None:
        self.copy_project(path)
        self.profile = ["--configfile", "mine.yaml"]
        ports = free_ports(2)
        self.config = {}
        self.configure(
            gpu="cpu",
            vllm_python=str(VLLM_PYTHON),
            server={"command": [str(VLLM_PYTHON), "-m", "vllm.entrypoints.cli.main"]},
            models={
                "bf16": {"source": "demo", "grow": 1024, "port": ports[0]},
                "int8": {"quantize": {"from": "bf16", "scheme": "W8A8"}, "port": ports[1]},
            },
            workloads={
                "chat": {"concurrency": [1, 4], "max_tokens": [32]},
                "batch_summarize": {"concurrency": [4], "max_tokens": [48], "template": "Summarize: {document}"},
            },
            quality={"prompts": "config/prompts/quality_demo.jsonl"},
            primary={"concurrency": 4},
            aa_control=True,
            blocks=3,
            block={"min_seconds": 1.5, "min_requests_per_slot": 1},
            cost={"hourly_price": 0.1, "source": "test", "date": "2026-11-01"},
        )

    def configure(self, **changes: Any) -> None:
        self.config = deep_merge(self.config, changes)
        (self.path / "mine.yaml").write_text(json.dumps(self.config))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    if not VLLM_PYTHON.exists():
        pytest.fail("no .venv-vllm: run `make setup`")
    box = RealBox(tmp_path_factory.mktemp("real") / "box")
    try:
        box.run()
        measure_refused_again(box)
        yield box
    finally:
        box.clean_up()


def measure_refused_again(box: RealBox) -> None:
    """What notes.md tells to do: on a machine that others use as well, guards refuse a block now and then."""
    for _ in range(3):
        notes = box.file("report/notes.md").read_text()
        if not (lines := [line for line in notes.splitlines() if line.startswith("rm results/")]):
            return
        subprocess.run(["bash", "-ec", "\n".join(lines)], cwd=box.path, check=True)
        box.run()


def test_every_tuple_has_its_row_with_the_columns_of_the_spec(finished: RealBox) -> None:
    for model in ("bf16", "int8"):
        for cell in ("chat/c1_t32", "chat/c4_t32", "batch_summarize/c4_t48"):
            path = finished.file(f"cells/{model}/{cell}.csv")
            assert path.read_text().startswith(SPEC_COLUMNS)
            (row,) = read_capacity([path])
            assert row.valid, (model, cell, row.reasons)
            assert (row.values["failures"], row.blocks) == (0, 3)
            assert row.values["throughput_tok_s"] > 0
            assert row.values["tokens_out"] == row.max_tokens * row.values["n"], "ignore_eos: exactly max_tokens each"
        assert len(read_capacity([finished.file(f"capacity/chat_{model}.csv")])) == 2
        (batch,) = read_capacity([finished.file(f"capacity/batch_summarize_{model}.csv")])
        assert {"p50_latency_ms", "p95_latency_ms"} <= set(batch.values)


def test_the_server_record_says_what_was_served(finished: RealBox) -> None:
    bf16, int8 = (read(finished.file(f"servers/{model}/ready.json"), Ready) for model in ("bf16", "int8"))
    assert int8.quantization.verified
    assert "8" in str(int8.quantization.label)
    assert int8.quantization.kernel
    assert bf16.quantization.bits_per_weight == 16
    assert bf16.test_completion.tokens
    assert bf16.memory.kv_cache_tokens
    assert bf16.tokenizer.probe_sha256 == int8.tokenizer.probe_sha256
    assert finished.file("servers/bf16/serve.sh").stat().st_mode & 0o100
    for model in ("bf16", "int8"):
        assert read(finished.file(f"servers/{model}/session.json"), Session).memory_returned
    finished.assert_none_left()


def test_quality_and_verdict_are_of_both_models(finished: RealBox) -> None:
    pairs = read(finished.file("quality.json"), list[PlainPair])
    assert len(pairs) >= 15
    assert any("Paris" in pair.bf16_output for pair in pairs)
    assert read(finished.file("quality_details.json"), QualityDetails).variant == "int8"
    verdict = read(finished.file("comparison/verdict.json"), Verdict)
    (primary,) = [row for row in verdict.rows if row.primary and row.variant == "int8"]
    assert (primary.ci_low or 9) < (primary.ratio or 0) < (primary.ci_high or 0)
    assert primary.n_pairs == 3
    assert verdict.aa.present


def test_reports_are_written_and_hold_no_holes(finished: RealBox) -> None:
    for name in ("notes.md", "cost.md", "decision.md", "best_practices.md", "report.html"):
        text = finished.file(f"report/{name}").read_text()
        assert len(text) > 500, name
        for hole in (" nan", "None", "{{", "undefined"):
            assert hole not in text, f"{name} holds {hole!r}"
    notes = finished.file("report/notes.md").read_text()
    for section in ("Model & VRAM Baseline", "Chat Capacity", "Batch Capacity", "Quality Sanity Check"):
        assert section in notes


def test_a_second_run_has_nothing_to_do_and_a_price_remakes_only_costs_and_reports(finished: RealBox) -> None:
    assert "Nothing to be done" in finished.run()
    finished.configure(cost={"hourly_price": 7.5})
    made = jobs(finished.run())
    assert made, "a new price must remake the cost report"
    assert not set(made) & {"start_server", "measure_block", "summarize_tuple", "generate_answers", "stop_server"}
    assert "7.5" in finished.file("report/cost.md").read_text()


def test_a_variant_that_is_not_really_quantized_stops_before_anything_is_measured(finished: RealBox) -> None:
    claim = {"quantization": W8, "quantize_flag": W8, "bits": 8, "port": free_ports(1)[0]}
    finished.configure(models={"fake8": {"source": "models/cpu/bf16", **claim}}, select=["bf16", "int8", "fake8"])
    printed = finished.run("results/cpu/cells/fake8/chat/c1_t32.csv", ok=False)
    assert "fake8" in printed
    assert "remedy" in printed
    assert not finished.file("raw/fake8").exists()
    finished.assert_none_left()
