"""Specs of stand-in servers, and a place for them to live in: shared by the tests of lanes and servers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ports import free_ports
from quantbench.records.base import convert
from quantbench.records.server import Claimed, ServerSettings, ServerSpec
from quantbench.records.serving import State
from quantbench.serving import lane, owner, processes, registry

FAKE = Path(__file__).parent / "fake_vllm.py"
PATIENCE_S = 60.0
"""For what takes a fraction of a second: a busy machine stalls any process for seconds."""


@contextmanager
def own_home(folder: Path, patch: pytest.MonkeyPatch, records: str | None = None) -> Iterator[Path]:
    """An own state folder and working folder, the servers' folders below `records`; what is left is swept, and gone."""
    state = folder / "state"
    patch.chdir(folder)
    patch.setenv(owner.STATE, str(state))
    for name in (owner.OWNER, owner.DEVICES, owner.SERVERS):
        patch.delenv(name, raising=False)
    if records:
        patch.setenv(owner.SERVERS, records)
    yield folder
    lane.sweep("end of the test")
    assert processes.until(lambda: not left_over(state), PATIENCE_S), left_over(state)


def no_tensors(size: int) -> bytes:
    """A valid safetensors file of `size` bytes without tensors: all of it is header."""
    return (size - 8).to_bytes(8, "little") + b"{}".ljust(size - 8)


def changed(spec: ServerSpec, **changes: Any) -> ServerSpec:
    """The spec with other values of its keys, or of its settings' keys."""
    values = spec.as_dict()
    values["settings"] |= {key: changes.pop(key) for key in list(changes) if key in values["settings"]}
    return convert(values | changes, ServerSpec)


def fake_spec(folder: Path | None, model: str = "alpha", **changes: Any) -> ServerSpec:
    """A spec for tests/fake_vllm.py; `folder` gets its source. `changes` as of `changed`."""
    source = (folder or Path()) / "models" / model
    if folder:
        source.mkdir(parents=True, exist_ok=True)
        (source / "config.json").write_text(json.dumps({"model_type": "fake"}))
        (source / "model.safetensors").write_bytes(no_tensors(64))
    settings = ServerSettings(
        command=(sys.executable, str(FAKE)), max_model_len=1024, gpu_memory_utilization=0.9, kv_cache_gib=0.125,
        enforce_eager=True, threads=1, start_timeout_s=60,
    )  # fmt: skip
    spec = ServerSpec(
        model=model, lane="cpu0", devices=("cpu",), port=free_ports(1)[0], source=str(source), served_name=model,
        platform="cpu", claimed=Claimed(bits=16.0), settings=settings,
    )  # fmt: skip
    return changed(spec, **changes)


def gpu_spec(folder: Path, model: str = "alpha", **changes: Any) -> ServerSpec:
    """The same on a pretended GPU: the stand-in takes the device's memory while it is awake."""
    env = {"FAKE_GPU_DIR": str(folder / "gpu"), **changes.pop("env", {})}
    return fake_spec(folder, model, **{"platform": "cuda", "lane": "gpu0", "devices": ["0"], **changes}, env=env)


def running(model: str) -> State:
    """The state of a model's server."""
    return next(state for state in registry.servers() if state.spec.model == model)


def behave(folder: Path, **rules: Any) -> dict[str, str]:
    """Write a control file and return the environment that points a stand-in to it."""
    path = folder / "behaviour.json"
    path.write_text(json.dumps(rules))
    return {"FAKE_VLLM_CONTROL": str(path)}


def left_over(state_dir: Path) -> list[str]:
    """Processes that belong to the servers of a state folder (their supervisors included)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environ = (entry / "environ").read_bytes()
            ours = f"QUANTBENCH_STATE_DIR={state_dir}".encode() in environ.split(b"\0")
            if ours and int(entry.name) != os.getpid() and processes.alive(processes.token(int(entry.name))):
                found.append(f"{entry.name} {(entry / 'cmdline').read_text()[:120]}")
        except (OSError, ValueError):
            continue
    return found
