"""Is the variant quantized the way its config says? Decided from vLLM's log and the files, before any measurement.

vLLM serves some quantized checkpoints, and some values of --quantization, in 16 bit without an error. So a claim is
looked into, with three outcomes: *verified*, *contradicted* (the server does not start: what would be measured is not
what the row says), *undecided* (measured, with a warning that says why). Strong evidence is the module tree
(VLLM_LOG_MODEL_INSPECTION=1), the kernels and vLLM's own configuration in the log, and the bits that the files store.
Arithmetic on the weight memory proves a claim that nothing else excludes, and contradicts one only where the memory is
that of the unquantized model; it never refuses a baseline, as weights may lie elsewhere (--cpu-offload-gb, pipeline or
expert parallelism).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from quantbench.engines.vllm.formats import Claim, claim_of
from quantbench.engines.vllm.layers import PLAIN_BITS, Model, Tensors, model_of
from quantbench.engines.vllm.log import LogFacts

__all__ = ["Claim", "ServedModel", "Verdict", "claim_of", "judge"]

Outcome = Literal["verified", "contradicted", "undecided"]
GIB = 1024**3
# vLLM's "Model loading took" also counts buffers that are no weights: 0.10 GiB above the parameters' size was seen
# for a 1.5 B model in 16 bit. The intervals below allow for this much, and for 3 % of padding.
BUFFERS_GIB = 0.15
PADDING = 0.03
_DTYPES = {"bfloat16": ("BF16", 16), "float16": ("FP16", 16), "half": ("FP16", 16), "float32": ("FP32", 32)}
_WIDTH = re.compile(r"W(\d+)A\d+")
_NAMED_BITS = {"NVFP4": 4, "MXFP4": 4, "FP8": 8, "INT8": 8, "MXFP8": 8}
_REMEDY = (
    "do not measure it: use a checkpoint (or a value of `quantization`) that this vLLM build really quantizes, "
    "or drop the variant from the config"
)
_REMEDY_BASELINE = "name an unquantized checkpoint as the baseline, without a `quantization` argument"
_REMEDY_UNKNOWN = "start the server with VLLM_LOG_MODEL_INSPECTION=1, so that its log shows each layer's method"


@dataclass(frozen=True)
class ServedModel:
    """What is known of a served model.

    `log`: its parsed log. `config`: its config.json ({} if unknown). `tensors`: name → (safetensors dtype, shape) from
    `checkpoint.tensors`, None with dummy weights or where nothing is on disk. `host_w4a8`: True where vLLM-CPU computes
    4-bit weights with 8-bit activations (hosts with AMX, unless VLLM_CPU_INT4_W4A8=0).
    """

    log: LogFacts
    config: Mapping[str, Any]
    tensors: Tensors | None = None
    baseline_weights_gib: float | None = None
    host_w4a8: bool = False

    @property
    def full(self) -> tuple[str, int]:
        """What an unquantized weight is loaded as: name and bits."""
        return _DTYPES.get(str(self.log.settings.get("dtype")), ("BF16", 16))


@dataclass(frozen=True)
class Verdict:
    """`outcome` of what the config says.

    `bits_per_weight`: mean over the linear layers with their scales, from the checkpoint, else from the weight memory
    (then the middle of the interval that a sentence gives); None where neither tells. `sentences` hold the evidence,
    contra and pro; `remedy` is "" where verified.
    """

    outcome: Outcome
    method: str
    label: str
    bits_per_weight: float | None
    bits_source: Literal["checkpoint", "memory"] | None
    kernel: str | None
    sentences: tuple[str, ...]
    remedy: str

    @property
    def verified(self) -> bool:
        """Whether the model is what its config says."""
        return self.outcome == "verified"


@dataclass(frozen=True)
class _Finding:
    """speaks: +1 proves the claim, -1 contradicts it, 0 says something without deciding."""

    speaks: int
    sentence: str
    unquantized: bool = False


def judge(claimed: Claim | None, served: ServedModel, model: Model | None = None) -> Verdict:
    """Weigh all evidence for and against `claimed` (None: the model is meant to be unquantized).

    model: its layers, where they have been counted already.
    """
    model = model or model_of(served.config, served.tensors, claimed)
    strong = [*_config_line(claimed, served), *_layers(claimed, served, model), *_kernels(claimed, served)]
    on_disk, stored = _disk(claimed, served, model)
    memory, bits = _memory(claimed, served, model, proven=any(f.speaks > 0 for f in strong))
    findings = [*strong, *on_disk, *memory]
    if claimed and model and 0 < (share := model.share(claimed)) < 0.995:
        findings.append(_Finding(0, f"{claimed.source} quantizes {share:.0%} of the linear layers' weights."))
    if claimed and claimed.nothing:
        findings.insert(0, _Finding(-1, f"{claimed.source} quantizes no weights (method {claimed.method}).", True))
    against = [f for f in findings if f.speaks < 0]
    proven = claimed is None or any(f.speaks > 0 for f in findings)
    outcome: Outcome = "contradicted" if against else "verified" if proven else "undecided"
    sentences = [f.sentence for f in (*against, *(f for f in findings if f.speaks >= 0))]
    if not against and not any(f.speaks > 0 for f in findings):
        sentences.append(_undecided(claimed))
    label = _label(claimed, served, served_plain=any(f.unquantized for f in against))
    if outcome == "verified" and claimed and label != claimed.label:
        sentences.append(f"The config says {claimed.label}, what runs is {label}: {_why_label(served)}.")
    from_disk = outcome != "contradicted" and stored is not None
    return Verdict(
        outcome=outcome,
        method=claimed.method if claimed else "none",
        label=label,
        bits_per_weight=stored if from_disk else bits,
        bits_source="checkpoint" if from_disk else None if bits is None else "memory",
        kernel=served.log.kernel,
        sentences=tuple(sentences),
        remedy=_remedy(claimed, outcome),
    )


def _remedy(claimed: Claim | None, outcome: Outcome) -> str:
    if outcome == "verified":
        return ""
    if claimed is None:
        return _REMEDY_BASELINE
    return _REMEDY if outcome == "contradicted" else _REMEDY_UNKNOWN


def _undecided(claimed: Claim | None) -> str:
    if claimed is None:
        return "Nothing was claimed and nothing speaks against it."
    return (
        f"Nothing proves {claimed.method}: the log shows no layer methods (VLLM_LOG_MODEL_INSPECTION=1), "
        "names no quantized linear kernel, and its weight memory does not decide."
    )


def _config_line(claimed: Claim | None, served: ServedModel) -> list[_Finding]:
    logged = served.log.settings.get("quantization")
    if logged is None:
        return []
    text = f"vLLM's configuration says quantization={'None' if logged == 'none' else logged}"
    if claimed is None:
        return [_Finding(0, f"{text}.")] if logged == "none" else [_Finding(-1, f"{text}, but none was claimed.")]
    if logged == "none":
        return [_Finding(-1, f"{text}, but {claimed.method} was claimed.", unquantized=True)]
    return [_Finding(0, f"{text}.")]


def _layers(claimed: Claim | None, served: ServedModel, model: Model | None) -> list[_Finding]:
    layers = served.log.layers
    if layers is None:
        return []
    others = [other for other in layers.other_quantized if "KVCache" not in other]
    total, plain = sum(layers.linear.values()), layers.linear.get("", 0)
    share = 1 - plain / total if total else 0.0
    methods = ", ".join(m for m in layers.linear if m) or "unquantized linear layers only"
    text = f"The module tree in the log shows {share:.0%} of the linear layers' parameters quantized ({methods})"
    if claimed is None:
        quantized = bool(share or others)
        return [_Finding(-1 if quantized else 1, f"But t{text[1:]}." if quantized else f"{text}.")]
    if layers.experts and others:
        return [_Finding(1, f"{text}, and {', '.join(others)}.")]
    wanted = model.share(claimed) if model else None
    if share == 0 or (wanted is not None and share < wanted - 0.02):
        tail = "" if share == 0 or wanted is None else f"; the config says {wanted:.0%}"
        return [_Finding(-1, f"{text}{tail}.", unquantized=share == 0)]
    return [_Finding(1, f"{text}.")]


def _kernels(claimed: Claim | None, served: ServedModel) -> list[_Finding]:
    findings = []
    if served.log.online_layers is not None:
        count = served.log.online_layers
        speaks = (1 if count else -1) if claimed else (-1 if count else 0)
        findings.append(_Finding(speaks, f"vLLM quantized {count} layers while loading.", unquantized=not count))
    named = ", ".join(f"{k.kernel} for {k.method}" for k in served.log.kernels)
    if not named:
        return findings
    if claimed is None:
        return [*findings, _Finding(-1, f"The log names quantized linear kernels: {named}.")]
    if any(_is_other(claimed, f"{k.kernel} {k.method}") for k in served.log.kernels):
        return [*findings, _Finding(-1, f"The log names {named}, which is not {claimed.label}.")]
    return [*findings, _Finding(1, f"The log names the linear kernels: {named}.")]


def _is_other(claimed: Claim, named: str) -> bool:
    """Whether a kernel and its method say another format or width than the claim has."""
    upper = named.upper()
    if any(one in upper and two in claimed.method.upper() for one, two in (("AWQ", "GPTQ"), ("GPTQ", "AWQ"))):
        return True
    widths = {scheme.weight_bits for scheme in claimed.schemes}
    if None in widths:
        return False
    stated = {int(m[1]) for m in _WIDTH.finditer(upper)} or {n for word, n in _NAMED_BITS.items() if word in upper}
    return bool(stated) and not stated & widths


def _memory(
    claimed: Claim | None, served: ServedModel, model: Model | None, *, proven: bool
) -> tuple[list[_Finding], float | None]:
    """Weight memory (CUDA builds log it) against what the claimed bits, and 16 bits, would take."""
    weights = served.log.memory.get("weights_gib")
    if weights is None or model is None:
        return _against_baseline(claimed, served, weights), None
    plain, full = served.full
    total = weights * (served.log.settings.get("tensor_parallel_size") or 1)
    rest = model.rest * full / 8 / GIB
    high = (total + 0.005 - rest) * 8 * GIB / model.weights
    low = (total * (1 - PADDING) - 0.005 - BUFFERS_GIB - rest) * 8 * GIB / model.weights
    bits = model.bits(claimed, full)
    is_claimed = bits is not None and low <= bits * 1.02 and high >= bits * 0.98
    is_full = low <= full and high >= full * 0.97
    text = f"{total:.2f} GiB of weights are {max(low, 0):.1f} to {high:.1f} bits per weight of the linear layers"
    measured = round((low + high) / 2, 1) if high - low < 2 else None
    if claimed is None:
        return [_Finding(int(is_claimed), f"{text}; {full:.1f} are expected{_elsewhere(high < full)}.")], measured
    if is_claimed:
        return [_Finding(int(not is_full), f"{text}; {bits:.1f} are expected.")], measured
    if is_full:
        wanted = f", but {bits:.1f} are expected" if bits is not None else ""
        both = f": the layers say {claimed.label}, the memory {plain}" if proven else ""
        return [_Finding(-1, f"{text}{wanted}{both}.", unquantized=not proven)], measured
    expected = "" if bits is None else f"; {bits:.1f} are expected{_elsewhere(high < bits)}"
    return [_Finding(0, f"{text}{expected}.")], measured


def _elsewhere(less: bool) -> str:
    return ", so some of them lie elsewhere or this arithmetic does not know the model" if less else ""


def _against_baseline(claimed: Claim | None, served: ServedModel, weights: float | None) -> list[_Finding]:
    baseline = served.baseline_weights_gib
    if claimed is None or not weights or not baseline or baseline < 4 * BUFFERS_GIB:
        return []
    text = f"Its weights take {weights:.2f} GiB, the baseline's {baseline:.2f} GiB"
    if weights > 0.97 * baseline:
        return [_Finding(-1, f"{text}: nothing was saved.", unquantized=True)]
    return [_Finding(0, f"{text}.")]


def _disk(claimed: Claim | None, served: ServedModel, model: Model | None) -> tuple[list[_Finding], float | None]:
    """Bits per linear weight of the checkpoint. It proves nothing about what runs, but can contradict.

    Of GPTQ and AWQ vLLM itself looks in the headers which layers are quantized, so some in 16 bit are no fault.
    """
    stored = model.stored if model else None
    if model is None or stored is None or (claimed and claimed.online):
        return [], None
    text = f"The checkpoint stores {stored:.2f} bits per weight of the linear layers"
    if claimed is None:
        if stored <= PLAIN_BITS:
            return [_Finding(-1, f"{text}, but {served.full[1]:.2f} are expected.")], round(stored, 3)
        return [_Finding(0, f"{text}.")], round(stored, 3)
    if (plain := model.plain(claimed)) > (0.98 if "gptq" in claimed.method or "awq" in claimed.method else 0.02):
        what = f"{text}; {plain:.0%} of what {claimed.source} calls quantized is stored in 16 bit"
        return [_Finding(-1, f"{what}.", unquantized=plain > 0.98)], round(stored, 3)
    inside = model.quantized(claimed)
    held, bits = (inside.stored, inside.bits(claimed, 16)) if inside else (None, None)
    if held is not None and bits is not None and not math.isclose(held, bits, rel_tol=0.12):
        what = f"The checkpoint stores {held:.2f} bits per weight of what {claimed.source} calls quantized"
        return [_Finding(-1, f"{what}, but {bits:.2f} are expected.")], round(stored, 3)
    beside = model.unnamed(claimed)
    more = f"; {beside:.0%} of the weights are stored quantized, and {claimed.source} does not name them"
    return [_Finding(0, f"{text}{more if beside > 0.02 else ''}.")], round(stored, 3)


def _label(claimed: Claim | None, served: ServedModel, *, served_plain: bool) -> str:
    if claimed is None or served_plain:
        return served.full[0]
    emulated = " (emulated)" if any("emulat" in k.kernel.lower() for k in served.log.kernels) else ""
    widths = {scheme.weight_bits for scheme in claimed.schemes}
    if len(widths) == 1 and (bits := claimed.weight_bits) and any(s.activation_bits for s in claimed.schemes):
        if _weight_only(served):
            return f"{claimed.schemes[0].name} W{bits}A16".strip()
        if served.host_w4a8 and bits == 4 and "CPUWNA16LinearKernel" in (served.log.kernel or ""):
            return "W4A8"
    return claimed.label + emulated


def _weight_only(served: ServedModel) -> bool:
    return served.log.fallback_bits is not None or any(
        "marlin" in k.kernel.lower() and ("FP8" in k.kernel.upper() or "FP4" in f"{k.kernel} {k.method}".upper())
        for k in served.log.kernels
    )


def _why_label(served: ServedModel) -> str:
    if _weight_only(served):
        return "the weights stay compressed, the computation is in 16 bit (Marlin kernel)"
    if any("emulat" in k.kernel.lower() for k in served.log.kernels):
        return "this GPU has no such arithmetic, so vLLM emulates it"
    return "on this host vLLM computes 4-bit weights with 8-bit activations (VLLM_CPU_INT4_W4A8)"
