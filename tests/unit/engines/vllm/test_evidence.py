"""evidence: decided on recorded logs of variants that are quantized, and of those that only say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.engines.vllm import log as vllm_log
from quantbench.engines.vllm.evidence import Claim, ServedModel, claim_of, judge
from quantbench.engines.vllm.formats import ALL, Rule, Scheme
from quantbench.engines.vllm.layers import model_of
from quantbench.observe import checkpoint

LOGS = Path(__file__).parents[3] / "data" / "logs"
TINY: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "vocab_size": 1024,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
QWEN_1_5B: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "vocab_size": 151936, "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}


def compressed(bits: int, activations: int | None, group: int | None) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group" if group else "channel"}
    inputs = None if activations is None else {"num_bits": activations, "dynamic": True}
    scheme = {"targets": ["Linear"], "weights": {**weights, "group_size": group}, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": scheme}, "ignore": ["lm_head"]}


def log(name: str) -> vllm_log.LogFacts:
    return vllm_log.parse((LOGS / f"{name}.log").read_text(encoding="utf-8"))


W8A8, W4A16 = compressed(8, 8, None), compressed(4, None, 32)
REFUSED, BASELINE, UNKNOWN = "do not measure it", "unquantized checkpoint", "VLLM_LOG_MODEL_INSPECTION=1"
# log, model, what its config.json states, --quantization: the label of what runs, words of the remedy if refused
CASES = [
    ("cpu-0.32.0-w8a8", TINY, W8A8, None, "W8A8", ""),
    ("cpu-0.32.0-w8a8-no-inspection", TINY, W8A8, None, "W8A8", ""),
    ("cpu-0.32.0-w4a16", TINY, W4A16, None, "W4A16", ""),
    ("cpu-0.32.0-w4a16-no-inspection", TINY, W4A16, None, "W4A16", ""),
    ("cpu-0.32.0-awq", TINY, AWQ, None, "W4A16", ""),
    ("cpu-0.32.0-gptq", TINY, GPTQ, None, "W4A16", ""),
    ("cpu-0.32.0-fp8-online", TINY, None, "fp8_per_channel", "W8A8", ""),
    ("cpu-0.32.0-fp8-online-no-inspection", TINY, None, "fp8_per_channel", "W8A8", ""),
    ("h200-vllm-0.26.0-fp8", QWEN_1_5B, None, "fp8", "W8A8", ""),
    ("h200-vllm-0.26.0-awq-no-memory-left", QWEN_1_5B, AWQ, None, "W4A16", ""),
    ("h100-vllm-0.26.0-awq", QWEN_1_5B, AWQ, None, "W4A16", ""),
    ("h100-vllm-0.26.0-gptq", QWEN_1_5B, GPTQ, None, "W4A16", ""),
    ("cuda-0.33.0-awq-warm", QWEN_1_5B, AWQ, None, "W4A16", ""),
    ("cuda-0.26.0-fp8-weight-only-eager", QWEN_1_5B, None, "fp8", "W8A16", ""),
    ("cuda-0.33.0-fp8-weight-only-eager", QWEN_1_5B, None, "fp8", "W8A16", ""),
    # it only says so
    ("cpu-0.32.0-silent-int8", TINY, None, "int8_per_channel_weight_only", "BF16", REFUSED),
    ("cpu-0.32.0-silent-experts-int8", TINY, None, "experts_int8", "BF16", REFUSED),
    ("cpu-0.32.0-silent-nvfp4", TINY, None, "nvfp4_per_token", "BF16", REFUSED),
    ("cpu-0.32.0-gptq-served-plain", TINY, GPTQ, None, "BF16", REFUSED),
    ("h200-vllm-0.26.0-gptq-served-unquantized", QWEN_1_5B, GPTQ, None, "BF16", REFUSED),
    ("cuda-0.26.0-gptq-served-plain", QWEN_1_5B, GPTQ, None, "BF16", REFUSED),
    ("cpu-0.32.0-bf16", TINY, AWQ, None, "BF16", REFUSED),
    ("cpu-0.32.0-silent-experts-int8-no-inspection", TINY, None, "experts_int8", "W8A16", UNKNOWN),  # undecided
    # eight bits are not four
    ("cpu-0.32.0-w8a8", TINY, compressed(4, None, 128), None, "W4A16", REFUSED),
    ("h200-vllm-0.26.0-fp8", QWEN_1_5B, AWQ, None, "W4A16", REFUSED),
    ("cuda-0.26.0-awq-warm", QWEN_1_5B, {**GPTQ, "bits": 8}, None, "W8A16", REFUSED),
    # baselines
    ("cpu-0.32.0-bf16", TINY, None, None, "BF16", ""),
    ("cpu-0.32.0-bf16-no-inspection", TINY, None, None, "BF16", ""),
    ("h200-vllm-0.26.0-bf16", QWEN_1_5B, None, None, "BF16", ""),
    ("cpu-0.32.0-w8a8", TINY, None, None, "BF16", BASELINE),
    ("cpu-0.32.0-fp8-online-no-inspection", TINY, None, None, "BF16", BASELINE),
    ("h200-vllm-0.26.0-fp8", QWEN_1_5B, None, None, "BF16", BASELINE),
    ("cuda-0.26.0-awq-warm", QWEN_1_5B, None, None, "BF16", BASELINE),
]


@pytest.mark.parametrize(
    ("name", "model", "stated", "flag", "label", "remedy"), CASES, ids=[f"{c[0]}-{c[4]}-{c[5]}" for c in CASES]
)
def test_a_claim_is_decided_on_recorded_logs(
    name: str, model: dict[str, Any], stated: dict[str, Any] | None, flag: str | None, label: str, remedy: str
) -> None:
    config = {**model, "quantization_config": stated} if stated else model
    claim = claim_of(config, flag)
    verdict = judge(claim, ServedModel(log(name), config))
    assert (verdict.verified, verdict.label) == (not remedy, label), verdict.sentences
    assert remedy in verdict.remedy
    assert (verdict.outcome == "undecided") == (remedy == UNKNOWN)
    if verdict.verified:
        assert (verdict.remedy, bool(verdict.kernel)) == ("", claim is not None)
    assert (verdict.bits_source is None) == (verdict.bits_per_weight is None)
    if claim is None:
        assert verdict.method == "none"
    if label == "W8A16" and verdict.verified:
        assert "the computation is in 16 bit" in verdict.sentences[-1]
    if label == "BF16" and remedy == REFUSED:
        signs = ("0% of the linear layers", "4.2 are expected", "quantization=None")
        assert any(sign in verdict.sentences[0] for sign in signs)
    if remedy == UNKNOWN:
        assert "Nothing proves experts_int8" in verdict.sentences[-1]


def uniform(method: str, scheme: Scheme) -> Claim:
    return Claim(method, (Rule(ALL, scheme),))


def test_an_empty_log_proves_nothing_and_refutes_no_baseline() -> None:
    empty = ServedModel(vllm_log.parse(""), {})
    assert judge(uniform("awq", Scheme(4)), empty).outcome == "undecided"
    assert judge(None, empty).verified


def test_an_unknown_method_is_decided_by_what_memory_excludes() -> None:
    unknown = claim_of({"quantization_config": {"quant_method": "something_new"}})
    assert not judge(unknown, ServedModel(log("h200-vllm-0.26.0-gptq-served-unquantized"), QWEN_1_5B)).verified
    assert not judge(claim_of({}, "gptq"), ServedModel(log("cuda-0.26.0-gptq-served-plain"), QWEN_1_5B)).verified


def test_tensor_parallel_weights_are_those_of_all_gpus() -> None:
    one = log("cuda-0.26.0-awq-warm")
    half = replace(
        one,
        memory={**one.memory, "weights_gib": 0.55},
        settings={**one.settings, "tensor_parallel_size": 2},
    )
    config = {**QWEN_1_5B, "quantization_config": AWQ}
    assert judge(claim_of(config), ServedModel(half, config)).verified


def test_the_baselines_weights_stand_in_for_an_unknown_architecture() -> None:
    plain = log("h200-vllm-0.26.0-gptq-served-unquantized")
    verdict = judge(uniform("gptq", Scheme(4, group=128)), ServedModel(plain, {}, baseline_weights_gib=2.98))
    assert not verdict.verified
    assert "nothing was saved" in verdict.sentences[0]


def test_a_host_that_computes_4_bit_weights_with_8_bit_activations_is_labelled() -> None:
    config = {**TINY, "quantization_config": compressed(4, None, 32)}
    verdict = judge(claim_of(config), ServedModel(log("cpu-0.32.0-w4a16"), config, host_w4a8=True))
    assert (verdict.verified, verdict.label) == (True, "W4A8")
    assert "VLLM_CPU_INT4_W4A8" in verdict.sentences[-1]


@given(st.floats(0.2, 6.0))
def test_weight_memory_never_proves_two_claims_at_once(gib: float) -> None:
    one = log("cuda-0.26.0-bf16")
    facts = replace(
        one, memory={**one.memory, "weights_gib": round(gib, 2)}, settings={**one.settings, "quantization": "x"}
    )
    config = {**QWEN_1_5B, "quantization_config": GPTQ}
    claims = [claim_of(config), uniform("w8", Scheme(8, 8)), uniform("w16", Scheme(16))]
    assert sum(judge(c, ServedModel(facts, config)).verified for c in claims) <= 1


@pytest.mark.parametrize(
    ("config", "flag", "label", "bits"),
    [
        ({"quantization_config": GPTQ}, None, "W4A16", 4 + 20 / 128),
        ({"quantization_config": compressed(4, None, 128)}, None, "W4A16", 4.125),
        ({"quantization_config": W8A8}, None, "W8A8", 8),
        ({}, "fp8", "W8A8", 8),
        ({}, None, None, None),
        ({"quantization_config": {}}, "none", None, None),
    ],
)
def test_claims(config: dict[str, Any], flag: str | None, label: str | None, bits: float | None) -> None:
    claim = claim_of(config, flag)
    assert (claim and claim.label, claim and claim.bits) == (label, bits)
    if claim:
        assert claim.online == (flag is not None)
        assert claim.scheme("lm_head") is None


def test_sizes_are_those_of_the_real_model() -> None:
    model = model_of(QWEN_1_5B, None, None)
    assert model is not None
    # Qwen2.5-1.5B has 1 543 714 304 parameters; 28 · 2 048 of them are biases, which this arithmetic leaves out.
    assert 1_543_714_304 - (model.weights + model.rest) == 28 * 2048
    assert model_of({"model_type": "deepseek_v3"}, None, None) is None
    assert model_of({"model_type": "llama"}, None, None) is None


def test_layers_that_are_left_alone_lower_the_expected_share() -> None:
    patterns = ("lm_head", "re:.*down_proj", "model.layers.0.mlp", "re:(")
    claim = Claim("x", (*(Rule(pattern, None) for pattern in patterns), Rule(ALL, Scheme(4))))
    model = model_of(TINY, None, claim)
    assert model is not None
    assert model.share(claim) == pytest.approx(1 - (3 * 512 * 256 + 2 * 512 * 256) / model.weights)


def _write(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    header = json.dumps({k: {"dtype": d, "shape": s, "data_offsets": [0, 0]} for k, (d, s) in tensors.items()}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


LAYER = "model.layers.0.mlp.down_proj"
STORED = [  # as the quantizers write them: input 512, output 256
    ({f"{LAYER}.weight": ("BF16", [256, 512])}, 16.0),
    ({f"{LAYER}.weight": ("I8", [256, 512]), f"{LAYER}.weight_scale": ("BF16", [256, 1])}, 8.03125),
    ({f"{LAYER}.weight_packed": ("I32", [256, 64]), f"{LAYER}.weight_scale": ("BF16", [256, 16])}, 4.5),
    ({f"{LAYER}.qweight": ("I32", [64, 256]), f"{LAYER}.qzeros": ("I32", [4, 32]), f"{LAYER}.scales": ("F16", [4, 256]),
      f"{LAYER}.g_idx": ("I32", [512])}, 4.15625),
    ({f"{LAYER}.qweight": ("I32", [128, 256]), f"{LAYER}.scales": ("F16", [4, 256]),
      f"{LAYER}.g_idx": ("I32", [512])}, 8.125),
    ({"model.embed_tokens.weight": ("BF16", [1024, 256])}, None),
]  # fmt: skip


@pytest.mark.parametrize(("tensors", "bits"), STORED)
def test_bits_on_disk(tmp_path: Path, tensors: dict[str, tuple[str, list[int]]], bits: float | None) -> None:
    _write(tmp_path / "model.safetensors", tensors)
    headers = checkpoint.tensors(tmp_path)
    assert headers is not None
    model = model_of({}, headers, None)
    assert (model and model.stored) == bits


def test_a_checkpoint_in_16_bit_contradicts_its_config() -> None:
    config = {**TINY, "quantization_config": AWQ}
    facts = ServedModel(log("cpu-0.32.0-awq"), config, tensors={f"{LAYER}.weight": ("BF16", (256, 512))})
    verdict = judge(claim_of(config), facts)
    assert not verdict.verified
    assert "16.00 bits per weight" in verdict.sentences[0]
    packed = {f"{LAYER}.weight_packed": ("I32", (256, 64)), f"{LAYER}.weight_scale": ("BF16", (256, 4))}
    right = judge(claim_of(config), replace(facts, tensors=packed))
    assert (right.bits_source, right.bits_per_weight) == ("checkpoint", 4.125)


def test_a_baseline_stored_in_8_bit_is_refused() -> None:
    facts = ServedModel(log("cpu-0.32.0-bf16-no-inspection"), TINY, tensors={f"{LAYER}.weight": ("I8", (256, 512))})
    assert not judge(None, facts).verified


def test_folders_without_files(tmp_path: Path) -> None:
    assert checkpoint.config(tmp_path) == {}
    assert checkpoint.tensors(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    assert checkpoint.tensors(tmp_path) is None
    assert checkpoint.config(tmp_path) == {}


_keys = st.sampled_from(["quant_method", "bits", "group_size", "config_groups", "ignore", "weight_block_size"])
_values = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@given(st.dictionaries(_keys, _values))
def test_odd_configs_never_crash(stated: dict[str, Any]) -> None:
    for method in ("gptq", "awq", "compressed-tensors", "fp8", "bitsandbytes"):
        config = {**TINY, "quantization_config": {"quant_method": method, **stated}}
        judge(claim_of(config), ServedModel(vllm_log.parse(""), config))
