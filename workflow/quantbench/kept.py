"""What is kept of earlier runs, against what the plan wants: what fits is used, what does not is set aside.

Contents decide. Each block, server record, start-up and set of answers tells with what it was measured; the times of
files count only where that is not known, and snakemake's memory then, too, but not for blocks. `Kept` looks at the disk
when a run is planned.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from msgspec.structs import replace

from quantbench import ask_lane
from quantbench.config import model_plan, report_plan, settings
from quantbench.config.configuration import Plan
from quantbench.config.expected import Expected
from quantbench.errors import QuantbenchError
from quantbench.files import sha256
from quantbench.judge import provenance
from quantbench.quality import made_models, suites
from quantbench.quality.prompt_set import Prompt
from quantbench.records.base import OpenRecord, Record, convert, read
from quantbench.records.block import KeptBlock, MeasuredTuple, ServedWith
from quantbench.records.cell import Cell, served_model
from quantbench.records.layout import Results, is_place_of
from quantbench.records.quality import AnsweredWith
from quantbench.records.server import ServerSpec
from quantbench.records.suite import CollectedWith, items_file
from quantbench.serving import identity, owner
from quantbench.wording import listing, plural

SET_ASIDE: Final = "set_aside"
"""Folder beside what it was taken from; below it one folder per configuration."""


class _KeptServer(OpenRecord, frozen=True, kw_only=True):
    """What a plan reads of ready.json and startup.json, of any version."""

    served_with: ServedWith | None = None


@dataclass(frozen=True)
class Found:
    """What is kept of one thing: it fits, it is of another configuration, it does not tell, or it is not there."""

    state: Literal["fits", "other", "unknown", "missing"]
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Kind:
    """A rule that measures. files: kinds of path in `layout.PATHS`, first the record that tells with what.

    items: the file in which it keeps all that it has ever seen, item by item; so nothing of it is set aside.
    """

    files: tuple[str, ...]
    record: type[Record]
    told: Callable[[Any], Record | None]
    differences: Callable[[Any, Any], tuple[str, ...]]
    items: str = ""


def _server_differences(kept: _KeptServer, wanted: ServedWith) -> tuple[str, ...]:
    return provenance.server_differences(kept.served_with, wanted) if kept.served_with else ()


_SERVER: Final = (_KeptServer, lambda kept: kept.served_with, _server_differences)
KINDS: Final[Mapping[str, _Kind]] = {
    "block": _Kind(("block", "records"), KeptBlock, lambda kept: kept.measured_with, provenance.block_differences),
    "start_server": _Kind(("ready", "serve_sh"), *_SERVER),
    "measure_startup": _Kind(("startup",), *_SERVER),
    "generate_answers": _Kind(
        ("answered_with", "answers"), AnsweredWith, lambda kept: kept, provenance.answer_differences
    ),
    "collect_suite": _Kind(
        ("collected_with", "collected"),
        CollectedWith,
        lambda kept: kept,
        provenance.collected_differences,
        items="kept_items",
    ),
}
"""By the name of the rule; of measure_tuple the blocks, each by itself."""
TUPLE: Final = "measure_tuple"
MAKERS: Final = ("materialize_model", "unpack_model", "quantize_model")
"""Rules that make models."""


def expected(plan: Plan, root: Path = Path()) -> Expected:
    """What the plan wants, with the files and the version of vLLM that are here now."""
    servers = {name: _served_with(plan, name, root) for name in plan.models}
    texts = {name: root / workload["prompts"] for name, workload in plan.config["workloads"].items()}
    return Expected(plan, servers, {name: sha256(path) for name, path in texts.items()})


def _served_with(plan: Plan, name: str, root: Path) -> ServedWith:
    spec, here = plan.server_spec(name), plan.made_here(name)
    known = identity.planned(spec, Results(plan.gpu, root).file("ready", model=name), made_here=here)
    if here and made_models.state(plan, name, root) == "fits":
        known["source_id"] = identity.source_id(convert(spec, ServerSpec))
    return ServedWith(spec=plan.measured_spec(name), made=model_plan.made(plan, name), **known)


class Kept:
    """The results of a plan as they lie on the disk when the run is planned."""

    def __init__(self, plan: Plan, results: Results) -> None:
        self.plan, self.results = plan, results
        self.expected = expected(plan, results.below)
        self._found: dict[tuple[str, ...], Found] = {}
        self._last: dict[tuple[str, Cell], int] = {}
        self._part: dict[tuple[str, Cell], bool] = {}
        self._changed: dict[tuple[str, Cell], bool] = {}
        self._linked: list[dict[Path, Path]] = []
        self._markers: list[Path] = []
        self._models: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def found(self, rule: str, wildcards: Mapping[str, Any]) -> Found:
        """What is kept of a rule's job."""
        key = (rule, *(f"{name}={wildcards[name]}" for name in sorted(wildcards)))
        if key not in self._found:
            self._found[key] = self._look(rule, wildcards)
        return self._found[key]

    def look_again(self) -> None:
        """Forget what was found: other blocks lie on the disk now."""
        self._found.clear()
        self._last.clear()
        self._part.clear()
        self._changed.clear()

    def settles(self, rule: str, wildcards: Mapping[str, Any]) -> bool:
        """Whether contents alone decide on a job: what is kept fits, and its model is not about to be made anew."""
        if rule in MAKERS:
            record = made_models.recorded(self.results.below / self.plan.source(wildcards["model"]))
            return self.model(wildcards["model"]) == "fits" and bool(record and record.inputs)
        parts = self._parts(rule, wildcards)
        fits = bool(parts) and all(self.found(kind, of).state == "fits" for kind, of in parts)
        return fits and self.model(_model(wildcards)) != "other"

    def demanded(self, rule: str, wildcards: Mapping[str, Any]) -> Iterator[str]:
        """Files of a job that must run though snakemake may not see it, and of the model that it needs."""
        if rule in MAKERS:
            if self.model(wildcards["model"]) == "other":
                yield model_plan.record(self.plan, wildcards["model"])
        elif rule == "calibrate_client":
            if not (file := self.results.file("calibration", **wildcards)).exists() and self._any("cells/*/*/*.csv"):
                yield str(file)
        else:
            parts = self._parts(rule, wildcards)
            again = any(self.again(kind, of) for kind, of in parts)
            if again or (rule == TUPLE and self._altered(wildcards["arm"], Cell.of_row(wildcards))):
                yield from self._outputs(rule, wildcards)
            lacks_model = self.model(_model(wildcards)) in ("other", "missing")
            if lacks_model and (again or any(self.found(kind, of).state == "missing" for kind, of in parts)):
                yield model_plan.record(self.plan, _model(wildcards))

    def _parts(self, rule: str, wildcards: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """What a rule's job measures: (a key of `KINDS`, its wildcards)."""
        if rule == TUPLE:
            arm, cell = wildcards["arm"], Cell.of_row(wildcards)
            return [("block", _of(arm, cell, n)) for n in range(1, self.pooled(arm, cell) + 1)]
        return [(rule, wildcards)] if rule in KINDS else []

    def _outputs(self, rule: str, wildcards: Mapping[str, Any]) -> list[str]:
        if rule == TUPLE:
            return [self.results.path("measured", **wildcards)]
        return list(map(str, self.files(rule, wildcards)))

    def to_measure(self, wildcards: Mapping[str, Any], asked: bool, since: float) -> list[int]:
        """Numbers of the blocks that a job of measure_tuple measures.

        asked: the user wants all of them anew. since: the newest of its inputs, Unix time; it counts for blocks that
        do not tell with what they were measured.
        """

        def is_due(block: Mapping[str, Any]) -> bool:
            state = self.found("block", block).state
            is_old = state == "unknown" and self.files("block", block)[0].stat().st_mtime < since
            return asked or is_old or state in ("other", "missing")

        return [int(block["block"]) for _, block in self._parts(TUPLE, wildcards) if is_due(block)]

    def model(self, name: str) -> str:
        """`made_models.state` of a model that is made here, "elsewhere" for others."""
        if name not in self._models:
            here = self.plan.made_here(name)
            self._models[name] = made_models.state(self.plan, name, self.results.below) if here else "elsewhere"
        return self._models[name]

    def again(self, rule: str, wildcards: Mapping[str, Any]) -> bool:
        """Whether the job must run though snakemake may not see it: of another configuration, or gone from a result."""
        state = self.found(rule, wildcards).state
        return state == "other" or (state == "missing" and self._is_used(rule, wildcards))

    def files(self, rule: str, wildcards: Mapping[str, Any]) -> list[Path]:
        """The files of a rule's job, first the one that tells with what it was measured."""
        return [self.results.file(kind, **wildcards) for kind in KINDS[rule].files]

    def blocks(self, arm: str, cell: Cell) -> int:
        """Highest number of a block of this configuration, or of one that does not tell; later ones are not counted."""
        if (arm, cell) not in self._last:  # every rule that rests on the blocks of a cell asks this again
            numbers = range(settings.blocks_on_disk(self.results, arm, cell), 0, -1)
            ours = (n for n in numbers if self.found("block", _of(arm, cell, n)).state in ("fits", "unknown"))
            self._last[arm, cell] = next(ours, 0)
        return self._last[arm, cell]

    def pooled(self, arm: str, cell: Cell) -> int:
        """How many blocks a cell has: as configured, and all of this configuration on disk."""
        return self.plan.blocks(cell, self.blocks(arm, cell))

    def words(self) -> Iterator[str]:
        """What a plan says before anything is done: how many blocks are of another configuration, and what differs."""
        others: dict[str, Counter[str]] = {}
        back = 0
        for arm in self.plan.arms:
            for cell in report_plan.points(self.plan, arm, self.results):
                for n in range(1, self.pooled(arm, cell) + 1):
                    found = self.found("block", _of(arm, cell, n))
                    if found.state == "other":
                        others.setdefault("; ".join(found.differences), Counter())[arm] += 1
                    if found.state in ("other", "missing"):
                        files = self.files("block", _of(arm, cell, n))
                        back += bool(_candidate("block", files, self.expected.block(arm, cell)))
        for differences, arms in others.items():
            what = f"{plural(arms.total(), 'block')} of {listing(arms)} of another configuration ({differences})"
            yield f"{what}: set aside and made again where asked for"
        if back:
            were = "was" if back == 1 else "were"
            yield f"{plural(back, 'block')} of this configuration {were} set aside before: taken back, not measured"

    def set_aside(self, jobs: Iterable[tuple[str, Mapping[str, Any], bool]]) -> list[str]:
        """Keep what jobs of this run are about to replace. Returns what to say of it, a line or none.

        jobs: (rule, wildcards, whether the user asked for just this job to run again; then what lies set aside is not
        taken for it). Files are linked, not moved: what no job comes to replace stays where it is (`put_back`).
        """
        others: Counter[str] = Counter()
        for name, of, asked in jobs:
            if name in MAKERS:
                self._markers.append(self.results.below / model_plan.record(self.plan, of["model"]))
                made_models.keep_record(self._markers[-1])
            for rule, wildcards in self._parts(name, of):
                others[rule] += self._set_aside(rule, wildcards, asked)
        if not (count := others["block"]):
            return []
        where = f"{self.results.root}/raw/*/*/*/{SET_ASIDE}"
        return [f"{plural(count, 'block')} of another configuration set aside: {where}"]

    def _set_aside(self, rule: str, wildcards: Mapping[str, Any], asked: bool) -> bool:
        """Of one thing that is measured; whether it is of another configuration."""
        if KINDS[rule].items:
            if asked:
                self.results.file(KINDS[rule].items, **wildcards).unlink(missing_ok=True)
            return False
        files, found = self.files(rule, wildcards), self.found(rule, wildcards)
        if asked:
            while aside := _candidate(rule, files, self._wanted(rule, wildcards)):
                _drop(aside)
        if found.state == "missing" or (found.state == "fits" and (asked or rule == "block")):
            return False
        place = files[0].parent / SET_ASIDE / _key(rule, files[0])
        self._linked.append({file: _link(file, place / file.name) for file in files})
        return found.state == "other"

    def put_back(self) -> None:
        """At the end of a run: what no job came to replace lies where it lay, snakemake may have removed it or not."""
        for marker in self._markers:
            made_models.put_back(marker)
        for links in self._linked:
            record, link = next(iter(links.items()))
            if link.exists() and not record.exists():
                for file, other in reversed(links.items()):
                    if other.exists():
                        other.replace(file)
            if not link.exists() or filecmp.cmp(record, link, shallow=False):
                _drop(links.values())

    def forget_links(self) -> None:
        """Drop the second names of a killed run for what still lies where it lay; before this run makes its own."""
        if owner.shared_folder():  # they may be of a run beside this one
            return
        for link in self.results.below.glob(f"{self.results.root}/**/{SET_ASIDE}/*/*"):
            file = link.parents[2] / link.name
            if file.exists() and file.samefile(link):
                _drop([link])

    def _look(self, rule: str, wildcards: Mapping[str, Any]) -> Found:
        files, kind = self.files(rule, wildcards), KINDS[rule]
        told = files if rule != "generate_answers" else files[1:]  # an earlier version kept no record beside them
        if not all(file.exists() for file in told):
            return Found("missing")
        kept, wanted = _read(rule, files[0]), self._wanted(rule, wildcards)
        if kept is None or wanted is None:
            return Found("unknown")
        if copied := _copied(kept, files[0]):
            return Found("other", (copied,))
        if differences := kind.differences(kept, wanted):
            return Found("other", differences)
        return Found("fits" if kind.told(kept) else "unknown")

    def _wanted(self, rule: str, wildcards: Mapping[str, Any]) -> Record | None:
        if rule == "block":
            return self.expected.block(wildcards["arm"], Cell.of_row(wildcards))
        server = self.expected.servers.get(wildcards["model"])
        if server is None:
            return None
        if rule == "collect_suite":
            suite = wildcards["suite"]
            if suite not in self._versions:
                asked = items(self.plan, suite, self.results.below)
                self._versions[suite] = suites.version(self.plan.suites[suite], asked)
            return collected_with(self.plan, suite, wildcards["model"], server, self._versions[suite])
        if rule == "generate_answers":
            return answered_with(self.plan, wildcards["model"], server, self.results.below)
        return server

    def _is_used(self, rule: str, wildcards: Mapping[str, Any]) -> bool:
        """Whether there is a result that what is missing was part of; in a run that has just begun there is none."""
        there = self.results.file
        if rule == "block":
            return self._is_part(wildcards["arm"], Cell.of_row(wildcards)) or any(
                path.exists() for path in self.files(rule, wildcards)
            )
        if rule == "start_server":
            return self._tell(wildcards["model"])
        return there("startup_table" if rule == "measure_startup" else "decision").exists()

    def _is_part(self, arm: str, cell: Cell) -> bool:
        """Whether there is a result that the blocks of a tuple are part of."""
        if (arm, cell) not in self._part:  # each of its blocks asks this
            there = self.results.file
            made = [there(kind, cell, arm=arm) for kind in ("measured", "cell")]
            made += [there("session", model=served_model(arm)), there("verdict")]
            self._part[arm, cell] = any(path.exists() for path in made)
        return self._part[arm, cell]

    def _altered(self, arm: str, cell: Cell) -> bool:
        """Whether blocks of a tuple are not what its job has seen: what rests on them is then read again."""
        if (arm, cell) not in self._changed:
            self._changed[arm, cell] = self._differs(self.results.file("measured", cell, arm=arm))
        return self._changed[arm, cell]

    def _differs(self, record: Path) -> bool:
        try:
            told = read(record, MeasuredTuple)
        except FileNotFoundError:
            return False
        except QuantbenchError:
            return True
        here = ask_lane.blocks_in(str(record.parent))
        return any(name in here and here[name] != files.as_dict() for name, files in told.blocks.items())

    def _tell(self, model: str) -> bool:
        """Whether a server has blocks, and all of them tell with what they were measured: no others are put at risk."""
        arms = [arm for arm in self.plan.arms if served_model(arm) == model]
        cells = [(arm, cell) for arm in arms for cell in report_plan.points(self.plan, arm, self.results)]
        blocks = [_of(arm, cell, n) for arm, cell in cells for n in range(1, self.blocks(arm, cell) + 1)]
        states = {self.found("block", block).state for block in blocks}
        return "fits" in states and "unknown" not in states

    def _any(self, pattern: str) -> bool:
        return any(self.results.below.glob(f"{self.results.root}/{pattern}"))


def answered_with(plan: Plan, model: str, server: ServedWith, root: Path = Path()) -> AnsweredWith:
    """What a model's answers to the quality prompts depend on."""
    quality = plan.config["quality"]
    return AnsweredWith(
        server=server,
        prompts=sha256(root / quality["prompts"]),
        concurrency=quality["concurrency"],
        floor=tuple(model_plan.floor(plan, model)),
        thinking=quality["thinking"],
        thinking_tokens=quality["thinking_tokens"] if quality["thinking"] else 0,
    )


def items(plan: Plan, suite: str, root: Path = Path()) -> list[Prompt]:
    """The items that a suite asks, from its file."""
    settings = plan.suites[suite]
    path = items_file(settings)
    return suites.items(settings, (root / path).read_text(encoding="utf-8") if path else "")


def collected_with(plan: Plan, suite: str, model: str, server: ServedWith, asks: str) -> CollectedWith:
    """What a suite's collection of a model depends on; asks: `suites.version` of the suite."""
    return CollectedWith(server=server, version=asks, floor=tuple(model_plan.floor(plan, model, suite)))


def now(server: ServedWith, spec: ServerSpec) -> ServedWith:
    """What is wanted of a server, with the files that its model has now: it may have been made since the plan."""
    return replace(server, source_id=identity.source_id(spec) or server.source_id)


def take_back(rule: str, outputs: Iterable[Path | str], wanted: Record | None) -> bool:
    """Put what lies set aside, and is as wanted, where the job's outputs belong; False if there is nothing of it."""
    names = {Path(path).name: Path(path) for path in outputs}
    found = _candidate(rule, list(names.values()), wanted)
    for file in reversed(found or []):  # the record last: where it is, the rest is
        names[file.name].parent.mkdir(parents=True, exist_ok=True)
        os.utime(file)
        file.replace(names[file.name])
    if found:
        _drop(found)
        print(f"quantbench: {next(iter(names.values()))} was set aside, and is taken back", file=sys.stderr, flush=True)
    return bool(found)


def lies_aside(rule: str, outputs: Iterable[Path], wanted: Record | None) -> bool:
    """Whether `take_back` would find it."""
    return _candidate(rule, list(outputs), wanted) is not None


def _candidate(rule: str, files: list[Path], wanted: Record | None) -> list[Path] | None:
    """Files that lie set aside, are complete, and are known to be as wanted."""
    if wanted is None:
        return None
    kind = KINDS[rule]
    for record in sorted(files[0].parent.glob(f"{SET_ASIDE}/*/{files[0].name}")):
        kept, whole = _read(rule, record), [record.with_name(file.name) for file in files]
        if kept is None or not kind.told(kept) or _copied(kept, files[0]) or kind.differences(kept, wanted):
            continue
        if all(file.exists() for file in whole):
            return whole
    return None


def _copied(kept: Any, path: Path) -> str:
    """What a record is a copy of that lies, or lay, under another block's name; "" where it is its own."""
    if not isinstance(kept, KeptBlock):
        return ""
    cell = Cell.of_row(kept.as_dict())
    own = is_place_of(path, kept.model, cell, kept.block)
    return "" if own else f"a copy of b{kept.block} of {kept.model}, {cell.key}"


def _read(rule: str, path: Path) -> Any:
    """The record; None where it is not there, or not as we write it: its reader says so in words."""
    try:
        return read(path, KINDS[rule].record)
    except (OSError, QuantbenchError):
        return None


def _key(rule: str, path: Path) -> str:
    """Names a configuration: 12 hex digits of what the record tells, or of the record itself where it does not tell."""
    kept = _read(rule, path)
    told = KINDS[rule].told(kept) if kept else None
    if told:
        content = json.dumps(told.as_dict(), sort_keys=True).encode()
    else:
        content = path.read_bytes() if path.exists() else b""
    return hashlib.sha256(content).hexdigest()[:12]


def _link(file: Path, place: Path) -> Path:
    """A second name of a file, or a copy where the disk has no links."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if file.exists():
        try:
            os.link(file, place)
        except OSError:
            shutil.copy2(file, place)
    return place


def _drop(files: Iterable[Path]) -> None:
    """Remove files, and their folders where nothing is left in them."""
    for file in files:
        file.unlink(missing_ok=True)
        for above in (file.parent, file.parents[1]):
            with suppress(OSError):
                above.rmdir()


def _model(wildcards: Mapping[str, Any]) -> str:
    return str(wildcards["model"]) if "model" in wildcards else served_model(wildcards["arm"])


def _of(arm: str, cell: Cell, block: int) -> dict[str, Any]:
    return {"arm": arm, **cell.columns, "block": block}
