"""Servers for tests: specs of stand-ins, a place to live in, blocks measured on them, and a violent end."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace
from ports import free_ports
from quantbench import block
from quantbench.engines.vllm import client, metrics
from quantbench.records.base import convert
from quantbench.records.block import BlockContext, BlockKnobs
from quantbench.records.request import RequestRecord
from quantbench.records.server import Claimed, Ready, ServerSettings, ServerSpec
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


KNOBS = BlockKnobs(
    protocol=1, workload="chat", style="interactive", concurrency=2, max_tokens=8, min_seconds=0.2, min_requests=4,
    warmup_requests=2, warmup_max_tokens=4, timeout_s=60.0, endpoint="completions", template=None,
)  # fmt: skip
"""A block of a fraction of a second."""


def write_prompts(name: str, texts: Iterable[str]) -> None:
    """`{name}.jsonl` in the working folder."""
    lines = [json.dumps({"id": str(number), "prompt": text}) for number, text in enumerate(texts)]
    Path(f"{name}.jsonl").write_text("\n".join(lines))


def started(spec: ServerSpec) -> Ready:
    """The server's record, as the rule start_server writes it."""
    with lane.lease(spec) as lease:
        assert lease.ready is not None
        return lease.ready


def measured(
    spec: ServerSpec, ready: Ready, prompts: str, number: int = 1, **knobs: Any
) -> tuple[list[RequestRecord], BlockContext]:
    """A block of the prompts in `{prompts}.jsonl`, not judged."""
    one = block.BlockSpec(spec.model, number, spec, replace(KNOBS, **knobs), "test", Path(f"{prompts}.jsonl"))
    return block.measure(one).parsed()


@contextmanager
def killed_in_a_block(ready: Ready) -> Iterator[None]:
    """Kill the server when the block that is measured within has its fourth answer."""
    leader = processes.pid_of(registry.leader(running(ready.model).key))

    def answered() -> float:
        return float(metrics.snapshot(client.metrics_page(ready.url)).requests_succeeded or 0)

    in_the_block = answered() + KNOBS.warmup_requests + 4

    def kill() -> None:
        if processes.until(lambda: answered() >= in_the_block, PATIENCE_S):
            processes.signal_all([leader], 9)

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    killer.join()


def left_over(state: Path) -> dict[int, str]:
    """{pid: command line} of the living processes that carry this state folder in their environment."""
    return {
        process.pid: " ".join(process.info["cmdline"] or ())
        for process in psutil.process_iter(["environ", "cmdline", "status"])
        if (process.info["environ"] or {}).get(owner.STATE) == str(state)
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and process.pid != os.getpid()
    }
