"""preview: the dry run says which models the host will bound, before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from quantbench import preview
from quantbench.config import settings
from quantbench.observe import gpu
from source import ROOT

SMALL, LARGE = "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-32B-Instruct"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "available", list)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def notes(profile: str, *sources: str, **over: Any) -> list[str]:
    names = ("bf16", "awq", "gptq_int8")
    models = {name: {"source": source} for name, source in zip(names, sources, strict=False)}
    plan = settings.load(ROOT, {"gpu": profile, "models": models, "select": list(names[: len(sources)]), **over})
    return list(preview.notes(plan))


@pytest.mark.fault(
    "A card so fast that a model's steps wait for the host",
    "a line in `snakemake -n` and `inspect`, with the arithmetic",
)
def test_a_model_too_small_for_its_card_is_said_before_anything_starts() -> None:
    [line] = notes("h200-141gb", SMALL, f"{SMALL}-AWQ")
    assert line.startswith("models.bf16: host-bound")
    assert "a quantized model cannot be faster there" in line
    assert "2 ms (an assumption" in line
    assert "at least 0.646 to 0.741 ms" in line, "from 1 to 128 in flight"


def test_a_variant_is_said_where_its_baseline_is_not_bound_so() -> None:
    [line] = notes("h200-141gb", "Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen2.5-14B-Instruct-AWQ")
    assert line.startswith("models.awq: host-bound at 1 and 8 in flight"), "others read KV cache for longer"
    assert "its gain is less than its bits suggest" in line


def test_a_model_that_fills_its_card_is_not_worth_a_line() -> None:
    assert notes("h200-141gb", LARGE) == []
    assert notes("l4-24gb", SMALL) == []


def test_what_is_not_known_is_passed_over() -> None:
    assert notes("h200-141gb", "nobody/knows") == []
    assert list(preview.notes(settings.load(ROOT, {"gpu": "cpu"}))) == []


def test_the_dry_run_prints_it(tmp_path: Path) -> None:
    folder, mine = tmp_path / "small", tmp_path / "my.yaml"
    folder.mkdir()
    shapes = settings.read_yaml(ROOT / "config/shapes.yaml")["shapes"]
    (folder / "config.json").write_text(json.dumps(shapes["Qwen2.5-1.5B"]))
    (folder / "tokenizer.json").write_text("{}")
    small = {"small": {"source": str(folder), "load_format": "dummy"}}
    mine.write_text(yaml.safe_dump({"models": small, "baseline": "small", "quality": {"prompts": None}}))
    line = ["-m", "snakemake", "-n", "--cores", "1", "--configfile", str(mine), "--config", "gpu=h200-141gb"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QUANTBENCH_")}
    done = subprocess.run([sys.executable, *line], cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("quantbench: models.small: host-bound") == 1
