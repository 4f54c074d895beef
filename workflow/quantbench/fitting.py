"""Which models fit into the memory of their GPUs, decided when the plan is made: it must be known before a start.

A model does not fit where its weights alone are more than its GPUs hold; all else (KV cache, activations) depends on
settings, so that only a start can tell. What was decided is kept, for the jobs of the run and for where the model's
files and the GPUs are not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from quantbench.config import cross_checks
from quantbench.config.configuration import Plan
from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint, given, gpu
from quantbench.records.base import convert, read, write
from quantbench.records.layout import Results
from quantbench.records.server import ServerSpec, Unfit
from quantbench.serving import model_source
from quantbench.wording import number

_CAST: Final = ("F64", "F32")
"""Stored so, weights are served in the 16 bits of `server.dtype`, unless that is float32."""
_OFFLOADS: Final = ("--cpu-offload", "--offload", "--swap-space")
"""Arguments with which weights need not lie on the GPU."""


def fitted(plan: Plan, results: Results, *, look: bool) -> Plan:
    """The plan without the models that do not fit.

    look: reckon anew, in the process that owns the run; its jobs take what it kept. Raises QuantbenchError where no
    model fits.
    """
    kept = _kept(results)
    unfit = {name: found for name in plan.selected if (found := _unfit(plan, name, results, kept, look=look))}
    if unfit and len(unfit) == len(plan.selected):
        sums = "; ".join(f"models.{name}: {arithmetic(found)}" for name, found in unfit.items())
        raise QuantbenchError(
            f"config: no selected model fits into the memory of its GPUs ({sums})",
            remedy="name smaller or further quantized models, a lane with more GPUs, or set models.*.fits: true to try",
        )
    return replace(plan, unfit=unfit)


def keep(plan: Plan, results: Results) -> None:
    """Write down what does not fit, for the jobs of the run; nothing where all fits and nothing was kept."""
    if plan.unfit or _kept(results):
        write(results.file("unfit"), dict(plan.unfit))


def notes(plan: Plan) -> list[str]:
    """What is left out, and what is compared instead, for the person at the terminal."""
    lines = [f"models.{name} does not fit ({arithmetic(found)}) and is left out" for name, found in plan.unfit.items()]
    if plan.config["baseline"] in plan.unfit:
        lines.append(f"the others are compared with {plan.baseline}, in place of {plan.config['baseline']}")
    return lines


def arithmetic(unfit: Unfit) -> str:
    """ "29.5 GiB of weights, 2 GPUs of 12.0 GiB"."""
    if unfit.weights_gib is None or unfit.card_gib is None:
        return "as its configuration says"
    cards = f"{unfit.gpus} GPUs of" if unfit.gpus > 1 else "a GPU of"
    return f"{number(unfit.weights_gib)} GiB of weights, {cards} {number(unfit.card_gib)} GiB"


def _kept(results: Results) -> dict[str, Unfit]:
    path = results.file("unfit")
    return read(path, dict[str, Unfit]) if path.exists() else {}


def _unfit(plan: Plan, name: str, results: Results, kept: Mapping[str, Unfit], *, look: bool) -> Unfit | None:
    model = plan.config["models"][name]
    says, before, gpus = model["fits"], kept.get(name), cross_checks.gpus_used(plan.config, name)
    if before and (before.source, before.gpus) != (plan.source(name), gpus):
        before = None  # it was another model, or on other GPUs
    if model["endpoint"] or says is True:
        return None
    if says is None and results.file("ready", model=name).exists():
        return None  # it has been served
    sums = _sums(plan, name) if look else None
    if says is False:
        return sums or before or Unfit(source=plan.source(name), gpus=gpus)
    if sums is None or sums.weights_gib is None or sums.card_gib is None:
        return before
    return sums if sums.weights_gib > sums.gpus * sums.card_gib else None


def _sums(plan: Plan, name: str) -> Unfit | None:
    """The weights of a model, and what each of its GPUs holds; None where one of them cannot be told."""
    spec = convert(plan.server_spec(name), ServerSpec)
    settings = spec.settings
    if spec.platform != "cuda" or settings.quantization or plan.made_here(name):
        return None  # quantized while it is loaded, weights are smaller than their files
    if any(word.startswith(_OFFLOADS) for word in settings.args):
        return None
    try:
        folder = model_source.find_source(spec)
    except (OSError, ValueError):
        return None  # `inputs` says what is wrong with that path
    weights = weights_gib(checkpoint.tensors(folder), full=settings.dtype == "float32") if folder else None
    cards = [card.total_mib for device in spec.devices if (card := gpu.snapshot([given.real(device)]))]
    if weights is None or len(cards) < len(spec.devices):
        return None
    gib = {"weights_gib": round(weights, 3), "card_gib": round(min(cards) / 1024, 3)}
    return Unfit(source=spec.source, gpus=cross_checks.gpus_used(plan.config, name), **gib)


def weights_gib(tensors: Mapping[str, tuple[str, tuple[int, ...]]] | None, *, full: bool = False) -> float | None:
    """Of all tensors of a checkpoint, by their headers, as they lie in memory; full: served in 32 bits."""
    if not tensors:
        return None
    total = sum(
        checkpoint.count(shape) * (16 if dtype in _CAST and not full else checkpoint.dtype_bits(dtype))
        for dtype, shape in tensors.values()
    )
    return total / 8 / 2**30
