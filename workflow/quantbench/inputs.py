"""What a run reads, looked into when its plan is made: prompt files, templates, model folders.

A fault is said with its key before any server starts. Hub models that are not in the cache, and models made here, are
left to their jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quantbench.client import load_spec, prompts
from quantbench.client.prompt_file import read_prompts
from quantbench.config import settings
from quantbench.config.configuration import Plan
from quantbench.errors import QuantbenchError
from quantbench.quality import prompt_set
from quantbench.records.base import convert
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.server import ServerSpec
from quantbench.serving import model_source
from quantbench.stats import MIN_PAIRS


def check(plan: Plan, root: Path) -> list[str]:
    """Read every prompt file and look into every local model folder once; relative paths are below `root`.

    Raises QuantbenchError that names the key and the file. Returns what is allowed and yet may be a slip.
    """
    for name, workload in plan.config["workloads"].items():
        _workload(f"workloads.{name}", workload, root)
    if plan.config["quality"]["prompts"]:
        _quality(root / plan.config["quality"]["prompts"])
    for name in _models(plan, root):
        _model(plan, name)
    return list(_slips(plan, Results(plan.gpu, root)))


def _workload(key: str, workload: Mapping[str, Any], root: Path) -> None:
    with _under(f"{key}.prompts"):
        items = read_prompts(root / workload["prompts"])
    with _under(f"{key} ({workload['prompts']})"):
        for prompt in prompts.checked(items, workload["template"]):
            load_spec.input_of(workload["endpoint"], prompt)


def _quality(path: Path) -> None:
    with _under("quality.prompts"):
        try:
            prompt_set.parse(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError as error:
            raise QuantbenchError(f"{path} is not UTF-8: {error}", remedy="save it as UTF-8") from None


def _models(plan: Plan, root: Path) -> Iterator[str]:
    """Models to look for: those not served yet, and what is still to be quantized from.

    One that was served once is left to its jobs, so that results can be looked at where their models are not.
    """
    for name, model in plan.models.items():
        if model["quantize"] and plan.made_here(name):
            if not (root / plan.source(name) / "provenance.json").exists():
                yield str(model["quantize"]["from"])
        elif not Results(plan.gpu, root).file("ready", model=name).exists():
            yield name


def _model(plan: Plan, name: str) -> None:
    spec = convert(plan.server_spec(name), ServerSpec)
    if spec.endpoint or plan.made_here(name):
        return
    if model_source.is_local(spec.source) or model_source.find_source(spec):
        model_source.check_source(spec)


def _slips(plan: Plan, results: Results) -> Iterator[str]:
    grid = plan.cells(plan.baseline)
    if plan.variants:
        yield from _few_blocks(min(plan.blocks(cell, 0) for cell in grid))
    for key in plan.config["extra_blocks"]:
        cell = Cell.parse(key)
        if cell is None or cell.workload not in plan.config["workloads"] or cell in grid:
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
        yield
    except QuantbenchError as error:
        raise QuantbenchError(f"config: {key}: {error.what}", remedy=error.remedy) from None
