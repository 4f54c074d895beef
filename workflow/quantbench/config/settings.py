"""Read the configuration from files: defaults, then the GPU's profile, then what the command line says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from quantbench.config import detect
from quantbench.config.configuration import Plan, make_plan, needed_files
from quantbench.config.schema import deep_merge
from quantbench.errors import QuantbenchError
from quantbench.observe import gpu
from quantbench.records.base import read
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.server import LaneRecord

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"


class _Loader(yaml.SafeLoader):
    """A key that stands twice in a mapping is a fault: plain YAML takes the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands here twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def require_project_dir(root: Path, folder: Path) -> None:
    """Raise QuantbenchError if the run's folder is not the project's, or `config/config.yaml` is not readable.

    Snakemake reads both next, and its own messages name neither line nor remedy.
    """
    if folder.resolve() != root.resolve():
        raise QuantbenchError(
            f"quantbench runs in its own folder {root}, not in {folder}",
            remedy=f"cd {root}; for results on another disk, make results/{{gpu}} a link",
        )
    read_yaml(root / "config" / "config.yaml")


def load(root: Path, overwrite: Mapping[str, Any], files: Iterable[Path] = ()) -> Plan:
    """Build the plan of this run.

    `overwrite` is what `--configfile` and `--config` say (`files` are the former, looked into for slips only); it wins
    over the profile `config/gpus/{gpu}.yaml`, which wins over `config/config.yaml`. With `gpu: auto` the profile is
    chosen by the GPU that NVML reports; one line on stderr says which and why. Raises QuantbenchError for anything
    that a user must fix.
    """
    for path in files:
        if path.suffix in (".yaml", ".yml"):
            read_yaml(path)
    defaults = read_yaml(root / "config" / "config.yaml")
    name = str(overwrite.get("gpu", defaults.get("gpu", "auto")))
    if name == "auto":
        choice = detect.choose_profile(gpu.available(), _matches(root))
        name = choice.profile
        print(f"quantbench: profile {name}: {choice.reason}", file=sys.stderr, flush=True)
    profile = root / "config" / "gpus" / f"{name}.yaml"
    layer = read_yaml(profile) if profile.exists() else {}
    if not layer and "models" not in overwrite and "models" not in defaults:
        known = ", ".join(sorted(path.stem for path in profile.parent.glob("*.yaml")))
        raise QuantbenchError(
            f"config: gpu '{name}' has no profile config/gpus/{name}.yaml",
            remedy=f"choose one of {known}, or copy the nearest and adapt it",
        )
    config = deep_merge(defaults, layer, overwrite, {"gpu": name})
    plan = make_plan(config, read_yaml(SCHEMA))
    for key, path in needed_files(plan):
        if not (root / path).is_file():
            what = "is not a file" if (root / path).exists() else "does not exist"
            raise QuantbenchError(f"config: {key} names {path}, which {what}", remedy="correct the path")
    return plan


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping, empty for an empty file; an error names the file and the line."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise QuantbenchError(
            f"config: {path} cannot be read: {error.strerror}",
            remedy="correct the path; commands run in the folder of the repository",
        ) from None
    except UnicodeDecodeError as error:
        raise QuantbenchError(f"config: {path} is not UTF-8: {error}", remedy="save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise QuantbenchError(
            f"config: {path} is not valid YAML: {' '.join(str(error).split())}",
            remedy="correct that line; texts with `: ` or `?` in them need quotes",
        ) from None
    if value is not None and not isinstance(value, dict):
        raise QuantbenchError(
            f"config: {path} must hold `key: value` lines, not a {type(value).__name__}",
            remedy="see config/config.yaml for an example",
        )
    return value or {}


def blocks_on_disk(results: Results, arm: str, cell: Cell) -> int:
    """Highest block number n whose b{n}.parquet is kept; blocks are evidence and stay part of their cell."""
    paths = results.below.glob(results.path("records", cell, arm=arm, block="*"))
    numbers = [int(m[1]) for path in paths if (m := re.fullmatch(r"b(\d+)\.parquet", path.name))]
    return max(numbers, default=0)


def lane_modes(plan: Plan, results: Results) -> dict[str, str]:
    """Mode per lane for the order of blocks: as configured, or `restart` where an earlier run had to fall back."""
    path = results.file("lanes")
    recorded = read(path, dict[str, LaneRecord]) if path.exists() else {}
    return {name: lane["mode"] for name, lane in plan.config["lanes"].items()} | {
        name: lane.mode for name, lane in recorded.items() if name in plan.config["lanes"]
    }


def _matches(root: Path) -> dict[str, Any]:
    return {path.stem: read_yaml(path).get("match", {}) for path in sorted((root / "config" / "gpus").glob("*.yaml"))}
