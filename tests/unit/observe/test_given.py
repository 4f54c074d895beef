"""A lane's device 0 is the first that the scheduler gave; claims and servers go by the real card."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from quantbench.engines.vllm import command
from quantbench.observe import given, gpu
from quantbench.records.server import ServerSettings, ServerSpec

UUIDS = ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (given.CUDA, *given._OF_SLURM):
        monkeypatch.delenv(name, raising=False)
    given._card.cache_clear()
    monkeypatch.setattr(gpu, "connect", lambda: None)


def shown(monkeypatch: pytest.MonkeyPatch, *uuids: str) -> None:
    """An NVML that shows these cards."""
    given._card.cache_clear()
    nvml: Any = SimpleNamespace(
        nvmlDeviceGetCount=lambda: len(uuids),
        nvmlDeviceGetHandleByIndex=lambda index: uuids[index],
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUUID=lambda handle: handle,
    )
    monkeypatch.setattr(gpu, "connect", lambda: nvml)
    monkeypatch.setattr(gpu, "disconnect", lambda: None)


@pytest.mark.parametrize(("variable", "value", "device", "real"), [
    (None, "", "1", "1"), ("CUDA_VISIBLE_DEVICES", "2,5", "0", "2"), ("CUDA_VISIBLE_DEVICES", "2, 5", "1", "5"),
    ("CUDA_VISIBLE_DEVICES", "GPU-bbbb,GPU-cccc", "1", "GPU-cccc"),
    ("CUDA_VISIBLE_DEVICES", "MIG-12/0/0", "0", "MIG-12/0/0"), ("CUDA_VISIBLE_DEVICES", "2", "GPU-aaaa", "GPU-aaaa"),
    ("CUDA_VISIBLE_DEVICES", "2", "cpu", "cpu"),
    ("SLURM_JOB_GPUS", "3,4", "1", "4"), ("SLURM_STEP_GPUS", "6", "0", "6"),
])  # fmt: skip
def test_a_lanes_index_counts_what_was_given(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, value: str, device: str, real: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, value)
    assert (given.real(device), given.fault(device)) == (real, "")


def test_a_job_that_is_shown_only_its_cards_counts_them_from_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    shown(monkeypatch, "GPU-dddd")
    assert given.real("0") == "0"
    shown(monkeypatch, *UUIDS, "GPU-dddd")
    assert given.real("0") == "3"


@pytest.mark.fault(
    "a lane names more GPUs than the scheduler gave to the job",
    "refused when the plan is made, with key, variable and how many there are",
)
@pytest.mark.parametrize(("value", "device", "count"), [
    ("3", "1", "1 GPU,"), ("", "0", "0 GPUs,"), ("NoDevFiles", "0", "0 GPUs,"), ("-1", "0", "0 GPUs,"),
    ("0,-1,2", "1", "1 GPU,"),
])  # fmt: skip
def test_a_device_that_is_not_given_is_said(
    monkeypatch: pytest.MonkeyPatch, value: str, device: str, count: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    said = given.fault(device)
    assert f"GPU {device} is not given to this run: CUDA_VISIBLE_DEVICES ('{value}') gives {count}" in said
    missing: dict[str, str] = {}
    assert gpu.handle_of(SimpleNamespace(), given.real(device), missing) is None
    assert missing == {"device": f"'{device} (not given)' is no GPU"}


def test_two_jobs_that_call_their_cards_0_hold_different_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is shown its own card only, as SLURM does with ConstrainDevices."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    shown(monkeypatch, "GPU-aaaa")
    first = given.cards(["0"])
    shown(monkeypatch, "GPU-bbbb")
    assert (first, given.cards(["0"])) == (("GPU-aaaa",), ("GPU-bbbb",))


def test_cards_of_cards_are_they_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    for names in (["0", "1"], ["cpu"], ["http://far:8000"], ["MIG-x"], ["5"]):
        assert given.cards(given.cards(names)) == given.cards(names)
    assert given.cards(["0", "1"]) == ("index-2", "index-0")
    shown(monkeypatch, *UUIDS)
    assert given.cards(["0", "1", "GPU-aaaa"]) == ("GPU-cccc", "GPU-aaaa")
    assert given.cards(given.cards(["0"])) == ("GPU-cccc",)


def test_the_server_gets_the_real_card_and_its_spec_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ServerSpec(model="m", source="x", devices=("0", "1"), settings=ServerSettings(tensor_parallel_size=2))
    before = spec.hash
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb,GPU-aaaa")
    assert command.command(spec, "restart")[1]["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb,GPU-aaaa"
    assert spec.hash == before
