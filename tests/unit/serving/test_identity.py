"""A model that changes under its name is another model; a copy, and a machine without it, are not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from quantbench.engines.vllm import installed
from quantbench.records.server import Versions
from quantbench.serving import identity
from servers import changed, fake_spec


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installed, "_versions", lambda interpreter: {"vllm": "0.32.0"})
    made = fake_spec(tmp_path)
    weights = Path(made.source, "model.safetensors")
    weights.write_bytes(b"head" + bytes(20 * 2**20))
    return made


def weights(spec) -> Path:
    return Path(spec.source, "model.safetensors")


def change(path: Path, at: int, text: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(text)


@pytest.mark.parametrize("at", [0, 1000, 2**22 - 1, 2**22 + 10])
def test_other_weights_of_the_same_size_are_another_model(spec, at):
    before, times = identity.source_id(spec), weights(spec).stat()
    change(weights(spec), at, b"x")
    os.utime(weights(spec), ns=(times.st_atime_ns, times.st_mtime_ns))
    assert identity.source_id(spec) != before


def test_scaled_weights_are_another_model(spec):
    before = identity.source_id(spec)
    weights(spec).write_bytes(b"head" + b"\x01" * (20 * 2**20))
    assert identity.source_id(spec) != before


def test_a_copy_is_the_same_model_and_another_config_is_not(spec, tmp_path):
    copy = shutil.copytree(spec.source, tmp_path / "copy")
    assert identity.source_id(changed(spec, source=str(copy))) == identity.source_id(spec)
    (copy / "config.json").write_text('{"model_type": "other"}')
    assert identity.source_id(changed(spec, source=str(copy))) != identity.source_id(spec)


def test_what_cannot_be_told_here_is_as_it_was_there(spec, tmp_path, monkeypatch):
    ready = tmp_path / "ready.json"
    here = identity.planned(spec.as_dict(), ready, made_here=False)
    assert here == {"vllm": "0.32.0", "source_id": identity.source_id(spec)}
    ready.write_text(json.dumps({"model": "alpha", "identity": here}))
    shutil.rmtree(spec.source)
    monkeypatch.setattr(installed, "_versions", lambda interpreter: {})
    assert identity.planned(spec.as_dict(), ready, made_here=False) == here
    monkeypatch.setattr(installed, "_versions", lambda interpreter: {"vllm": "0.33.0"})
    assert identity.planned(spec.as_dict(), ready, made_here=False) == {**here, "vllm": "0.33.0"}


def test_what_is_made_here_and_what_is_elsewhere_have_no_id(spec, tmp_path):
    ready = tmp_path / "ready.json"
    ready.write_text(json.dumps({"model": "alpha", "identity": {"vllm": "0.32.0", "source_id": None}}))
    assert identity.planned(spec.as_dict(), ready, made_here=True)["source_id"] is None
    endpoint = changed(spec, endpoint="http://127.0.0.1:9")
    assert identity.planned(endpoint.as_dict(), ready, made_here=False) == {"vllm": None, "source_id": None}
    assert identity.source_id(endpoint) is None


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("#!/usr/bin/env python3", ("/usr/bin/env", "python3")),
        ("#!/opt/vllm/bin/python -s", ("/opt/vllm/bin/python", "-s")),
        ("#!/bin/sh", ()),
        ("\x7fELF", ()),
        ("#!/unclosed 'python", ()),
    ],
)
def test_the_python_of_a_script_is_the_one_in_its_first_line(tmp_path, first, words):
    program = tmp_path / "vllm"
    program.write_text(f"{first}\n")
    program.chmod(0o755)
    assert installed._interpreter([str(program)]) == words


def test_a_run_asks_once_what_is_installed(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\necho x >> {asked}\necho \'{{"vllm": "0.40.0", "torch": null, "python": "3.13"}}\'\n')
    python.chmod(0o755)
    spec = fake_spec(tmp_path, command=[str(python)])
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("QUANTBENCH_VERSIONS_")]:
            patch.delenv(name)
        for _ in range(2):
            installed._versions.cache_clear()  # as in another job of the run
            assert installed.installed(spec) == Versions(vllm="0.40.0", python="3.13")
        assert asked.read_text() == "x\n"
        for name in [name for name in os.environ if name.startswith("QUANTBENCH_VERSIONS_")]:
            patch.delenv(name)
