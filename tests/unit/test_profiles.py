"""What the profiles of config/gpus say in their comments is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from quantbench.files import read_json
from quantbench.serving.memory import gpu_fit

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "config/gpus").glob("*.yaml"))
RTX_MIB = 16380


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
