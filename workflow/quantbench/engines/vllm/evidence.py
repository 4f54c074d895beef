"""Is the variant quantized the way its config says? Decided from vLLM's log and the files, before any measurement.

vLLM serves some quantized checkpoints, and some values of --quantization, in 16 bit without an error. So a claim
needs a proof: the module tree (VLLM_LOG_MODEL_INSPECTION=1), the kernel that the log names, or the weight memory
against what the claimed bits would take. One piece of evidence against it outweighs all that speak for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from quantbench.engines.vllm.evidence_sizes import Claim, Sizes, claim_of, expected_share, sizes_of, stored_bits
from quantbench.engines.vllm.log import LogFacts

__all__ = ["Claim", "ServedModel", "Verdict", "claim_of", "judge"]

GIB = 1024**3
# vLLM's "Model loading took" also counts buffers that are no weights: 0.10 GiB above the parameters' size was seen
# for a 1.5 B model in 16 bit. The intervals below allow for this much, and for 3 % of padding.
BUFFERS_GIB = 0.15
PADDING = 0.03
_DTYPES = {"bfloat16": ("BF16", 16), "float16": ("FP16", 16), "half": ("FP16", 16), "float32": ("FP32", 32)}
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
    tensors: Mapping[str, tuple[str, tuple[int, ...]]] | None = None
    baseline_weights_gib: float | None = None
    host_w4a8: bool = False


@dataclass(frozen=True)
class Verdict:
    """`verified`: the model is what its config says.

    `bits_per_weight`: mean over the linear layers with their scales, from the checkpoint, else from the weight memory
    (then the middle of the interval that a sentence gives); None where neither tells.

    `sentences` hold the evidence, pro and contra; `remedy` is "" where verified.
    """

    verified: bool
    method: str
    label: str
    bits_per_weight: float | None
    bits_source: Literal["checkpoint", "memory"] | None
    kernel: str | None
    sentences: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class _Finding:
    """speaks: +1 proves the claim, -1 contradicts it, 0 says something without deciding."""

    speaks: int
    sentence: str
    unquantized: bool = False


def judge(claimed: Claim | None, served: ServedModel) -> Verdict:
    """Weigh all evidence for and against `claimed` (None: the model is meant to be unquantized).

    Not decidable is `verified=False` with what is missing, unless nothing was claimed.
    """
    sizes = sizes_of(served.config, served.tensors)
    memory, bits = _memory(claimed, served, sizes)
    findings = [*_config_line(claimed, served), *_layers(claimed, served), *_kernels(claimed, served), *memory]
    disk, stored = _disk(claimed, served)
    findings += disk
    against = [f for f in findings if f.speaks < 0]
    proven = any(f.speaks > 0 for f in findings)
    verified = not against and (proven or claimed is None)
    sentences = [f.sentence for f in (*against, *(f for f in findings if f.speaks >= 0))]
    if not against and not proven:
        sentences.append(_undecided(claimed))
    label = _label(claimed, served, served_plain=any(f.unquantized for f in against))
    if verified and claimed and label != claimed.label:
        sentences.append(f"The config says {claimed.label}, what runs is {label}: {_why_label(served)}.")
    from_disk = verified and stored is not None
    return Verdict(
        verified=verified,
        method=claimed.method if claimed else "none",
        label=label,
        bits_per_weight=stored if from_disk else bits,
        bits_source="checkpoint" if from_disk else None if bits is None else "memory",
        kernel=served.log.kernel,
        sentences=tuple(sentences),
        remedy="" if verified else _remedy(claimed, bool(against)),
    )


def _remedy(claimed: Claim | None, contradicted: bool) -> str:
    if claimed is None:
        return _REMEDY_BASELINE
    return _REMEDY if contradicted else _REMEDY_UNKNOWN


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


def _layers(claimed: Claim | None, served: ServedModel) -> list[_Finding]:
    layers = served.log.layers
    if layers is None:
        return []
    total, plain = sum(layers.linear.values()), layers.linear.get("", 0)
    share = 1 - plain / total
    methods = ", ".join(m for m in layers.linear if m) or "unquantized linear layers only"
    text = f"The module tree in the log shows {share:.0%} of the linear layers' parameters quantized ({methods})"
    if claimed is None:
        return [_Finding(-1 if share else 1, f"But t{text[1:]}." if share else f"{text}.")]
    others = [other for other in layers.other_quantized if "KVCache" not in other]
    if layers.experts and others:
        return [_Finding(1, f"{text}, and {', '.join(others)}.")]
    wanted = expected_share(served.config, claimed)
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
    other = [k for k in served.log.kernels if claimed.contradicted_by(k.method)]
    if other:
        return [*findings, _Finding(-1, f"The log names {named}, which is not {claimed.label}.")]
    return [*findings, _Finding(1, f"The log names the linear kernels: {named}.")]


def _memory(claimed: Claim | None, served: ServedModel, sizes: Sizes | None) -> tuple[list[_Finding], float | None]:
    """Weight memory (CUDA builds log it) against what the claimed bits, and 16 bits, would take."""
    weights = served.log.memory.get("weights_gib")
    if weights is None or sizes is None:
        return _against_baseline(claimed, served, weights), None
    full = _DTYPES.get(str(served.log.settings.get("dtype")), ("", 16))[1]
    total = weights * (served.log.settings.get("tensor_parallel_size") or 1)
    rest = sizes.rest * full / 8 / GIB
    high = (total + 0.005 - rest) * 8 * GIB / sizes.linear
    low = (total * (1 - PADDING) - 0.005 - BUFFERS_GIB - rest) * 8 * GIB / sizes.linear
    bits = claimed.bits if claimed else full
    is_claimed, is_full = (
        (bits is not None and low <= bits * 1.02 and high >= bits * 0.98),
        low <= full and high >= full * 0.97,
    )
    text = f"{total:.2f} GiB of weights are {max(low, 0):.1f} to {high:.1f} bits per weight of the linear layers"
    measured = round((low + high) / 2, 1) if high - low < 2 else None
    if bits is None:
        return [_Finding(-1 if is_full else 0, f"{text}.", unquantized=is_full)], measured
    if is_claimed:
        decides = claimed is None or not is_full
        return [_Finding(int(decides), f"{text}; {bits:.1f} are expected.")], measured
    return [_Finding(-1, f"{text}, but {bits:.1f} are expected.", unquantized=bool(claimed) and is_full)], measured


def _against_baseline(claimed: Claim | None, served: ServedModel, weights: float | None) -> list[_Finding]:
    baseline = served.baseline_weights_gib
    if claimed is None or not weights or not baseline or baseline < 4 * BUFFERS_GIB:
        return []
    text = f"Its weights take {weights:.2f} GiB, the baseline's {baseline:.2f} GiB"
    if weights > 0.97 * baseline:
        return [_Finding(-1, f"{text}: nothing was saved.", unquantized=True)]
    return [_Finding(0, f"{text}.")]


def _disk(claimed: Claim | None, served: ServedModel) -> tuple[list[_Finding], float | None]:
    """Bits per linear weight of the checkpoint. It proves nothing about what runs, but can contradict."""
    stored = stored_bits(served.tensors, (claimed.weight_bits if claimed else 4) or 4) if served.tensors else None
    if stored is None or (claimed and claimed.online):
        return [], None
    stored = round(stored, 3)
    text = f"The checkpoint stores {stored:.2f} bits per weight of the linear layers"
    bits = claimed.bits if claimed else 16
    if bits is None and stored > 12:
        return [_Finding(-1, f"{text}: it is not quantized.", unquantized=True)], stored
    if bits is not None and not math.isclose(stored, bits, rel_tol=0.12) and not (claimed is None and stored > 16):
        plain = stored > 12
        return [_Finding(-1, f"{text}, but {bits:.2f} are expected.", unquantized=plain)], stored
    return [_Finding(0, f"{text}.")], stored


def _label(claimed: Claim | None, served: ServedModel, *, served_plain: bool) -> str:
    plain = _DTYPES.get(str(served.log.settings.get("dtype")), ("16 bit", 16))[0]
    if claimed is None or served_plain:
        return plain
    if claimed.weight_bits is None or claimed.activation_bits is None:
        return claimed.label
    if _weight_only(served):
        return f"W{claimed.weight_bits}A16"
    if served.host_w4a8 and claimed.weight_bits == 4 and "CPUWNA16LinearKernel" in (served.log.kernel or ""):
        return "W4A8"
    return claimed.label


def _weight_only(served: ServedModel) -> bool:
    return served.log.fallback_bits is not None or any(
        "marlin" in k.kernel.lower() and "FP8" in k.kernel.upper() for k in served.log.kernels
    )


def _why_label(served: ServedModel) -> str:
    if _weight_only(served):
        return "the weights stay compressed, the computation is in 16 bit (Marlin kernel)"
    return "on this host vLLM computes 4-bit weights with 8-bit activations (VLLM_CPU_INT4_W4A8)"
