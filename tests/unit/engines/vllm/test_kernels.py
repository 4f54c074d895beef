"""kernels: which arithmetic a GPU has for a claim, as read in the sources of vLLM 0.32.0."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.engines.vllm.formats import MODELOPT, ONLINE, TORCHAO, Claim, Rule, claim_of
from quantbench.engines.vllm.kernels import supports

TURING, AMPERE, ADA, HOPPER, BLACKWELL, RTX_BLACKWELL = 75, 80, 89, 90, 100, 120


def compressed(kind: str, bits: int, activations: int | None, group: int | None = None) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": kind, "symmetric": True, "group_size": group}
    inputs = None if activations is None else {"num_bits": activations, "type": kind}
    layout = "nvfp4-pack-quantized" if group == 16 else "mxfp4-pack-quantized" if group == 32 else ""
    scheme = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "format": layout}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": scheme}}


CASES = {
    "bf16": None,
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
    "gptq 8": {"quant_method": "gptq", "bits": 8, "group_size": 128},
    "fp8": compressed("float", 8, 8),
    "fp8 blocks": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "fp8 weights": compressed("float", 8, None),
    "int8": compressed("int", 8, 8),
    "nvfp4": compressed("float", 4, 4, 16),
    "nvfp4 weights": compressed("float", 4, None, 16),
    "mxfp4": compressed("float", 4, 4, 32),
    "gpt-oss": {"quant_method": "mxfp4"},
    "mxfp8": {"quant_method": "modelopt", "quant_algo": "MXFP8"},
    "w4a8": compressed("int", 4, 8, 128),
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "unknown": {"quant_method": "quip"},
}
N, W, X, U = "native", "weight-only", "none", "unknown"
# Turing, Ampere, Ada, Hopper, Blackwell, RTX Blackwell
EXPECTED = {
    "bf16": (X, N, N, N, N, N), "awq": (N, N, N, N, N, N), "gptq 8": (N, N, N, N, N, N), "fp8": (W, W, N, N, N, N),
    "fp8 blocks": (W, W, N, N, N, N), "fp8 weights": (N, N, N, N, N, N), "int8": (N, N, N, N, X, X),
    "nvfp4": (W, W, W, W, N, N), "nvfp4 weights": (N, N, N, N, N, N), "mxfp4": (W, W, W, W, N, N),
    "gpt-oss": (N, N, N, N, N, N), "mxfp8": (W, W, W, W, N, N), "w4a8": (U, U, U, U, U, U),
    "bitsandbytes": (U, U, U, U, U, U), "unknown": (U, U, U, U, U, U),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_outcomes_by_compute_capability(name: str) -> None:
    stated = CASES[name]
    claim = claim_of({"quantization_config": stated} if stated else {})
    cards = (TURING, AMPERE, ADA, HOPPER, BLACKWELL, RTX_BLACKWELL)
    found = [supports(claim, capability) for capability in cards]
    assert all(len(one) == 1 for one in found)
    assert tuple(one[0].outcome for one in found) == EXPECTED[name]
    assert all(one[0].words and one[0].label for one in found)


def test_a_mixed_claim_has_an_answer_per_scheme_and_lack_says_what_is_there() -> None:
    stated = {"quant_method": "modelopt", "quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": {
        "a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4"}}}}  # fmt: skip
    found = supports(claim_of({"quantization_config": stated}), HOPPER)
    assert [(one.label, one.outcome) for one in found] == [("W8A8", "native"), ("NVFP4 W4A4", "weight-only")]
    assert "this GPU has 7.0" in supports(None, 70)[0].words
    empty = claim_of({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}})
    assert [one.label for one in supports(empty, HOPPER)] == ["BF16"], "of the KV cache alone"


@pytest.mark.parametrize(
    ("words", "outcome", "said"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, "none", "desc_act"),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": True}, "native", "Marlin"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "none", "3 bits"),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"+:x": {"sym": False}}},
            "none",
            "asymmetric",
        ),
        ({"quant_method": "auto-round", "bits": 3, "group_size": 128}, "native", "Marlin"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "none", "W4A8_AWQ"),
        ({"quant_method": "hqq"}, "unknown", "hqq is no method of vLLM"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "unknown", "vllm-bnb-plugin"),
        ({"quant_method": "gguf", "type": "Q4_K", "bits_per_weight": 4.5}, "unknown", "vllm-gguf-plugin"),
        ({"quant_method": "fbgemm_fp8"}, "native", "--allow-deprecated-quantization"),
    ],
)
def test_what_vllm_does_not_serve_is_said_before_a_start(words: dict[str, Any], outcome: str, said: str) -> None:
    (found,) = supports(claim_of({"quantization_config": words}), HOPPER)
    assert found.outcome == outcome
    assert said in found.words


@given(st.sampled_from([*ONLINE.values(), *MODELOPT.values(), *TORCHAO.values()]), st.integers(50, 130))
def test_every_scheme_of_the_tables_has_an_answer(scheme: Any, capability: int) -> None:
    (found,) = supports(Claim("fp8", (Rule("*", scheme),)), capability)
    assert found.outcome in ("native", "weight-only", "emulated", "none", "unknown")
    assert found.label
