"""A model and its card as they are looked at before a start: config.json and headers, or a published shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from quantbench.config import settings
from quantbench.config.configuration import Plan
from quantbench.engines.vllm.inspection import Gpu, Subject
from quantbench.errors import QuantbenchError
from quantbench.observe import cards, checkpoint, gpu
from quantbench.records.server import ServerSpec
from quantbench.serving import model_source

SHAPES: Final = Path(__file__).parents[2] / "config" / "shapes.yaml"


def subject(plan: Plan, spec: ServerSpec) -> Subject:
    """A model of a plan as its files tell, else its published shape, with the loads of the grid.

    Raises QuantbenchError for one of which neither is here, and for files that are damaged.
    """
    loads = {load for entry in plan.config["workloads"].values() for load in entry["concurrency"]}
    return replace(found(spec) or published(plan, spec), loads=tuple(sorted(loads)))


def card(plan: Plan | None = None) -> Gpu | None:
    """The card of a profile, else the first that is here; None without one."""
    if plan and (known := next((known for known in cards.CARDS if known.key == plan.gpu), None)):
        return Gpu.of(known)
    here = next(iter(gpu.available()), None)
    if here is None or not here["total_mib"]:
        return None
    known = cards.of_device(here["name"], here["total_mib"])
    return Gpu.of(known) if known else Gpu(str(here["name"]), here["total_mib"] / 1024 - cards.HIDDEN_GIB)


def found(spec: ServerSpec) -> Subject | None:
    """A model whose files are here and whole; None where there are none."""
    folder = model_source.find_source(spec)
    if folder is None:
        return None
    model_source.check_source(spec)
    if model_source.is_mistral(folder):
        raise QuantbenchError(
            f"{folder} is in Mistral's own format (params.json, no config.json), whose sizes are not told here",
            remedy="inspect the same model with a config.json beside, which most of them have on the hub",
        )
    if folder.is_file() and folder.suffix != ".gguf":
        raise QuantbenchError(f"{folder} is a file", remedy="name the folder that it lies in, or a GGUF file")
    config = checkpoint.config(folder)
    dummy = spec.settings.load_format == "dummy"
    tensors = None if dummy else checkpoint.tensors(folder)
    return Subject(spec, str(folder), "headers" if tensors else "config", config, tensors)


def published(plan: Plan, spec: ServerSpec) -> Subject:
    """A model that a profile names and that is not here, by its published shape; for others the error of a run."""
    if spec.endpoint:
        raise QuantbenchError(
            f"models.{spec.model} is served elsewhere ({spec.endpoint})", remedy="inspect its files, where they are"
        )
    if plan.made_here(spec.model):
        raise QuantbenchError(
            f"models.{spec.model} is made by the run, and {spec.source} is not here yet",
            remedy="inspect it after the run has begun",
        )
    known = settings.read_yaml(SHAPES)
    entry = known["checkpoints"].get(spec.source)
    if entry is None:
        model_source.check_source(spec)
    shape, *quantization = entry
    config: Mapping[str, Any] = known["shapes"][shape]
    if quantization:
        config = {**config, "quantization_config": known["quantizations"][quantization[0]]}
    return Subject(spec, "config/shapes.yaml; not in the hub's cache", "shape", config, None)
