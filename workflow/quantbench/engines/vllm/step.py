"""What one decode step of a model reads and multiplies, from its files."""

from __future__ import annotations

from pathlib import Path

from quantbench.config.own_settings import argument
from quantbench.engines.vllm import needs
from quantbench.engines.vllm.formats import claim_of
from quantbench.engines.vllm.layers import Config, Tensors, model_of
from quantbench.observe import checkpoint
from quantbench.records.server import ServerSpec, Step


def step(spec: ServerSpec, folder: Path | None, served: str | None) -> Step | None:
    """As `Engine.step`."""
    config = checkpoint.config(folder) if folder and folder.is_dir() else {}
    dummy = spec.settings.load_format == "dummy"
    return step_of(spec, config, None if dummy or folder is None else checkpoint.tensors(folder), served or "")


def step_of(spec: ServerSpec, config: Config, tensors: Tensors | None, served: str = "") -> Step | None:
    """The same, of a config.json and the headers of the weights (None without them)."""
    settings = spec.settings
    claim = claim_of(config, settings.quantization)
    model = model_of(config, tensors, claim) if config else None
    if model is None or settings.dtype == "float32":  # the arithmetic is that of 16 bits
        return None
    value_bytes = needs.value_bytes_of(config, argument(settings.args, "--kv-cache-dtype") or "auto")
    kv = needs.kv_of(config, value_bytes)
    return needs.step_of(model, config, claim, kv, max_num_seqs=settings.max_num_seqs, served=served)
