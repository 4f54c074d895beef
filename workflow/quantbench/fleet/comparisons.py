"""The fleet file: read, validated, and each of its comparisons planned by the pipeline's own code before any starts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from quantbench import inputs
from quantbench.config import layers, model_plan, schema, settings
from quantbench.config.configuration import MEASUREMENT_PROTOCOL, Plan, needed_files
from quantbench.config.layers import Layer
from quantbench.errors import QuantbenchError
from quantbench.fleet import folder
from quantbench.records.base import convert
from quantbench.records.fleet import Entry

Json = dict[str, Any]
SCHEMA: Final = settings.SCHEMA.with_name("fleet.schema.yaml")
PROJECT: Final = Path(__file__).resolve().parents[3]
"""The project whose pipeline runs: of this very library, also where a job sees copies of the rules elsewhere."""
PLACE: Final = "QUANTBENCH_FLEETS"
"""Where the folders of comparisons are made, if not in fleets/: for jobs that see a disk of their own (containers)."""


@dataclass(frozen=True)
class Fleet:
    """A valid fleet file. root: the folder of the repository; keys: variables that must be exported."""

    root: Path
    name: str
    entries: Mapping[str, Entry]
    keys: tuple[str, ...] = ()
    _plans: dict[str, Plan] = field(default_factory=dict, compare=False)

    def folder(self, comparison: str) -> Path:
        """Where a comparison runs, and keeps all that it makes."""
        return Path(os.environ.get(PLACE) or self.root / "fleets") / self.name / comparison

    def shown(self, comparison: str) -> str:
        """The same for a reader, from the folder of the repository."""
        place = self.folder(comparison)
        return str(place.relative_to(self.root) if place.is_relative_to(self.root) else place)

    def plan(self, comparison: str) -> Plan:
        """What the pipeline makes of a comparison. Raises QuantbenchError that names the comparison."""
        if comparison not in self._plans:
            self._plans[comparison] = self._planned(comparison)
        return self._plans[comparison]

    def _planned(self, comparison: str) -> Plan:
        entry = self.entries[comparison]
        files = [self.root / path for path in entry.configfiles]
        with _named(comparison):
            given = [Layer(str(path), settings.read_yaml(path), given=True) for path in files]
            asked = layers.merged([*given, Layer("config", entry.config, given=True)])
            if asked.get("gpu", "auto") == "auto":
                raise QuantbenchError(
                    "config.gpu is not said, and the machine that plans a fleet need not be the one that runs it",
                    remedy=f"write comparisons.{comparison}.config.gpu: a profile, or a name of your own",
                )
            return settings.load(self.root, entry.config, files)

    def definition(self, comparison: str) -> str:
        """Hash of all that defines a comparison: its complete configuration, files named in it, and the protocol.

        A comparison with another one runs again, and measures what is new in it.
        """
        plan = self.plan(comparison)
        files = {str(path): _digest(self.root / path) for _, path in needed_files(plan)}
        whole = {"config": plan.config, "files": files, "protocol": MEASUREMENT_PROTOCOL}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def command(self, comparison: str) -> tuple[str, ...]:
        """The words that run a comparison, in its folder."""
        entry = self.entries[comparison]
        files = [folder.as_seen_there(self.root, path) for path in entry.configfiles]
        if entry.config:
            files.append(folder.OVERRIDES)
        return ("snakemake", "--cores", "1", *(["--configfile", *files] if files else []))


def load(root: Path, files: Iterable[Path], values: Mapping[str, Any]) -> Fleet:
    """The fleet of these files (`--configfile`) and values (`--config`), which win. QuantbenchError names the key."""
    asked = schema.deep_merge(*(settings.read_yaml(path) for path in files), values)
    if not asked:
        raise QuantbenchError("fleet: no fleet file is given", remedy="add --configfile fleet.yaml; see docs/fleet.md")
    filled, faults = schema.filled(asked, settings.read_yaml(SCHEMA))
    schema.raise_for(faults, of="fleet")
    return of_job(root, filled)


def of_job(root: Path, valid: Mapping[str, Any]) -> Fleet:
    """The fleet of values that were found valid, as a job gets them."""
    return Fleet(root, valid["fleet"], convert(valid["comparisons"], dict[str, Entry]), tuple(valid.get("keys", ())))


def check(fleet: Fleet) -> None:
    """Raise QuantbenchError for what would be the end of a comparison later, before any starts.

    Models that are made here lie in one folder for all comparisons of a profile; two recipes for one are refused.
    """
    if absent := [name for name in fleet.keys if name not in os.environ]:
        raise QuantbenchError(
            f"fleet: keys names {', '.join(absent)}, which this shell does not export",
            remedy=f"export {' '.join(absent)}, or take the name out of keys",
        )
    made: dict[str, tuple[str, Json | None]] = {}
    for name in fleet.entries:
        plan = fleet.plan(name)
        with _named(name):
            inputs.check_prompts(plan, fleet.root)
        for model in plan.selected:
            recipe = model_plan.made(plan, model)
            first, other = made.setdefault(plan.source(model), (name, recipe)) if recipe else (name, recipe)
            if other != recipe:
                raise QuantbenchError(
                    f"comparisons.{first} and comparisons.{name} make {plan.source(model)} in two ways",
                    remedy=f"give models.{model} another name in one of them, or the same recipe in both",
                )


@contextmanager
def _named(comparison: str) -> Iterator[None]:
    """Name the comparison that a fault is of."""
    try:
        yield
    except QuantbenchError as error:
        raise QuantbenchError(f"comparisons.{comparison}: {error.what}", remedy=error.remedy) from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
