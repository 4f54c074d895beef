"""A model and its card as they are looked at before a start: config.json and headers, or a published shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantbench.config import settings
from quantbench.config.configuration import Plan
from quantbench.engines.vllm.inspection import Gpu, Subject
from quantbench.errors import QuantbenchError
from quantbench.observe import cards, checkpoint, gpu
from quantbench.records.server import ServerSpec
from quantbench.serving import model_source


def found(spec: ServerSpec) -> Subject | None:
    """A model whose files are here and whole; None where there are none."""
    folder = model_source.find_source(spec)
    if folder is None:
        return None
    model_source.check_source(spec)
    config = checkpoint.config(folder) if folder.is_dir() else {}
    if not config:
        raise QuantbenchError(
            f"{folder / 'config.json'} is no JSON object" if folder.is_dir() else f"{folder} is a file",
            remedy="name the folder of a checkpoint with config.json and safetensors",
        )
    dummy = spec.settings.load_format == "dummy"
    tensors = None if dummy else checkpoint.tensors(folder)
    return Subject(spec, str(folder), "headers" if tensors else "config", config, tensors)


def published(plan: Plan, spec: ServerSpec, root: Path) -> Subject:
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
    known = settings.read_yaml(root / "config" / "shapes.yaml")
    entry = known["checkpoints"].get(spec.source)
    if entry is None:
        model_source.check_source(spec)
    shape, *quantization = entry
    config: Mapping[str, Any] = known["shapes"][shape]
    if quantization:
        config = {**config, "quantization_config": known["quantizations"][quantization[0]]}
    return Subject(spec, "config/shapes.yaml; not in the hub's cache", "shape", config, None)


def card_of(plan: Plan | None) -> Gpu | None:
    """The card that a plan's profile is for, else the one that is here; None where neither is known."""
    if plan and (card := next((card for card in cards.CARDS if card.key == plan.gpu), None)):
        return Gpu.of(card)
    here = next(iter(gpu.available()), None)
    if here is None or not here["total_mib"]:
        return None
    known = cards.of_device(here["name"], here["total_mib"])
    return Gpu.of(known) if known else Gpu(str(here["name"]), here["total_mib"] / 1024 - cards.HIDDEN_GIB)
