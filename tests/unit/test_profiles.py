"""What the profiles of config/gpus say in their comments is true."""

from __future__ import annotations

import datetime
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import convert
from quantbench.config import settings
from quantbench.config.configuration import Plan
from quantbench.engines.vllm.formats import claim_of
from quantbench.engines.vllm.inspection import Gpu, Inspection, Subject, inspect
from quantbench.engines.vllm.layers import model_of
from quantbench.engines.vllm.quantization import claim_mismatch
from quantbench.files import read_json
from quantbench.observe.cards import CARDS
from quantbench.records.server import ServerSpec
from quantbench.serving.memory import gpu_fit

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "config/gpus").glob("*.yaml"))
RTX_MIB = 16380
CARD = {card.key: card for card in CARDS}
GPUS = [path.stem for path in PROFILES if path.stem != "cpu"]
SHAPES = yaml.safe_load((ROOT / "config/shapes.yaml").read_text())
CHARACTERS_PER_TOKEN = 3
"""Fewer than any of these tokenizers has for English, so that lengths are not underestimated."""


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_files_that_a_profile_names_exist(path: Path) -> None:
    for named in re.findall(r"\b(?:docs|config|data)/[\w./-]*\w", path.read_text()):
        assert (ROOT / named).exists(), named
    assert yaml.safe_load(path.read_text())["gpu"] == path.stem


def test_two_servers_fit_on_sixteen_gigabytes_and_a_third_needs_the_smaller_share() -> None:
    """The table of docs/decisions.md, from the records of the kept GPU run."""
    share = yaml.safe_load((ROOT / "config/gpus/rtx2000-ada-16gb.yaml").read_text())["server"]["gpu_memory_utilization"]
    kept = ROOT / "docs/reference/h100/servers"
    vram = {model: read_json(kept / model / "ready.json")["vram"] for model in ("bf16", "awq", "gptq", "fp8")}
    # The next server starts when those before it sleep: what is used then is what they keep.
    two, three = (RTX_MIB - vram[model]["before_mib"] for model in ("awq", "gptq"))
    beyond = [entry["delta_mib"] - int(0.8 * entry["total_mib"]) for entry in vram.values()]
    assert gpu_fit(two, RTX_MIB, share).fits
    assert two >= share * RTX_MIB + max(beyond), "awake beside one sleeper"
    assert gpu_fit(three, RTX_MIB, share).fits, "the check alone does not see it"
    assert three < share * RTX_MIB + min(beyond), "awake beside two sleepers it is too much"
    assert three >= 0.70 * RTX_MIB + max(beyond)
    text = (ROOT / "docs/decisions.md").read_text().replace("\N{THIN SPACE}", " ").replace("\xa0", " ")
    for figure in (two, three, share * RTX_MIB, 0.70 * RTX_MIB, min(beyond), max(beyond)):
        assert f"{figure:,.0f}".replace(",", " ") in text, figure


@cache
def plan(profile: str) -> Plan:
    return settings.load(ROOT, {"gpu": profile})


def shape(source: str) -> dict[str, Any]:
    """The published config.json of a hub id, as far as it is kept."""
    name, *quantization = SHAPES["checkpoints"][source]
    stated = {"quantization_config": SHAPES["quantizations"][quantization[0]]} if quantization else {}
    return {**SHAPES["shapes"][name], **stated}


def inspected(profile: str, model: str, length: int | None = None) -> Inspection:
    spec = convert(plan(profile).server_spec(model), ServerSpec)
    return inspect(Subject(spec, "", "shape", shape(spec.source), None), Gpu.of(CARD[profile]), length)


def longest(workload: dict[str, Any]) -> int:
    """Tokens of the longest request of a workload, estimated, its answer included."""
    lines = [json.loads(line) for line in (ROOT / workload["prompts"]).read_text().splitlines()]
    text = max(len(str(line.get("text") or line.get("prompt") or line.get("messages"))) for line in lines)
    return math.ceil((text + len(workload["template"] or "")) / CHARACTERS_PER_TOKEN) + max(workload["max_tokens"])


ARMS = [(profile, model) for profile in GPUS for model in plan(profile).models]


@pytest.mark.parametrize(("profile", "model"), ARMS)
def test_every_arm_fits_its_card_with_the_workloads_of_its_grid(profile: str, model: str) -> None:
    """Each point of the grid runs without waiting for KV cache, and the shared limit of length is a start's, too."""
    for workload in plan(profile).config["workloads"].values():
        found = inspected(profile, model, longest(workload))
        assert found.fit
        assert found.fit.concurrency is not None
        assert found.fit.concurrency >= 1.2 * max(workload["concurrency"]), "a fifth more, as the reserve is estimated"
        assert max(workload["concurrency"]) <= found.max_num_seqs
        assert found.warnings == [], "it fits, it starts, and the card is not too fast for it"


@pytest.mark.parametrize(("profile", "model"), ARMS)
def test_every_arm_has_its_kernels_and_is_what_the_profile_says(profile: str, model: str) -> None:
    assert [kernel.outcome for kernel in inspected(profile, model).kernels] == ["native"]
    source = plan(profile).source(model)
    settings_of = plan(profile).server_spec(model)["settings"]
    claim = claim_of(shape(source), settings_of["quantization"])
    assert claim_mismatch(plan(profile).claim(model), plan(profile).bits(model), claim) is None


@pytest.mark.parametrize("profile", GPUS)
def test_all_servers_of_a_card_stay_on_it_asleep_but_one(profile: str) -> None:
    """With what the kept run says of sleepers and of memory beside the share, as for the two of the RTX 2000."""
    kept = ROOT / "docs/reference/h100/servers"
    vram = [read_json(kept / name / "ready.json")["vram"] for name in ("bf16", "awq", "gptq", "fp8")]
    share, total = plan(profile).config["server"]["gpu_memory_utilization"], CARD[profile].memory_mib
    beyond = max(entry["delta_mib"] - int(0.8 * entry["total_mib"]) for entry in vram)
    free = total - vram[len(plan(profile).models) - 1]["before_mib"]
    assert free >= share * total + beyond


def test_shapes_have_the_parameters_that_their_names_say() -> None:
    billions = {"Qwen2.5-1.5B": 1.544, "Qwen2.5-7B": 7.616, "Qwen2.5-14B": 14.770, "Qwen2.5-32B": 32.764,
                "Qwen3-32B": 32.762, "Llama-3.3-70B": 70.554}  # fmt: skip
    assert set(billions) == set(SHAPES["shapes"])
    for name, config in SHAPES["shapes"].items():
        model = model_of(config, None, None)
        assert model
        assert (model.weights + model.rest) / 1e9 == pytest.approx(billions[name], abs=0.001), name
    named = {plan(profile).source(model) for profile, model in ARMS}
    assert named <= set(SHAPES["checkpoints"]), "`inspect` knows each before it is fetched"
    assert {entry[0] for entry in SHAPES["checkpoints"].values()} == set(SHAPES["shapes"])


@pytest.mark.parametrize("profile", GPUS)
def test_prices_are_dated_quotes_and_ids_say_where_they_were_seen(profile: str) -> None:
    text = (ROOT / f"config/gpus/{profile}.yaml").read_text()
    cost = plan(profile).config["cost"]
    if profile != "rtx2000-ada-16gb":  # kept as it is; its price says that it is undated
        assert cost["source"]
        assert datetime.date(2026, 1, 1) < datetime.date.fromisoformat(cost["date"])
    if "RedHatAI/" in text and profile != "h200-141gb":
        assert "# Seen: " in text
