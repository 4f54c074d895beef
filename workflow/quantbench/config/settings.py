"""Read the configuration from files: defaults, then the GPU's profile, then what the command line says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from quantbench.config import detect, layers, schema
from quantbench.config.configuration import Plan, make_plan, needed_files
from quantbench.config.layers import Layer
from quantbench.errors import QuantbenchError
from quantbench.observe import gpu
from quantbench.records.base import read
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.server import LaneRecord

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"

_PATHS = (
    ("models", "*", "source"),
    ("models", "*", "quantize", "calibration", "file"),
    ("workloads", "*", "prompts"),
    ("quality", "prompts"),
    ("quality", "suites", "*", "items"),
)


class _Twice(yaml.constructor.ConstructorError):
    """A key that stands twice in a mapping."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A key that stands twice in a mapping is a fault: plain YAML takes the last without a word.

    libyaml's parser where PyYAML was built with it: a tenth of the time, and a fleet reads four files per comparison.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                raise _Twice(None, None, f"'{key.value}' stands here twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        values: dict[Any, Any] = super().construct_mapping(node, deep)
        return values


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


def load(root: Path, values: Mapping[str, Any], files: Iterable[Path] = ()) -> Plan:
    """Build the plan of this run.

    `values` are those of `--config`, `files` those of `--configfile`, in their order: they win over the profile
    `config/gpus/{gpu}.yaml`, which wins over `config/config.yaml`; a file of config/gpus/ among `files` is the profile.
    `layers` has the rule for models of one's own. With `gpu: auto` the profile is chosen by the GPU that NVML reports;
    one line on stderr says which and why. Raises QuantbenchError for anything that a user must fix.
    """
    config_schema, folder = read_yaml(SCHEMA), root / "config" / "gpus"
    defaults = Layer("config/config.yaml", read_yaml(root / "config" / "config.yaml"))
    read = [(path, Layer(_shown(path, root), read_yaml(path), given=True)) for path in files]
    profiles = [path for path, _ in read if path.resolve().parent == folder.resolve()]
    given = [layer for path, layer in read if path not in profiles]
    given += [Layer("--config", values, given=True)] if values else []
    own = layers.has_own_models(given) or layers.has_own_models([defaults, *given])
    asked = [defaults, *(layer for path, layer in read if path in profiles), *given]
    name = _name(str(layers.merged(asked).get("gpu") or "auto"), config_schema)
    path = profiles[-1] if profiles else None
    if name == "auto":
        name, path = _detected(root, own)
    path = path or folder / f"{name}.yaml"
    profile = Layer(_shown(path, root), read_yaml(path)) if path.exists() else Layer(_shown(path, root), {})
    if not profile.values and own:
        profile = _lender(root)
    elif not profile.values:
        known = list(profiles_of(root))
        raise QuantbenchError(
            f"config: gpu '{name}' has no profile config/gpus/{name}.yaml{schema.hint(name, known)}",
            remedy=f"choose one of {', '.join(known)}, or name models of your own: they need no profile (README)",
        )
    stack = layers.stacked(defaults, profile, given)
    config = layers.merged(stack) | {"gpu": name}
    for keys in _PATHS:
        config = _at_home(config, keys)
    plan = make_plan(config, config_schema, stack)
    for key, path in needed_files(plan):
        if not _is(Path.is_file, root / path):
            what = "is not a file" if _is(Path.exists, root / path) else "does not exist"
            what = layers.naming_files(f"config: {key} names {path}, which {what}", stack)
            raise QuantbenchError(what, remedy=f"correct {key}; paths begin in the folder of the repository")
    return plan


def profiles_of(root: Path) -> dict[str, Path]:
    """{name: file} of the shipped profiles, by name."""
    return {path.stem: path for path in sorted((root / "config" / "gpus").glob("*.yaml"))}


def notes(plan: Plan, root: Path) -> list[str]:
    """That `gpu` may be a misspelt profile, which models of one's own take for a name of their own."""
    known = profiles_of(root)
    near = schema.hint(plan.gpu, known) if plan.gpu not in known else ""
    return [f"gpu: {plan.gpu} is no profile{near}, so it is a name of your own"] if near else []


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _name(name: str, config_schema: Mapping[str, Any]) -> str:
    """The profile's name, before it becomes part of a path."""
    node = config_schema["properties"]["gpu"]
    schema.raise_for(schema.faults_of({"gpu": name}, {"properties": {"gpu": node}}))
    return name


def _detected(root: Path, own: bool) -> tuple[str, Path | None]:
    """The profile for the GPU that is here; for models of one's own an unknown card is only a name."""
    gpus = gpu.available()
    try:
        choice = detect.choose_profile(gpus, _matches(root))
    except QuantbenchError:
        if not own:
            raise
        choice = detect.Choice(detect.name_of(gpus[0]), f"NVML shows {detect.describe(gpus[0])}; it has no profile")
    print(f"quantbench: profile {choice.profile}: {choice.reason}", file=sys.stderr, flush=True)
    return choice.profile, None


def _lender(root: Path) -> Layer:
    """How servers run on this machine, for a name without a profile: of the profile that fits, if one does."""
    try:
        name = detect.choose_profile(gpu.available(), _matches(root)).profile
    except QuantbenchError:
        return Layer("no profile", {})
    path = root / "config" / "gpus" / f"{name}.yaml"
    return layers.lent(Layer(_shown(path, root), read_yaml(path)))


def _at_home(value: Any, path: Sequence[str]) -> Any:
    """The value with `~/` at this path of keys as a shell reads it."""
    if not path:
        return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~/") else value
    if not isinstance(value, Mapping):
        return value
    return {key: _at_home(item, path[1:]) if path[0] in ("*", key) else item for key, item in value.items()}


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is of this kind; one that no file system takes is of none."""
    try:
        return kind(path)
    except (OSError, ValueError):
        return False


_UNNAMED: Final = '"<unicode string>", '
"""How PyYAML calls what it was given as text."""


def read_yaml(path: Path, *, empty: bool = True) -> dict[str, Any]:
    """Read one YAML (or JSON) mapping; an error names the file and the line.

    An empty file is an empty mapping; a fault where `empty` is False, as snakemake takes it for one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else yaml.load(text, _Loader)
    except OSError as error:
        raise QuantbenchError(
            f"config: {path} cannot be read: {error.strerror}",
            remedy="correct the path; commands run in the folder of the repository",
        ) from None
    except UnicodeDecodeError as error:
        raise QuantbenchError(f"config: {path} is not UTF-8: {error}", remedy="save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise QuantbenchError(f"config: {path} is not valid JSON: {error}", remedy="correct that line") from None
    except yaml.YAMLError as error:
        raise QuantbenchError(
            f"config: {path} is not valid YAML: {' '.join(str(error).replace(_UNNAMED, '').split())}",
            remedy=_yaml_remedy(error, text),
        ) from None
    if value is None and not empty:
        raise QuantbenchError(f"config: {path} holds no key", remedy="write one into it, or leave the file out")
    if value is not None and not isinstance(value, dict):
        raise QuantbenchError(
            f"config: {path} must hold `key: value` lines, not a {type(value).__name__}",
            remedy="see config/config.yaml for an example",
        )
    return value or {}


def _yaml_remedy(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, _Twice):
        return "keep one of them"
    mark = getattr(error, "problem_mark", None)
    line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent that line with spaces: YAML takes no tab there"
    return "correct that line; texts with `: ` or `?` in them need quotes"


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
    return {name: read_yaml(path).get("match", {}) for name, path in profiles_of(root).items()}
