"""detect: the profile for this machine's GPU, or words that say how to write one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from quantbench.config import detect
from quantbench.errors import QuantbenchError

PROFILES = {
    path.stem: (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("match") or {}
    for path in (Path(__file__).parents[2] / "config" / "gpus").glob("*.yaml")
}


def card(name: str, gib: float) -> dict[str, Any]:
    return {"name": name, "total_mib": round(gib * 1024), "driver": "580.95.05"}


@pytest.mark.parametrize(  # names and sizes as NVML gives them
    ("name", "mib", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, "h100-80gb"),
        ("NVIDIA H100 PCIe", 81559, "h100-80gb"),
        ("NVIDIA A100-SXM4-80GB", 81920, "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", 81920, "a100-80gb"),
        ("NVIDIA L4", 23034, "l4-24gb"),
        ("NVIDIA RTX 2000 Ada Generation", 16380, "rtx2000-ada-16gb"),
        ("NVIDIA GeForce RTX 4090", 24564, "rtx4090-24gb"),
        ("NVIDIA GeForce RTX 4090 D", 24564, "rtx4090-24gb"),
        ("NVIDIA L40S", 46068, "l40s-48gb"),
        ("NVIDIA H200", 143771, "h200-141gb"),
        ("NVIDIA H200 NVL", 143771, "h200-141gb"),
        ("NVIDIA B200", 183359, "b200-180gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "rtx-pro-6000-96gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, "rtx-pro-6000-96gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887, "rtx-pro-6000-96gb"),
    ],
)
def test_shipped_profiles_match_their_cards(name: str, mib: int, profile: str) -> None:
    choice = detect.choose_profile([card(name, mib / 1024)], PROFILES)
    assert choice.profile == profile
    assert name in choice.reason
    assert "\n" not in choice.reason


@pytest.mark.parametrize(("name", "gib", "nearest"), [
    ("NVIDIA L40", 45, "l40s-48gb.yaml"), ("NVIDIA A100-SXM4-40GB", 40, ""), ("NVIDIA H100 NVL", 94, ""),
    ("NVIDIA GB200", 185, "b200-180gb.yaml"), ("NVIDIA RTX 6000 Ada Generation", 48, ""),
    ("NVIDIA GeForce RTX 3090", 23.9, ""), ("NVIDIA GeForce RTX 4090", 48, ""), ("NVIDIA B300 SXM6 AC", 268, ""),
    ("NVIDIA GH200 144G HBM3e", 141, "h200-141gb.yaml"), ("NVIDIA H200 NVL", 100, ""),
])  # fmt: skip
def test_an_unknown_card_is_an_error_that_names_it_and_the_profile_nearest_in_memory(
    name: str, gib: float, nearest: str
) -> None:
    with pytest.raises(QuantbenchError) as caught:
        detect.choose_profile([card(name, gib)], PROFILES)
    assert name in caught.value.what
    assert f"copy config/gpus/{nearest}" in caught.value.remedy
    assert name in caught.value.remedy


def test_no_gpu_is_the_cpu_and_the_first_of_several_counts() -> None:
    assert detect.choose_profile([], PROFILES) == detect.Choice("cpu", "NVML shows no GPU")
    choice = detect.choose_profile([card("NVIDIA L4", 22.5), card("NVIDIA H100 80GB HBM3", 79.6)], PROFILES)
    assert choice.profile == "l4-24gb"
    assert "first of 2 GPUs" in choice.reason


def test_the_longer_name_wins_and_a_tie_is_an_error() -> None:
    profiles: dict[str, Any] = {"any": {"name": ["nvidia"]}, "exact": {"name": ["nvidia l4"]}, "none": {}}
    assert detect.choose_profile([card("NVIDIA L4", 22.5)], profiles).profile == "exact"
    profiles["other"] = {"name": ["NVIDIA L4"], "memory_gib": [20, 30]}
    with pytest.raises(QuantbenchError, match="exact, other match"):
        detect.choose_profile([card("NVIDIA L4", 22.5)], profiles)
    unknown = {"name": "NVIDIA L4", "total_mib": None, "driver": None}
    with pytest.raises(QuantbenchError, match="memory unknown"):  # it matches no range
        detect.choose_profile([unknown], PROFILES)
