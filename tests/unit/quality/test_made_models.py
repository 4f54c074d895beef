from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from quantbench.errors import QuantbenchError
from quantbench.files import read_json
from quantbench.quality import made_models
from quantbench.records.server import Provenance
from servers import no_tensors

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
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["m"]


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
