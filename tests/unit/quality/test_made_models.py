from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from gguf_file import tiny_llama
from msgspec.structs import replace
from quantbench.config import model_plan, settings
from quantbench.config.configuration import Plan
from quantbench.errors import QuantbenchError
from quantbench.files import read_json
from quantbench.quality import made_models
from quantbench.records.server import Provenance, Unpacked
from servers import no_tensors
from source import ROOT

FACTS = Provenance(model="m", source="Org/Model", quantize={"scheme": "W8A8"})
MAKES = """
import pathlib, sys
out = pathlib.Path(sys.argv[-1])
out.mkdir()
(out / "config.json").write_text('{"model_type": "qwen2"}')
(out / "model.safetensors").write_bytes(b"weights")
print("made")
"""


def program(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "maker.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_a_folder_appears_whole_with_its_record(tmp_path: Path) -> None:
    marker = tmp_path / "models/m/provenance.json"
    (marker.parent).mkdir(parents=True)
    (marker.parent / "stale").write_text("from before")
    made_models.build(marker, program(tmp_path, MAKES), tmp_path / "log", FACTS)
    record = read_json(marker)
    assert record["quantize"] == {"scheme": "W8A8"}
    assert record["weights_bytes"] == 7
    assert set(record["sha256"]) == {"model.safetensors"}
    assert sorted(p.name for p in marker.parent.iterdir()) == ["config.json", "model.safetensors", "provenance.json"]
    assert "made" in (tmp_path / "log").read_text()
    with pytest.raises(QuantbenchError, match="nothing was quantized"):
        made_models.require_quantized(marker.parent)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.exit('group size 100 does not divide 512')", "group size 100"),
        ("import pathlib, sys; pathlib.Path(sys.argv[-1]).mkdir()", "left no weights"),
    ],
)
def test_a_failure_keeps_the_old_folder(tmp_path: Path, text: str, words: str) -> None:
    marker = tmp_path / "models/m/provenance.json"
    made_models.build(marker, program(tmp_path, MAKES), tmp_path / "log", FACTS)
    with pytest.raises(QuantbenchError, match=words) as error:
        made_models.build(marker, program(tmp_path, text), tmp_path / "log", FACTS)
    assert "log" in str(error.value)
    assert "no weights" in words or "correct models.m (quantize.group_size" in error.value.remedy
    assert marker.exists()
    assert {p.name for p in (tmp_path / "models").iterdir()} == {"m", ".m.made"}, "the folder and its lock"


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match="absent-python does not exist"):
        made_models.build(tmp_path / "m/provenance.json", ["absent-python", "x.py"], tmp_path / "log", FACTS)


@pytest.mark.fault(
    "vllm_python or llmcompressor_python is a folder, not executable, or a script without its interpreter",
    "the message and the log say so, with both keys; the old model folder stays",
)
@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("#!/gone/python\n", 0o755, "names /gone/python in its first line, which does not exist here"),
        ("#!/bin/sh\n", 0o644, "is not executable"),
        ("no program", 0o755, "is neither a program of this machine nor a script"),
        (None, 0, "is a folder"),
    ],
)
def test_an_interpreter_that_cannot_be_started_is_named(
    tmp_path: Path, text: str | None, mode: int, words: str
) -> None:
    python = tmp_path / "python"
    if text is None:
        python.mkdir()
    else:
        python.write_text(text)
        python.chmod(mode)
    with pytest.raises(QuantbenchError, match=words) as error:
        made_models.build(tmp_path / "m/provenance.json", [str(python), "x.py"], tmp_path / "log", FACTS)
    assert "vllm_python" in error.value.remedy
    assert words in (tmp_path / "log").read_text()


