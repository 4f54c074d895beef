"""The shipped weights are those that the shipped script makes, and they answer the demo prompts.

Asserted exactly: the files have the hashes of made.json; the shipped model passes at least 28 of its 30 prompts; a
model trained anew has the same tokenizer, byte for byte, and, on the CPU and with the versions named in made.json, the
same weights, byte for byte. On another CPU or version rounding differs, so there the new weights must have the same
names and shapes and pass at least 26 prompts.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from quantbench.observe import checkpoint
from quantbench.quality import code_check, prompt_set
from quantbench.quality.checks import run_checks
from quantbench.quality.made_models import sha256
from quantbench.quality.score import passed

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "data/demo-model"
PROMPTS = ROOT / "config/prompts/quality_demo.jsonl"
PYTHON = ROOT / ".venv-vllm/bin/python"
MADE = json.loads((SHIPPED / "made.json").read_text(encoding="utf-8"))
needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="the vLLM environment is not set up"),
]


def run(module: str, *argv: object) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "HF_HUB_OFFLINE": "1"}
    command = [str(PYTHON), "-m", module, *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def prompts_passed(model: Path) -> list[str]:
    prompts = prompt_set.parse(PROMPTS.read_text(encoding="utf-8"), PROMPTS.name)
    outputs = {a["id"]: a["output"] for a in map(json.loads, run("demo.answer", model, PROMPTS).splitlines())}
    return [p["id"] for p in prompts if passed(run_checks(outputs[p["id"]], p["checks"], code_check.run_python))]


def here() -> dict[str, object]:
    """What decides how arithmetic is rounded, in the form of made.json."""
    lines = dict(
        (part.strip() for part in line.split(":", 1))
        for line in reversed(Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines())
        if ":" in line
    )
    cpu = {"vendor": lines["vendor_id"], "family": int(lines["cpu family"]), "model": int(lines["model"])}
    cpu["vectors"] = sorted(flag for flag in lines["flags"].split() if flag.startswith(("avx", "amx", "fma")))
    (site,) = (ROOT / ".venv-vllm/lib").glob("python3*/site-packages")
    found = {d.name: d.version for d in importlib.metadata.distributions(path=[str(site)])}
    return {"cpu": cpu, **{name: found[name] for name in ("torch", "transformers", "tokenizers")}}


def test_the_shipped_files_are_those_that_were_made() -> None:
    assert {name: sha256(SHIPPED / name) for name in MADE["sha256"]} == MADE["sha256"]


@pytest.mark.timeout(600)
class TestWithTorch:
    pytestmark = needs_vllm

    def test_the_shipped_model_answers_its_prompts(self) -> None:
        assert len(prompts_passed(SHIPPED)) >= 28

    @pytest.mark.timeout(1800)
    def test_the_script_makes_the_shipped_model(self, tmp_path: Path) -> None:
        print(run("demo.train", tmp_path / "again"), file=sys.stderr)
        assert sha256(tmp_path / "again/tokenizer.json") == MADE["sha256"]["tokenizer.json"]
        assert checkpoint.tensors(tmp_path / "again") == checkpoint.tensors(SHIPPED)
        if here() == {key: MADE[key] for key in ("cpu", "torch", "transformers", "tokenizers")}:
            assert sha256(tmp_path / "again/model.safetensors") == MADE["sha256"]["model.safetensors"]
        else:
            assert len(prompts_passed(tmp_path / "again")) >= 26
