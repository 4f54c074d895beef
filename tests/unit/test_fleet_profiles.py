"""Profiles and manifests of a fleet, held against the pinned executors; skipped where these are not installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from source import ROOT

PROFILES = ROOT / "profiles"
PINNED = (ROOT / "envs/fleet.txt").read_text()


def test_no_executor_is_part_of_the_pipelines_own_environment() -> None:
    pipeline = (ROOT / "envs/pipeline.txt").read_text()
    assert "snakemake-executor-plugin" not in pipeline
    shared = {name for name, _ in pairs(pipeline)}
    assert {pin for pin in pairs(PINNED) if pin[0] in shared} <= set(pairs(pipeline)), "one environment holds both"


def pairs(text: str) -> list[tuple[str, str]]:
    """Name and version of each pin."""
    return re.findall(r"^([\w-]+)==([^ \n]+)", text, re.M)


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_profile_keeps_going_and_has_options_that_its_executor_knows(name: str) -> None:
    profile = yaml.safe_load((PROFILES / name / "profile.yaml").read_text())
    assert profile["executor"] == name
    assert profile["keep-going"] is True
    assert f"snakemake-executor-plugin-{name}==" in PINNED
    plugin = pytest.importorskip(f"snakemake_executor_plugin_{name}")
    own = {key.removeprefix(f"{name}-").replace("-", "_") for key in profile if key.startswith(f"{name}-")}
    assert own <= set(plugin.ExecutorSettings.__dataclass_fields__)


def test_manifests_have_only_keys_that_kubernetes_knows() -> None:
    client = pytest.importorskip("kubernetes.client")
    manifests = list(yaml.safe_load_all((PROFILES / "kubernetes/fleet.yaml").read_text()))
    assert len(manifests) == 5
    for manifest in manifests:
        assert list(_unknown(client, manifest, f"V1{manifest['kind']}")) == []


def _unknown(client: Any, value: Any, kind: str) -> Iterator[str]:
    """Keys that a type of the API does not have, by the client's own types."""
    if part := re.fullmatch(r"list\[(.*)\]", kind):
        for item in value:
            yield from _unknown(client, item, part[1])
    elif not kind.startswith("dict(") and hasattr(client, kind):
        known = {key: name for name, key in getattr(client, kind).attribute_map.items()}
        for key, item in value.items():
            if key in known:
                yield from _unknown(client, item, getattr(client, kind).openapi_types[known[key]])
            else:
                yield f"{kind}.{key}"


def test_nothing_secret_is_in_the_container_and_it_runs_as_a_user() -> None:
    lines = (ROOT / "envs/Containerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert not any(re.search(r"TOKEN|KEY|SECRET|PASSWORD", line) for line in lines)
    assert not any(re.match(r"(ADD|COPY) .*(\.git|models|results|\. \.)", line) for line in lines)
