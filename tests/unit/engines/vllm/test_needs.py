"""needs: the arithmetic before a start, against what vLLM logged, and as properties."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.engines.vllm import log as vllm_log
from quantbench.engines.vllm.formats import claim_of
from quantbench.engines.vllm.inspection import Gpu, Subject, inspect
from quantbench.engines.vllm.layers import model_of
from quantbench.engines.vllm.needs import (
    GIB,
    Kv,
    Need,
    Setting,
    groups,
    kv_of,
    need,
    step_of,
    value_bytes_of,
    weights_gib,
)
from quantbench.files import read_json
from quantbench.observe import cards
from quantbench.records.server import ServerSpec, Step

ROOT = Path(__file__).parents[4]
QWEN_1_5B: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "vocab_size": 151936, "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
    "sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 21,
}  # fmt: skip
AWQ = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}}
GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}}
SERVED = {"bf16": ({}, None), "awq": (AWQ, None), "gptq": (GPTQ, None), "fp8": ({}, "fp8")}


def needed(config: dict[str, Any], setting: Setting, flag: str | None = None) -> Need:
    claim = claim_of(config, flag)
    model = model_of(config, None, claim)
    assert model
    found = need(groups(model, config, claim), config, setting, kv_of(config))
    assert found
    return found


@pytest.mark.parametrize("name", SERVED)
def test_the_kept_gpu_run_needed_what_the_arithmetic_says(name: str) -> None:
    """The errors of the docstring: weights −0.2 to +4.4 %, KV tokens −1.8 to −0.7 %."""
    more, flag = SERVED[name]
    logged = read_json(ROOT / "docs/reference/h100/servers" / name / "ready.json")["memory"]
    found = needed({**QWEN_1_5B, **more}, Setting(79.18, 0.80, 4096, 128), flag)
    assert -0.003 < found.weights_gib / logged["weights_gib"] - 1 < 0.045
    tokens = found.tokens(4096)
    assert tokens
    assert -0.018 < tokens / logged["kv_cache_tokens"] - 1 < -0.007
    assert abs(found.activations_gib - logged["activation_peak_gib"]) < 0.03
    assert found.graphs_gib >= logged["cuda_graphs_gib"]


@pytest.mark.parametrize(("log", "name"), [("bf16", "bf16"), ("fp8", "fp8"), ("gptq-served-unquantized", "bf16")])
def test_logged_kv_tokens_are_logged_gib_by_bytes_of_a_token(log: str, name: str) -> None:
    text = (ROOT / f"tests/data/logs/h200-vllm-0.26.0-{log}.log").read_text(encoding="utf-8")
    memory = vllm_log.parse(text).memory
    more, flag = SERVED[name]
    found = needed({**QWEN_1_5B, **more}, Setting(139.8, 0.2, 4096, 128), flag)
    assert math.isclose(found.weights_gib, memory["weights_gib"], rel_tol=0.005)
    assert math.isclose(memory["kv_cache_gib"] * GIB / found.kv.per_token, memory["kv_cache_tokens"], rel_tol=0.001)


# Layers × heads × width as published; GiB and tokens as people have posted them from logs of vLLM.
DENSE = {"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584}
QWEN3_8B = {
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096, "head_dim": 128,
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss", "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8,
    "hidden_size": 2880, "head_dim": 64, "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
}  # fmt: skip
GEMMA3 = {
    "model_type": "gemma3_text", "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
    "hidden_size": 1152, "head_dim": 256, "sliding_window": 512,
}  # fmt: skip
DEEPSEEK = {
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "hidden_size": 7168, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
}  # fmt: skip
MISTRAL = {
    "model_type": "mistral", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "hidden_size": 4096, "sliding_window": 4096,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "full", "sliding", "window"),
    [
        (DENSE, 2 * 4 * 128 * 28 * 2, 0, 0),
        (QWEN3_8B, 2 * 8 * 128 * 36 * 2, 0, 0),
        (GPT_OSS, 2 * 8 * 64 * 18 * 2, 2 * 8 * 64 * 18 * 2, 128),
        (GEMMA3, 2 * 256 * 4 * 2, 2 * 256 * 22 * 2, 512),
        ({**GEMMA3, "sliding_window_pattern": 2}, 2 * 256 * 13 * 2, 2 * 256 * 13 * 2, 512),
        (DEEPSEEK, (512 + 64) * 61 * 2, 0, 0),
        (MISTRAL, 0, 2 * 8 * 128 * 32 * 2, 4096),
        ({**MISTRAL, "sliding_window": None}, 2 * 8 * 128 * 32 * 2, 0, 0),
        (QWEN_1_5B, 2 * 2 * 128 * 28 * 2, 0, 0),
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 2 * 768 * 12 * 2, 0, 0),
        ({"model_type": "x", "text_config": QWEN3_8B}, 2 * 8 * 128 * 36 * 2, 0, 0),
        ({**QWEN3_8B, "num_kv_shared_layers": 16}, 2 * 8 * 128 * 20 * 2, 0, 0),
    ],
    ids=str,
)
def test_bytes_of_a_token(config: dict[str, Any], full: int, sliding: int, window: int) -> None:
    assert kv_of(config) == Kv(full, sliding, window)


@pytest.mark.parametrize(
    ("config", "gib", "tokens"), [(DENSE, 13.1, 245_360), (QWEN3_8B, 18.69, 136_080), (GPT_OSS, 10.52, 303_646)]
)
def test_posted_logs_have_as_many_tokens(config: dict[str, Any], gib: float, tokens: int) -> None:
    """vLLM counts layers with a window, of which few tokens are kept, as part of the others."""
    assert math.isclose(gib * GIB / kv_of(config).of_request(131_072) * 131_072, tokens, rel_tol=0.011)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"mamba_d_state": 16}, "mamba_d_state"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
        ({"linear_num_key_heads": 16}, "state"),
        ({"attention_chunk_size": 8192}, "attention_chunk_size"),
        ({"global_head_dim": 512}, "global_head_dim"),
        ({"num_key_value_heads": [8, 0, 8]}, "num_key_value_heads"),
        ({"num_hidden_layers": None}, "how many layers"),
    ],
)
def test_other_kinds_of_cache_are_undecided(more: dict[str, Any], word: str) -> None:
    kv = kv_of({**QWEN3_8B, **more})
    assert word in kv.undecided
    found = Need(70, 10, 1, 1, 0.3, kv)
    assert (found.concurrency(4096), found.tokens(4096)) == (None, None)


def test_the_cache_is_in_the_bits_that_are_asked_or_stored() -> None:
    modelopt = {
        "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}
    }
    beside = {"quantization_config": {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}}
    compressed = {"quantization_config": {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}}
    assert [value_bytes_of(config) for config in ({}, modelopt, beside, compressed)] == [2, 1, 1, 1]
    assert [value_bytes_of(modelopt, asked) for asked in ("bfloat16", "fp8_e4m3", "auto")] == [2, 1, 1]


@given(st.integers(1, 100), st.integers(1, 16), st.sampled_from([64, 128]), st.integers(0, 5000), st.integers(1, 9999))
def test_requests_grow_with_their_length_and_a_window_only_saves(
    depth: int, heads: int, width: int, window: int, length: int
) -> None:
    plain = {
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "hidden_size": heads * width,
    }
    kv, full = kv_of({**plain, "model_type": "gemma3_text", "sliding_window": window}), kv_of(plain)
    assert 0 < kv.of_request(length) <= full.of_request(length) == length * full.full
    assert kv.of_request(length) <= kv.of_request(length + 1)
    assert math.isclose(kv.per_token, full.per_token)
    assert kv_of(plain, value_bytes=1).full * 2 == full.full
    assert kv_of(plain, gpus=2).full >= full.full / 2, "a head is not divided"


@given(st.floats(8, 200), st.floats(0.1, 1), st.integers(1, 512), st.sampled_from([None, 512, 8192]))
def test_all_memory_is_accounted_for(card: float, share: float, seqs: int, batched: int | None) -> None:
    setting = Setting(card, share, 4096, seqs, batched)
    found = needed(QWEN_1_5B, setting)
    taken = found.weights_gib + found.activations_gib + found.graphs_gib + found.outside_gib
    assert math.isclose(taken + found.kv_gib, share * card)
    short, long = found.concurrency(1000), found.concurrency(2000)
    assert short is not None
    assert long is not None
    assert math.isclose(short, 2 * long)
    assert (short > 0) == (found.kv_gib > 0)
    assert needed({**QWEN_1_5B, **AWQ}, setting).kv_gib > found.kv_gib


MOE = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
    "vocab_size": 151936, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "tie_word_embeddings": False, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
}  # fmt: skip


@pytest.mark.parametrize("config", [QWEN_1_5B, {**QWEN_1_5B, **AWQ}, MOE, {**QWEN_1_5B, "tie_word_embeddings": False}])
def test_groups_are_the_whole_model(config: dict[str, Any]) -> None:
    claim = claim_of(config)
    model = model_of(config, None, claim)
    assert model
    parts = groups(model, config, claim)
    assert math.isclose(sum(part.weights for part in parts), model.weights + model.rest)
    names = [part.name for part in parts]
    assert ("experts" in names) == ("num_experts" in config)
    assert ("lm_head" in names) == (not config["tie_word_embeddings"])
    bits = {part.name: part.bits for part in parts}
    assert bits["embeddings"] == 16
    assert bits["attention"] == pytest.approx(4.15625 if "quantization_config" in config else 16)


def step(config: dict[str, Any], served: str = "") -> Step:
    claim = claim_of(config)
    model = model_of(config, None, claim)
    assert model
    found = step_of(model, config, claim, kv_of(config), max_num_seqs=64, served=served)
    assert found
    return found


def stored(config: dict[str, Any]) -> float:
    model = model_of(config, None, None)
    assert model
    return (weights_gib(groups(model, config, None)) or 0) * GIB


def test_a_step_reads_what_it_needs_only() -> None:
    """Of experts those that are used; the embeddings are a table, but where they are lm_head as well."""
    tied, apart, experts = step(QWEN_1_5B), step({**QWEN_1_5B, "tie_word_embeddings": False}), step(MOE)
    table = 151936 * 1536
    assert math.isclose(tied.shared_bytes, stored(QWEN_1_5B))
    assert math.isclose(apart.shared_bytes, stored({**QWEN_1_5B, "tie_word_embeddings": False}) - 2 * table)
    assert tied.head == apart.head == table
    assert sum(tied.multiplied.values()) == 28 * (2 * 1536 * 1536 + 2 * 1536 * 256 + 3 * 1536 * 8960)
    assert (tied.experts, tied.expert_bytes) == (0, 0)
    assert experts.experts == MOE["num_experts"]
    assert experts.experts_used == MOE["num_experts_per_tok"]
    assert experts.shared_bytes + experts.expert_bytes * experts.experts_used / experts.experts < 0.15 * stored(MOE)
    assert sum(experts.multiplied.values()) < 0.15 * stored(MOE) / 2


def test_a_step_multiplies_in_the_precision_that_is_served() -> None:
    fp8 = {**QWEN_1_5B, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    assert set(step(fp8).multiplied) == {"fp8"}
    assert set(step(fp8, "W8A16").multiplied) == {"bf16"}, "a card without FP8 widens the weights"
    assert step(fp8).shared_bytes < 0.6 * step(QWEN_1_5B).shared_bytes
    awq = {**QWEN_1_5B, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    assert set(step(awq).multiplied) == {"bf16"}


def test_a_cache_of_a_set_size_is_that_size_whatever_the_share_is() -> None:
    found = needed(QWEN_1_5B, Setting(80, 0.01, kv_gib=5))
    assert found.kv_gib == pytest.approx(5)
    assert needed(QWEN_1_5B, Setting(8, 0.9, kv_gib=50)).kv_gib < 8, "no more than the card has"


_KEYS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
    "intermediate_size", "sliding_window", "sliding_window_pattern", "layer_types", "kv_lora_rank", "num_experts",
    "num_experts_per_tok", "num_kv_shared_layers", "max_window_layers", "use_sliding_window", "quantization_config",
    "text_config", "tie_word_embeddings",
)  # fmt: skip
_VALUES = (
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=3))
    | st.dictionaries(st.sampled_from(_KEYS), st.integers(-1, 99) | st.none(), max_size=4)
)  # fmt: skip


@given(st.sampled_from(["qwen2", "qwen3_moe", "gemma3_text", "x"]), st.dictionaries(st.sampled_from(_KEYS), _VALUES))
def test_any_config_has_numbers_or_is_undecided(family: str, more: dict[str, Any]) -> None:
    config = {**QWEN_1_5B, "model_type": family, **more}
    kv = kv_of(config)
    assert kv.undecided or kv.of_request(100) > 0
    assert value_bytes_of(config) in (0.5625, 1, 2, 4)
    subject = Subject(ServerSpec(model="m", source="m"), "", "config", config, None)
    found = inspect(subject, Gpu.of(cards.CARDS[0]))
    assert all(part.weights > 0 for part in found.parts)
    assert found.fit is None or math.isfinite(found.fit.kv_gib)
    assert found.fit or found.warnings, "what is not known has its reason"


def test_unknown_bits_are_no_number() -> None:
    config = {**QWEN_1_5B, "quantization_config": {"quant_method": "quip"}}
    claim = claim_of(config)
    model = model_of(config, None, claim)
    assert model
    parts = groups(model, config, claim)
    assert weights_gib(parts) is None
    assert step_of(model, config, claim, kv_of(config), max_num_seqs=64) is None
    assert need(parts, config, Setting(80), kv_of(config)) is None