def test_a_hub_model_that_is_not_cached_comes_with_its_command(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(QuantbenchError, match="hf download Org/Model"):
        made_models.find("base", "Org/Model")


def test_a_cached_hub_model_is_found(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--Org--Model/snapshots/abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--Org--Model/refs").mkdir()
    (tmp_path / "models--Org--Model/refs/main").write_text("abc")
    (snapshot / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (snapshot / "model.safetensors").write_bytes(no_tensors(64))
    assert made_models.find("base", "Org/Model") == snapshot


def made_with(tmp_path: Path, size: int) -> list[str]:
    """A program that leaves weights of so many bytes."""
    return program(tmp_path, MAKES.replace('b"weights"', f"b'w' * {size}"))


def test_a_folder_that_was_made_so_of_the_same_gets_its_record_again(tmp_path: Path) -> None:
    marker, made = tmp_path / "models/m/provenance.json", replace(FACTS, inputs={"program": "1a"})
    made_models.build(marker, made_with(tmp_path, 7), tmp_path / "log", made)
    before = marker.read_bytes()
    made_models.keep_record(marker)
    marker.unlink()  # as snakemake does before the job
    made_models.build(marker, made_with(tmp_path, 8), tmp_path / "log", made)
    assert marker.read_bytes() == before
    for other in (replace(made, inputs={"program": "2b"}), replace(made, quantize={"scheme": "W4A16"})):
        made_models.build(marker, made_with(tmp_path, 8), tmp_path / "log", other)
        assert read_json(marker)["weights_bytes"] == 8
        made_models.build(marker, made_with(tmp_path, 7), tmp_path / "log", made)
    (marker.parent / "model.safetensors").write_bytes(b"seven b")
    made_models.build(marker, made_with(tmp_path, 8), tmp_path / "log", made)
    assert read_json(marker)["weights_bytes"] == 8, "weights that are not as the record says are made anew"


def test_the_record_comes_back_where_the_folder_was_not_replaced(tmp_path: Path) -> None:
    marker = tmp_path / "models/m/provenance.json"
    made_models.keep_record(marker)  # nothing is there yet
    made_models.build(marker, program(tmp_path, MAKES), tmp_path / "log", FACTS)
    before = marker.read_bytes()
    made_models.keep_record(marker)
    marker.unlink()
    assert made_models.recorded(marker.parent), "also while the job is at work"
    with pytest.raises(QuantbenchError):
        made_models.build(marker, program(tmp_path, "import sys; sys.exit('no')"), tmp_path / "log", FACTS)
    made_models.put_back(marker)
    assert marker.read_bytes() == before
    made_models.keep_record(marker)
    made_models.put_back(marker)
    assert sorted(p.name for p in marker.parent.iterdir()) == ["config.json", "model.safetensors", "provenance.json"]
    (marker.parent / "model.safetensors").unlink()
    assert made_models.recorded(marker.parent) is None, "without its weights a record is none"


def test_a_model_is_as_the_plan_makes_it_if_recipe_and_inputs_are_the_same(tmp_path: Path) -> None:
    for part in ("config", "data", "workflow"):
        (tmp_path / part).symlink_to(ROOT / part)

    def plan(grow: int = 1536, group_size: int = 128) -> Plan:
        recipe = {"from": "bf16", "scheme": "W4A16", "group_size": group_size}
        models = {"bf16": {"source": "demo", "grow": grow}, "int4": {"quantize": recipe}}
        return settings.load(ROOT, {"gpu": "cpu", "models": models})

    def states(plan: Plan) -> list[str]:
        return [made_models.state(plan, name, tmp_path) for name in ("bf16", "int4")]

    assert states(plan()) == ["missing", "missing"]
    for name in ("bf16", "int4"):
        marker = tmp_path / model_plan.record(plan(), name)
        made_models.build(marker, program(tmp_path, MAKES), tmp_path / "log", made_models.facts(plan(), name, tmp_path))
    assert states(plan()) == ["fits", "fits"]
    assert states(plan(group_size=64)) == ["fits", "other"]
    assert states(plan(grow=3072)) == ["other", "other"], "what is quantized from another model is another model"
    (tmp_path / "workflow").unlink()
    shutil.copytree(ROOT / "workflow/quantizers", tmp_path / "workflow/quantizers")
    assert states(plan()) == ["fits", "fits"], "a copy is the same program, and what is not here is not compared"
    (tmp_path / "workflow/quantizers/rtn.py").write_text("# another")
    assert states(plan()) == ["fits", "other"]


def test_an_unpacked_model_is_as_the_plan_makes_it_if_file_and_package_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    (tmp_path / "a.gguf").write_bytes(tiny_llama())
    kept = Unpacked(file="a.gguf", file_sha256="1" * 64, type="Q4_1", bits_per_weight=5.0, wheel_sha256="2" * 64)

    def plan(**model: object) -> Plan:
        return settings.load(ROOT, {"gpu": "cpu", "select": ["bf16"], "models": {"bf16": model}})

    def state(**model: object) -> str:
        return made_models.state(plan(**model), "bf16", tmp_path)

    own, package = {"source": "a.gguf", "unpack": True}, {"source": "pypi:x==1"}
    assert state(**own) == state(**package) == "missing"
    for model in (own, package):
        facts = replace(made_models.facts(plan(**model), "bf16", tmp_path), unpacked=kept)
        assert model_plan.UNPACKER in facts.inputs
        marker = tmp_path / plan(**model).source("bf16") / made_models.MARKER
        made_models.build(marker, program(tmp_path, MAKES), tmp_path / "log", facts)
        assert state(**model) == "fits"
    assert state(**package, sha256="2" * 64) == "fits"
    assert state(**package, sha256="3" * 64) == "other"
    assert state(**package | {"source": "pypi:x==2"}) == "other"
    assert state(**own) == "other"
    made_models.build(marker, program(tmp_path, MAKES), tmp_path / "log",
                      replace(made_models.facts(plan(**own), "bf16", tmp_path), unpacked=kept))  # fmt: skip
    assert state(**own) == "fits"
    (tmp_path / "a.gguf").write_bytes(tiny_llama()[:-1] + b"x")
    assert state(**own) == "other"
