"""Which arithmetic a GPU has for a quantization: of its own, 16-bit arithmetic on packed weights, or none.

Read in the sources of vLLM 0.32.0. `model_executor/layers/quantization/**`: `get_min_capability` of each method and
scheme; compressed-tensors takes CompressedTensorsW8A8Fp8 from 8.9 on and W8A16 below.
`model_executor/kernels/linear/**`: `is_supported` of each kernel (Marlin ≥ 7.5 for INT4, INT8, FP8 and FP4;
FlashInfer's and CUTLASS' FP4 and MXFP8 ≥ 10.0; CUTLASS W4A8 and Machete 9.0). The CUTLASS INT8 kernel has no code for
10.0 and later: the start fails with "Int8 not supported on SM100" (vllm-project/vllm#25935, #54316). GGUF and
bitsandbytes are not among that version's own methods (`PLUGIN`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from quantbench.engines.vllm.formats import Claim, Scheme

SOURCE: Final = "vLLM 0.32.0"
Outcome = Literal["native", "weight-only", "emulated", "none", "unknown"]
PLUGIN: Final = {"bitsandbytes": ("0.28", "vllm-bnb-plugin"), "gguf": ("0.24", "vllm-gguf-plugin")}
"""Methods that vLLM has left to plugins, since when (vllm-project/vllm#43529, #39612)."""
SERVED: Final = (
    "awq", "awq_marlin", "auto_awq", "gptq", "gptq_marlin", "auto_gptq", "moe_wna16", "fp8", "fbgemm_fp8", "fp_quant",
    "compressed-tensors", "quark", "torchao", "inc", "auto-round", "auto_round", "intel/auto-round", "humming",
    "mxfp4", "gpt_oss_mxfp4", "mxfp8", "deepseek_v4_fp8", "online", "experts_int8",
)  # fmt: skip
"""`quant_method` of a checkpoint that vLLM 0.32 knows, beside all of ModelOpt's."""
DEPRECATED: Final = ("fbgemm_fp8", "fp_quant")


@dataclass(frozen=True)
class Support:
    """How a GPU serves one scheme. label: of the scheme, such as NVFP4 W4A4; words: the kernel, and its condition."""

    label: str
    outcome: Outcome
    words: str


_Row = tuple[int, Outcome, str]
# From which compute capability on (10 × major + minor), best first; below the last row there is nothing.
_BF16: Final[list[_Row]] = [(80, "native", "bfloat16 needs ≥ 8.0")]
_INTEGERS: Final[list[_Row]] = [
    (91, "native", "Marlin"),
    (90, "native", "Machete, else Marlin"),
    (75, "native", "Marlin needs ≥ 7.5"),
]
_FP8: Final[list[_Row]] = [
    (89, "native", "FP8 units"),
    (75, "weight-only", "Marlin computes in 16 bit (W8A16): FP8 units need ≥ 8.9"),
]
_FP8_WEIGHTS: Final[list[_Row]] = [(75, "native", "Marlin needs ≥ 7.5")]
_INT8: Final[list[_Row]] = [
    (100, "none", "no INT8 kernel: the start fails with “Int8 not supported on SM…”; take FP8"),
    (75, "native", "CUTLASS INT8"),
]
_FP4: Final[list[_Row]] = [
    (100, "native", "FP4 units"),
    (75, "weight-only", "Marlin computes in 16 bit (W4A16): FP4 units need ≥ 10.0"),
]
_FP4_WEIGHTS: Final[list[_Row]] = [(75, "native", "Marlin needs ≥ 7.5")]
_MXFP8: Final[list[_Row]] = [
    (100, "native", "MXFP8 units"),
    (75, "weight-only", "Marlin computes in 16 bit (W8A16): MXFP8 units need ≥ 10.0"),
]


def supports(claim: Claim | None, capability: int) -> list[Support]:
    """One entry per scheme of the claim, BF16 where nothing is quantized. capability: 89 for 8.9."""
    if claim is None or claim.nothing:
        return [_from(_BF16, "BF16", capability)]
    label = claim.label
    if claim.refused:
        return [Support(label, "none", f"{claim.refused}: the start fails")]
    if claim.method in PLUGIN:
        return [Support(label, "unknown", plugin(claim.method))]
    if not (claim.online or claim.method in SERVED or claim.method.startswith("modelopt")):
        words = f"{claim.method} is no method of {SOURCE}: unless a plugin brings it, the start fails"
        return [Support(label, "unknown", words)]
    found = [_support(scheme, capability) for scheme in claim.schemes]
    if claim.method in DEPRECATED:
        found = [replace(one, words=f"{one.words}; wants --allow-deprecated-quantization") for one in found]
    return found


def plugin(method: str) -> str:
    """What a method needs that is one of `PLUGIN`."""
    since, package = PLUGIN[method]
    return f"since {since} vLLM serves {method} only with the package {package}, and only on a GPU"


def _support(scheme: Scheme, capability: int) -> Support:
    weights, activations, label = scheme.weight_bits, scheme.activation_bits, scheme.label or "not known"
    if weights is None or activations is None:
        return Support(label, "unknown", "its words do not say which bits")
    if scheme.name in ("NVFP4", "MXFP4"):
        return _from(_FP4 if activations < 16 else _FP4_WEIGHTS, label, capability)
    if scheme.name == "MXFP8":
        return _from(_MXFP8, label, capability)
    if scheme.name == "MXFP6":
        return Support(label, "emulated", "its kernels unpack to 16 bit")
    if activations == 16:
        return _from(_FP8_WEIGHTS if scheme.floating else _INTEGERS, label, capability)
    if weights == activations == 8:
        return _from(_FP8 if scheme.floating else _INT8, label, capability)
    return Support(label, "unknown", "on a GPU only 9.0 has a kernel (CUTLASS W4A8, FP8 activations)")


def _from(rows: Iterable[_Row], label: str, capability: int) -> Support:
    for least, outcome, words in rows:
        if capability >= least:
            return Support(label, outcome, words)
    return Support(label, "none", f"{words}, this GPU has {capability // 10}.{capability % 10}")
