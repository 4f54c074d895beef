"""Formats of checkpoints: what their words claim, what their headers hold, and what vLLM's log makes of it.

The headers are of the layouts that the quantizers write, of a Llama-3.1-8B of which two layers are listed.
"""

# ruff: noqa: E501 - a row of a table is a line

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.engines.vllm import log as vllm_log
from quantbench.engines.vllm.evidence import ServedModel, Verdict, claim_of, judge
from quantbench.engines.vllm.formats import ALL, FP8, NVFP4, Claim, Rule, fits
from quantbench.engines.vllm.layers import HEAD, Tensors, is_tied, model_of
from quantbench.engines.vllm.quantization import claim_mismatch

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 128256,
    "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
}  # fmt: skip
MODULES = {
    "self_attn.q_proj": (4096, 4096), "self_attn.k_proj": (1024, 4096), "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096), "mlp.gate_proj": (14336, 4096), "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}  # fmt: skip
"""(outputs, inputs) of each linear layer."""
LINEAR = 32 * sum(rows * columns for rows, columns in MODULES.values())
REST = 2 * 128256 * 4096
Stored = dict[str, tuple[str, tuple[int, ...]]]
Layout = Callable[[str, int, int], Stored]


def plain(name: str, out: int, into: int) -> Stored:
    return {f"{name}.weight": ("BF16", (out, into))}


def gptq(bits: int, group: int = 128, *, index: bool = True) -> Layout:
    def layout(name: str, out: int, into: int) -> Stored:
        groups = into // group
        found: Stored = {
            f"{name}.qweight": ("I32", (into * bits // 32, out)), f"{name}.scales": ("F16", (groups, out)),
            f"{name}.qzeros": ("I32", (groups, out * bits // 32)),
        }  # fmt: skip
        return found | ({f"{name}.g_idx": ("I32", (into,))} if index else {})

    return layout


def awq(name: str, out: int, into: int) -> Stored:
    return {
        f"{name}.qweight": ("I32", (into, out // 8)), f"{name}.scales": ("F16", (into // 128, out)),
        f"{name}.qzeros": ("I32", (into // 128, out // 8)),
    }  # fmt: skip


def packed(bits: int, group: int, zeros: bool = False) -> Layout:
    def layout(name: str, out: int, into: int) -> Stored:
        found: Stored = {
            f"{name}.weight_packed": ("I32", (out, into * bits // 32)), f"{name}.weight_shape": ("I64", (2,)),
            f"{name}.weight_scale": ("BF16", (out, into // group if group else 1)),
        }  # fmt: skip
        return found | ({f"{name}.weight_zero_point": ("I32", (out * bits // 32, into // group))} if zeros else {})

    return layout


def eight(dtype: str, scale: tuple[int, ...] | None = None) -> Layout:
    def layout(name: str, out: int, into: int) -> Stored:
        return {f"{name}.weight": (dtype, (out, into)), f"{name}.weight_scale": ("F32", scale or (out, 1))}

    return layout


def blocks(name: str, out: int, into: int) -> Stored:
    scales = (-(-out // 128), -(-into // 128))
    return {f"{name}.weight": ("F8_E4M3", (out, into)), f"{name}.weight_scale_inv": ("F32", scales)}


def micro(group: int, scale: str, weight: str = "weight_packed", *more: str) -> Layout:
    def layout(name: str, out: int, into: int) -> Stored:
        found: Stored = {
            f"{name}.{weight}": ("U8", (out, into // 2)), f"{name}.weight_scale": (scale, (out, into // group)),
        }  # fmt: skip
        return found | {f"{name}.{part}": ("F32", (1,)) for part in more}

    return layout


def nf4(name: str, out: int, into: int) -> Stored:
    n = out * into
    return {
        f"{name}.weight": ("U8", (n // 2, 1)), f"{name}.weight.absmax": ("F32", (n // 64,)),
        f"{name}.weight.quant_map": ("F32", (16,)), f"{name}.weight.quant_state.bitsandbytes__nf4": ("U8", (83,)),
    }  # fmt: skip


def int8_bnb(name: str, out: int, into: int) -> Stored:
    return {f"{name}.weight": ("I8", (out, into)), f"{name}.SCB": ("F32", (out,))}


def ct(layout: str, weights: dict[str, Any], inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, **more}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }


def integers(bits: int, group: int | None, symmetric: bool = True) -> dict[str, Any]:
    strategy = "group" if group else "channel"
    return {"num_bits": bits, "type": "int", "strategy": strategy, "group_size": group, "symmetric": symmetric}


def floats(bits: int, group: int | None = None, **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": "float", "group_size": group, "symmetric": True, **more}


@dataclass(frozen=True)
class Format:
    """A checkpoint: its words, how a layer is stored (None: dummy weights), what the log names, and what is right."""

    words: dict[str, Any] | None
    layout: Layout | None
    kernel: str
    label: str
    bits: float
    logged: str = "compressed-tensors"
    flag: str | None = None


MARLIN = "MarlinLinearKernel for "
FORMATS = {
    "gptq 4 bit": Format({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, gptq(4),
                         MARLIN + "AutoGPTQMarlinLinearMethod", "W4A16", 4.156, "gptq_marlin"),
    "gptq 8 bit, group 32": Format({"quant_method": "gptq", "bits": 8, "group_size": 32}, gptq(8, 32),
                                   MARLIN + "AutoGPTQMarlinLinearMethod", "W8A16", 8.75, "gptq_marlin"),
    "gptq 3 bit without g_idx": Format({"quant_method": "gptq", "bits": 3, "group_size": 128}, gptq(3, index=False),
                                       "ExllamaLinearKernel for GPTQLinearMethod", "W3A16", 3.148, "gptq"),
    "awq": Format({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, awq,
                  MARLIN + "AutoAWQMarlinLinearMethod", "W4A16", 4.156, "awq_marlin"),
    "awq with w_bit and q_group_size": Format({"quant_method": "awq", "w_bit": 4, "q_group_size": 128}, awq,
                                              MARLIN + "AutoAWQMarlinLinearMethod", "W4A16", 4.156, "awq_marlin"),
    "auto-round": Format({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True,
                          "packing_format": "auto_round:auto_gptq"}, gptq(4), MARLIN + "INCLinearMethod", "W4A16", 4.156, "inc"),
    "W4A16": Format(ct("pack-quantized", integers(4, 128)), packed(4, 128), MARLIN + "CompressedTensorsWNA16", "W4A16", 4.125),
    "W4A16 asymmetric, group 64": Format(ct("pack-quantized", integers(4, 64, symmetric=False)), packed(4, 64, zeros=True),
                                         MARLIN + "CompressedTensorsWNA16", "W4A16", 4.3125),
    "W8A16 per channel": Format(ct("pack-quantized", integers(8, None)), packed(8, 0), MARLIN + "CompressedTensorsWNA16",
                                "W8A16", 8.003),
    "W8A8 integers": Format(ct("int-quantized", integers(8, None), integers(8, None)), eight("I8"),
                            "CutlassScaledMMLinearKernel for CompressedTensorsW8A8Int8", "W8A8", 8.006),
    "W4A8": Format(ct("pack-quantized", integers(4, 128), integers(8, None)), packed(4, 128),
                   "CutlassW4A8LinearKernel for CompressedTensorsW4A8Fp8", "W4A8", 4.125),
    "FP8 per channel": Format(ct("float-quantized", floats(8, strategy="channel"), floats(8, strategy="token")),
                              eight("F8_E4M3"), "CutlassFP8ScaledMMLinearKernel for CompressedTensorsW8A8Fp8", "W8A8", 8.006),
    "FP8 blocks, compressed-tensors": Format(
        ct("float-quantized", floats(8, strategy="block", block_structure=[128, 128]), floats(8)), blocks,
        "DeepGemmFp8BlockScaledMMKernel for CompressedTensorsW8A8Fp8", "W8A8", 8.002),
    "NVFP4": Format(ct("nvfp4-pack-quantized", floats(4, 16, strategy="tensor_group"), floats(4, 16)),
                    micro(16, "F8_E4M3", "weight_packed", "weight_global_scale", "input_global_scale"),
                    "FlashInferCutlassNvFp4LinearKernel for NVFP4 GEMM", "NVFP4 W4A4", 4.5),
    "NVFP4 weights only": Format(ct("nvfp4-pack-quantized", floats(4, 16, strategy="tensor_group")),
                                 micro(16, "F8_E4M3", "weight_packed", "weight_global_scale"),
                                 "MarlinNvFp4LinearKernel for NVFP4 GEMM", "NVFP4 W4A16", 4.5),
    "MXFP4": Format(ct("mxfp4-pack-quantized", floats(4, 32, scale_dtype="torch.uint8")), micro(32, "U8"),
                    "MarlinMxFp4LinearKernel for MXFP4 GEMM", "MXFP4 W4A16", 4.25),
    "fp8 per tensor": Format({"quant_method": "fp8", "activation_scheme": "static"}, eight("F8_E4M3", ()),
                             "CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod", "W8A8", 8.0, "fp8"),
    "fp8 blocks": Format({"quant_method": "fp8", "weight_block_size": [128, 128]}, blocks,
                         "DeepGemmFp8BlockScaledMMKernel for Fp8LinearMethod", "W8A8", 8.002, "fp8"),
    "fbgemm_fp8": Format({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, eight("F8_E4M3"),
                         "CutlassFP8ScaledMMLinearKernel for FBGEMMFp8LinearMethod", "W8A8", 8.006, "fbgemm_fp8"),
    "modelopt FP8": Format({"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]}, eight("F8_E4M3", ()),
                           "CutlassFP8ScaledMMLinearKernel for ModelOptFp8LinearMethod", "W8A8", 8.0, "modelopt"),
    "modelopt FP8 in hf_quant_config.json": Format(
        {"_file": "hf_quant_config.json", "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
        eight("F8_E4M3", ()), "CutlassFP8ScaledMMLinearKernel for ModelOptFp8LinearMethod", "W8A8", 8.0, "modelopt"),
    "modelopt NVFP4": Format({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
                             micro(16, "F8_E4M3", "weight", "weight_scale_2", "input_scale"),
                             "FlashInferCutlassNvFp4LinearKernel for NVFP4 GEMM", "NVFP4 W4A4", 4.5, "modelopt_fp4"),
    "bitsandbytes NF4": Format({"quant_method": "bitsandbytes", "load_in_4bit": True}, nf4, "", "W4A16", 4.5, "bitsandbytes"),
    "bitsandbytes int8": Format({"quant_method": "bitsandbytes", "load_in_8bit": True}, int8_bnb, "", "W8A8", 8.0, "bitsandbytes"),
    "torchao int4": Format({"quant_method": "torchao", "quant_type": {"default": {
        "_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}}, None, "", "W4A16", 4.25, "torchao"),
    "quark fp8": Format({"quant_method": "quark", "global_quant_config": {
        "weight": {"dtype": "fp8_e4m3"}, "input_tensors": {"dtype": "fp8_e4m3"}}, "exclude": ["lm_head"]}, eight("F8_E4M3", ()),
        "CutlassFP8ScaledMMLinearKernel for QuarkW8A8Fp8", "W8A8", 8.0, "quark"),
    "fp8 online": Format(None, plain, "CutlassFP8ScaledMMLinearKernel for Fp8LinearMethod", "W8A8", 8.0, "fp8", "fp8"),
    "dummy NVFP4": Format(ct("nvfp4-pack-quantized", floats(4, 16, strategy="tensor_group"), floats(4, 16)), None,
                          "FlashInferCutlassNvFp4LinearKernel for NVFP4 GEMM", "NVFP4 W4A4", 4.5),
}  # fmt: skip


def headers(layout: Layout, layers: int = 2, **other: Layout) -> Tensors:
    """Embeddings, lm_head and the first layers; `other` has modules that are stored in another way."""
    found: Stored = {"model.embed_tokens.weight": ("BF16", (128256, 4096)), "lm_head.weight": ("BF16", (128256, 4096))}
    for index in range(layers):
        found[f"model.layers.{index}.input_layernorm.weight"] = ("BF16", (4096,))
        for name, (out, into) in MODULES.items():
            found |= other.get(name.partition(".")[2], layout)(f"model.layers.{index}.{name}", out, into)
    return found


def log(quantization: str | None, kernel: str, weights_gib: float | None) -> vllm_log.LogFacts:
    """What a CUDA build prints."""
    lines = [
        f"[core.py:140] Initializing a V1 LLM engine (v0.33.0) with config: model='m', dtype=torch.bfloat16, "
        f"tensor_parallel_size=1, quantization={quantization}, quantization_config=None, enforce_eager=False, x=1",
        f"[x.py:1] Using {kernel}" if kernel else "",
        f"[model_runner.py:9] Model loading took {weights_gib:.2f} GiB memory and 2.1 seconds" if weights_gib else "",
    ]
    return vllm_log.parse("".join(f"(EngineCore pid=71) INFO 12-01 09:00:10 {line}\n" for line in lines if line))


def gib(bits: float, linear: float = LINEAR, rest: float = REST) -> float:
    """What vLLM says of weights of so many bits: some buffers come on top."""
    return (linear * bits + rest * 16) / 8 / 2**30 + 0.05


def judged(form: Format, weights_gib: float | None, kernel: str | None = None, layout: Layout | None = None) -> Verdict:
    config = {**LLAMA, **({"quantization_config": form.words} if form.words else {})}
    tensors = headers(layout or form.layout) if form.layout else None
    facts = log(form.logged, form.kernel if kernel is None else kernel, weights_gib)
    return judge(claim_of(config, form.flag), ServedModel(facts, config, tensors))


@pytest.mark.parametrize("name", FORMATS)
def test_an_honest_checkpoint_is_verified_with_its_bits(name: str) -> None:
    form = FORMATS[name]
    verdict = judged(form, gib(form.bits))
    assert (verdict.outcome, verdict.label) == ("verified", form.label), verdict.sentences
    assert verdict.bits_per_weight == pytest.approx(form.bits, abs=0.01 if verdict.bits_source == "checkpoint" else 0.3)


@pytest.mark.parametrize("name", [name for name in FORMATS if "bitsandbytes" not in name and "torchao" not in name])
def test_by_the_kernel_alone_where_no_memory_is_logged(name: str) -> None:
    assert judged(FORMATS[name], None).outcome == "verified"


@pytest.mark.fault(
    "a quantized checkpoint of any known format is served in 16 bit",
    "contradicted by the weight memory: the server is refused",
)
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_served_in_16_bit_is_refused(name: str) -> None:
    form = FORMATS[name]
    verdict = judged(form, gib(16), kernel="")
    assert (verdict.outcome, verdict.label) == ("contradicted", "BF16"), verdict.sentences


@pytest.mark.parametrize(
    "name", [name for name, form in FORMATS.items() if form.layout and not form.flag and "bitsandbytes" not in name]
)
def test_a_checkpoint_that_stores_16_bit_contradicts_its_words(name: str) -> None:
    verdict = judged(FORMATS[name], None, layout=plain)
    assert verdict.outcome == "contradicted"
    assert "is stored in 16 bit" in verdict.sentences[0]


@pytest.mark.parametrize("name", FORMATS)
def test_without_log_lines_it_is_undecided_and_measured_with_a_warning(name: str) -> None:
    form = FORMATS[name]
    verdict = judged(form, None, kernel="")
    assert verdict.outcome == "undecided"
    assert "Nothing proves" in verdict.sentences[-1]


@pytest.mark.parametrize("name", FORMATS)
def test_weights_that_lie_elsewhere_contradict_nothing(name: str) -> None:
    """--cpu-offload-gb, pipeline and expert parallelism: the log's figure is a part of the weights."""
    assert judged(FORMATS[name], gib(FORMATS[name].bits) * 0.5).outcome in ("verified", "undecided")


@pytest.mark.fault("the layers say FP8, the memory says BF16", "refused, with both facts")
def test_both_facts_are_told_where_layers_and_memory_disagree() -> None:
    verdict = judged(FORMATS["fp8 online"], gib(16))
    assert (verdict.outcome, verdict.label) == ("contradicted", "W8A8")
    assert "the layers say W8A8, the memory BF16" in verdict.sentences[0]


GPTQ = FORMATS["gptq 4 bit"].words or {}
MIXED: dict[str, tuple[dict[str, Any], dict[str, Layout], float]] = {
    "gptq dynamic skip": ({**GPTQ, "dynamic": {r"-:.*\.down_proj.*": {}}}, {"down_proj": plain}, 0.731),
    "gptq dynamic eight bits": ({**GPTQ, "dynamic": {r"+:.*\.down_proj": {"bits": 8}}}, {"down_proj": gptq(8)}, 1.0),
    "awq modules_to_not_convert": (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["o_proj"]}, {"o_proj": plain}, 0.923),
    "auto-round extra_config": (
        {"quant_method": "auto-round", "bits": 4, "group_size": 128,
         "extra_config": {f"model.layers.{n}.mlp.up_proj": {"bits": 16} for n in range(32)}}, {"up_proj": plain}, 0.731),
    "targets of the MLP": (
        ct("pack-quantized", integers(4, 128), targets=["re:.*mlp.*proj"]), dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), plain), 0.808),
    "ignore by name": (
        {**ct("pack-quantized", integers(4, 128)), "ignore": ["lm_head", "re:.*v_proj$"]}, {"v_proj": plain}, 0.981),
    "gptq modules_in_block_to_quantize": (
        {**GPTQ, "modules_in_block_to_quantize": [["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj"], ["mlp.up_proj"]]},
        dict.fromkeys(("o_proj", "gate_proj", "down_proj"), plain), 0.385),
    "auto-round expressions": (
        {"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": {
            ".*self_attn.*": {"bits": 8}, "mlp.up_proj": {"bits": 16, "data_type": "fp"}, "up_proj": {"bits": 16}}},
        {**dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), gptq(8)), "up_proj": plain}, 0.731),
    "auto-round blocks": (
        {"quant_method": "auto-round", "bits": 4, "group_size": 128, "block_name_to_quantize": "model.language_model.layers"}, {}, 1.0),
    "a layer's own target before its kind": (
        {**ct("pack-quantized", integers(4, 128)), "config_groups": {
            "group_0": {"targets": ["Linear"], "weights": integers(4, 128)},
            "group_1": {"targets": ["re:.*down_proj"], "weights": integers(8, None)}}}, {"down_proj": packed(8, 0)}, 1.0),
    "modelopt mixed": (
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
            f"model.layers.{n}.{module}": {"quant_algo": "FP8"} for n in range(32) for module in MODULES if "mlp" in module}},
        dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), plain), 0.808),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_which_layers_is_taken_from_the_checkpoints_own_words(name: str) -> None:
    words, other, share = MIXED[name]
    usual = (
        awq
        if "awq" in name
        else packed(4, 128)
        if "config_groups" in words
        else eight("F8_E4M3", ())
        if "modelopt" in name
        else gptq(4)
    )
    config = {**LLAMA, "quantization_config": words}
    claim = claim_of(config)
    tensors = headers(usual, **other)
    model = model_of(config, tensors, claim)
    assert claim is not None
    assert model is not None
    assert model.share(claim) == pytest.approx(share, abs=0.001)
    assert model.plain(claim) == 0
    kernel = "CutlassFP8ScaledMMLinearKernel for X" if "modelopt" in name else MARLIN + "X"
    bits = model.stored
    assert bits is not None
    verdict = judge(claim, ServedModel(log("x", kernel, gib(bits)), config, tensors))
    assert verdict.outcome == "verified", verdict.sentences
    assert ("of the linear layers' weights" in " ".join(verdict.sentences)) == (share < 0.995)
    by_formula = model_of(config, None, claim)
    assert by_formula is not None
    assert by_formula.share(claim) == pytest.approx(share, abs=0.001)
    verdict = judge(claim, ServedModel(log("x", kernel, gib(bits)), config))
    assert verdict.outcome == "verified", "dummy weights: the arithmetic of the family instead of the headers"


HEADS: dict[str, tuple[dict[str, Any], Layout]] = {
    "compressed-tensors": ({**ct("pack-quantized", integers(4, 128)), "ignore": []}, packed(4, 128)),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": []}, micro(16, "F8_E4M3", "weight", "weight_scale_2")),
}  # fmt: skip


def test_a_method_is_known_by_the_name_that_vllm_makes_of_it() -> None:
    words = ct("pack-quantized", integers(4, 128)) | {"quant_method": "compressed_tensors"}
    claim = claim_of({**LLAMA, "quantization_config": words})
    assert claim
    assert (claim.method, claim.label) == ("compressed-tensors", "W4A16")


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("stored", [True, False])
def test_formats_whose_words_are_of_lm_head_too_do_not_contradict_either_way(name: str, stored: bool) -> None:
    words, layout = HEADS[name]
    config = {**LLAMA, "quantization_config": words}
    tensors = {k: v for k, v in headers(layout).items() if k != "lm_head.weight"}
    tensors |= (layout if stored else plain)("lm_head", 128256, 4096)
    verdict = judge(claim_of(config), ServedModel(log("x", MARLIN + "X", None), config, tensors))
    assert verdict.outcome == "verified", verdict.sentences
    model = model_of(config, tensors, claim_of(config))
    assert model is not None
    assert (HEAD in [layer.name for layer in model.layers]) == stored


def test_words_that_name_layers_as_another_version_did() -> None:
    """transformers moved `vision_tower` below `model`, and quantizers write the names that they see."""
    for ignored, tower in (
        ("model.vision_tower", "vision_tower"), ("re:vision_tower.*", "model.vision_tower"), ("vision_tower", "model.vision_tower"),
        ("re:model.vision_tower.*", "vision_tower"),
    ):  # fmt: skip
        words = {**ct("pack-quantized", integers(4, 128)), "ignore": ["lm_head", ignored]}
        config = {**LLAMA, "quantization_config": words}
        seen = {f"{tower}.encoder.layers.{n}.mlp.fc1.weight": ("BF16", (8192, 8192)) for n in range(2)}
        verdict = judge(
            claim_of(config), ServedModel(log("x", MARLIN + "X", None), config, headers(packed(4, 128)) | seen)
        )
        assert verdict.outcome == "verified", (ignored, verdict.sentences)
    layer = "language_model.model.layers.3.self_attn.q_proj"
    for pattern in (
        "model.layers.3",
        "model.language_model.layers.3.self_attn",
        "re:model.language_model.layers.3.*",
        "re:model.layers",
    ):
        assert fits(pattern, layer), pattern
    for pattern in ("model.layers.3", "re:.*language_model.*", "re:layers"):
        assert not fits(pattern, "vision_tower.layers.3.mlp.fc1"), pattern


@pytest.mark.parametrize("name", ["gptq 4 bit", "awq", "W4A16", "fp8 blocks"])
def test_a_tower_for_images_that_the_words_do_not_name_is_no_fault(name: str) -> None:
    form = FORMATS[name]
    config = {**LLAMA, "num_hidden_layers": 2, "quantization_config": form.words}
    seen = {f"visual.blocks.{n}.attn.qkv.weight": ("BF16", (8192, 8192)) for n in range(8)}
    assert form.layout is not None
    tensors = headers(form.layout) | seen
    claim = claim_of(config)
    verdict = judge(claim, ServedModel(log("x", form.kernel, None), config, tensors))
    assert verdict.outcome == "verified", verdict.sentences
    model = model_of(config, tensors, claim)
    assert model is not None
    assert claim is not None
    assert model.share(claim) == pytest.approx(1 - 8 * 8192**2 / model.weights)
    assert model.bits(claim, 16) == pytest.approx(model.stored, rel=0.01)


def test_four_bits_in_containers_of_another_type_are_counted_by_their_scales() -> None:
    """bnb_4bit_quant_storage: bfloat16, as FSDP wants it."""

    def stored(name: str, out: int, into: int) -> Stored:
        return {**nf4(name, out, into), f"{name}.weight": ("BF16", (out * into // 4, 1))}

    config = {**LLAMA, "quantization_config": FORMATS["bitsandbytes NF4"].words}
    model = model_of(config, headers(stored), claim_of(config))
    assert model is not None
    assert model.weights == LINEAR


def test_layers_of_speculation_and_of_other_towers_are_not_the_language_models() -> None:
    """DeepSeek's layer after the last is not loaded; an audio tower has a depth of its own."""
    config = {
        **LLAMA,
        "num_hidden_layers": 2,
        "num_nextn_predict_layers": 1,
        "quantization_config": FORMATS["fp8 blocks"].words,
    }
    tensors = headers(blocks)
    usual = model_of(config, tensors, claim_of(config))
    more = {"model.layers.2.eh_proj.weight": ("BF16", (4096, 8192)), "model.layers.2.shared_head.head.weight": ("BF16", (128256, 4096)),
            "model.layers.2.embed_tokens.weight": ("BF16", (128256, 4096)), "mtp.fc.weight": ("BF16", (4096, 8192))}  # fmt: skip
    assert model_of(config, tensors | more, claim_of(config)) == usual
    plain_config = {**LLAMA, "num_hidden_layers": 2}
    audio = {f"audio_tower.layers.{n}.fc1.weight": ("BF16", (1000, 1000)) for n in range(1)}
    one, other = model_of(plain_config, headers(plain), None), model_of(plain_config, headers(plain) | audio, None)
    assert one is not None
    assert other is not None
    assert other.weights - one.weights == 10**6


def test_words_that_do_not_name_what_is_stored_refuse_nothing() -> None:
    """A kind of layer that this table does not know, such as a class of modules: the kernel or the module tree decides."""
    words = ct("int-quantized", integers(8, None), integers(8, None), targets=["LlamaMLP", "LlamaAttention"])
    config = {**LLAMA, "quantization_config": words}
    verdict = judge(claim_of(config), ServedModel(log("x", "", None), config, headers(eight("I8"))))
    assert verdict.outcome == "undecided"
    assert any("does not name them" in sentence for sentence in verdict.sentences)


WORDS = [
    ({"quant_method": "torchao", "quant_type": "int4_weight_only", "quant_type_kwargs": {"group_size": 64}}, "W4A16", 4.5),
    ({"quant_method": "torchao", "quant_type": {"default": {"_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": {
        "_default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}},
        "model.layers.0.mlp.up_proj": {"_type": "Int8WeightOnlyConfig", "_data": {}}, "re:.*down_proj": None}}}}}, "W8A16 + W4A16", None),
    ({"quant_method": "auto-round", "bits": 4, "group_size": 32, "act_bits": 4, "data_type": "mx_fp"}, "MXFP4 W4A4", 4.25),
    ({"quant_method": "auto-round", "bits": 8, "group_size": [128, 128], "data_type": "fp", "act_bits": 8}, "W8A8", 8.002),
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, "W4A16", 4.3125),
    ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, "MXFP4 W4A4", 4.25),
    ({"quant_method": "mxfp8"}, "MXFP8 W8A8", 8.25),
    (ct("int-quantized", integers(4, None), integers(8, None)), "W4A8", 8.0),
    ("fp8", "W8A8", 8.0),
]  # fmt: skip


@pytest.mark.parametrize(("words", "label", "bits"), WORDS)
def test_words_of_formats_as_their_tools_write_them(words: Any, label: str, bits: float | None) -> None:
    claim = claim_of({**LLAMA, "quantization_config": words})
    assert claim is not None
    assert (claim.label, claim.bits) == (label, bits if bits is None else pytest.approx(bits, abs=0.001))


def test_a_quantized_lm_head_counts_as_a_linear_layer() -> None:
    config = {**LLAMA, "quantization_config": {**GPTQ, "lm_head": True}}
    tensors = {name: entry for name, entry in headers(gptq(4)).items() if name != "lm_head.weight"}
    tensors |= gptq(4)("lm_head", 128256, 4096)
    claim = claim_of(config)
    head = 128256 * 4096
    served = ServedModel(log("gptq_marlin", MARLIN + "X", gib(4.156, LINEAR + head, head)), config, tensors)
    verdict = judge(claim, served)
    assert verdict.outcome == "verified"
    assert verdict.bits_per_weight == pytest.approx(4.16, abs=0.01)


def test_experts_are_counted_stacked_and_one_by_one() -> None:
    """gpt-oss stores all experts of a layer in one tensor; only they are quantized."""
    config = {
        "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24, "head_dim": 64,
        "num_local_experts": 32, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 201088,
        "tie_word_embeddings": False,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
    }  # fmt: skip
    tensors: Stored = {}
    for layer in range(24):
        experts, attention = f"model.layers.{layer}.mlp.experts", f"model.layers.{layer}.self_attn"
        tensors |= {
            f"{experts}.gate_up_proj_blocks": ("U8", (32, 5760, 90, 16)), f"{experts}.gate_up_proj_scales": ("U8", (32, 5760, 90)),
            f"{experts}.gate_up_proj_bias": ("BF16", (32, 5760)), f"model.layers.{layer}.mlp.router.weight": ("BF16", (32, 2880)),
            f"{experts}.down_proj_blocks": ("U8", (32, 2880, 90, 16)), f"{experts}.down_proj_scales": ("U8", (32, 2880, 90)),
            f"{attention}.q_proj.weight": ("BF16", (4096, 2880)), f"{attention}.k_proj.weight": ("BF16", (512, 2880)),
            f"{attention}.v_proj.weight": ("BF16", (512, 2880)), f"{attention}.o_proj.weight": ("BF16", (2880, 4096)),
        }  # fmt: skip
    claim = claim_of(config)
    stored, reckoned = model_of(config, tensors, claim), model_of(config, None, claim)
    assert claim is not None
    assert stored is not None
    assert reckoned is not None
    experts_weights = 24 * 32 * 3 * 2880 * 2880
    for model in (stored, reckoned):
        assert model.weights * model.share(claim) == experts_weights
    assert stored.bits(claim, 16) == pytest.approx(stored.stored, rel=1e-9)
    mixtral = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8}
    each = {
        f"model.layers.{layer}.block_sparse_moe.experts.{n}.{w}.weight": ("BF16", (14336, 4096))
        for layer in range(32) for n in range(8) for w in ("w1", "w3")
    } | {f"model.layers.{layer}.block_sparse_moe.experts.{n}.w2.weight": ("BF16", (4096, 14336))
         for layer in range(32) for n in range(8)}  # fmt: skip
    one, other = model_of(mixtral, each, None), model_of(mixtral, None, None)
    assert one is not None
    assert other is not None
    assert one.weights == sum(layer.weights for layer in other.layers if "experts" in layer.name)


@pytest.mark.parametrize(
    ("config", "tied"),
    [({"model_type": "gemma2"}, True), ({"model_type": "smollm3"}, True), ({"model_type": "starcoder2"}, True),
     ({"model_type": "llama"}, False), ({"model_type": "gemma2", "tie_word_embeddings": False}, False), ({}, False),
     ({"model_type": "llama", "tie_word_embeddings": True}, True)],
)  # fmt: skip
def test_tied_embeddings_by_the_config_or_the_familys_default(config: dict[str, Any], tied: bool) -> None:
    assert is_tied(config) is tied


def test_a_baseline_is_never_refused_by_arithmetic_alone() -> None:
    for weights in (1.0, 9.06, 30.0):
        served = ServedModel(log(None, "", weights), LLAMA, headers(plain))
        assert judge(None, served).outcome == "verified"


@pytest.mark.parametrize("words", [
    {"quant_method": "compressed-tensors", "format": "dense", "config_groups": {}, "kv_cache_scheme": {"num_bits": 8}},
    {"quant_method": "modelopt", "quant_algo": "", "kv_cache_quant_algo": "FP8"},
])  # fmt: skip
def test_a_quantized_kv_cache_is_no_quantized_model(words: dict[str, Any]) -> None:
    config = {**LLAMA, "quantization_config": words}
    verdict = judge(claim_of(config), ServedModel(log("x", "", gib(16)), config, headers(plain)))
    assert verdict.outcome == "contradicted"
    assert "quantizes no weights" in verdict.sentences[0]


def test_the_words_of_a_text_model_within_another() -> None:
    text = {**LLAMA, "quantization_config": ct("pack-quantized", integers(4, 32))}
    claim = claim_of({"model_type": "some_vl", "text_config": text})
    assert claim is not None
    assert (claim.label, claim.bits, claim.source) == ("W4A16", 4.5, "config.json: text_config.quantization_config")
    assert model_of({"model_type": "some_vl", "text_config": text}, None, claim) is not None


def test_a_kernel_that_emulates_is_labelled() -> None:
    verdict = judged(FORMATS["NVFP4"], gib(4.5), kernel="EmulationNvFp4LinearKernel for NVFP4 GEMM")
    assert verdict.label == "NVFP4 W4A4 (emulated)"
    assert "emulates" in verdict.sentences[-1]
    weight_only = judged(FORMATS["NVFP4"], gib(4.5), kernel="MarlinNvFp4LinearKernel for NVFP4 GEMM")
    assert weight_only.label == "NVFP4 W4A16"


@pytest.mark.parametrize(
    ("claimed", "bits", "words", "remedy"),
    [
        ("gptq", 4.0, {**GPTQ, "bits": 8}, "models.q.bits: 8"),
        ("none", None, GPTQ, "models.q.quantization: gptq"),
        ("awq", None, GPTQ, "models.q.quantization: gptq"),
        ("fp8", 8.0, None, "models.q.quantize_flag: fp8"),
        ("awq_marlin", 4.0, {"quant_method": "awq", "bits": 4}, ""),
        ("auto-round", None, {"quant_method": "inc", "bits": 4, "group_size": 128}, ""),
        ("modelopt_fp4", None, FORMATS["modelopt NVFP4"].words, ""),
    ],
)
def test_where_config_and_checkpoint_differ_the_key_is_named(
    claimed: str, bits: float | None, words: dict[str, Any] | None, remedy: str
) -> None:
    config = {**LLAMA, **({"quantization_config": words} if words else {})}
    mismatch = claim_mismatch(claimed, bits, claim_of(config))
    assert (mismatch is None) == (not remedy)
    if mismatch:
        assert remedy in mismatch[1].format(model="models.q")


def test_patterns_name_layers_as_the_formats_mean_them() -> None:
    layer = "model.layers.10.self_attn.q_proj"
    for pattern in (layer, "q_proj", "model.layers.10", "re:.*attn.*", "model.layers.*.self_attn", "*q_proj", "*"):
        assert fits(pattern, layer), pattern
    for pattern in ("model.layers.1", "k_proj", "re:(", "re:attn", "lm_head", "model.layers.*.mlp"):
        assert not fits(pattern, layer), pattern
    assert not fits("*", "lm_head")


_words = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["weights", "num_bits", "group_size", "targets", "type", "quant_algo", "ignore", "x"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(["gptq", "compressed-tensors", "modelopt", "torchao", "quark", "auto-round", "fp8", "new", "bitsandbytes"]),
    st.dictionaries(st.sampled_from(["bits", "group_size", "config_groups", "ignore", "dynamic", "quant_type", "extra_config",
                                     "quantization", "quantized_layers", "global_quant_config", "weight_block_size"]), _words),
)  # fmt: skip
def test_odd_words_never_crash(method: str, words: dict[str, Any]) -> None:
    config = {**LLAMA, "quantization_config": {"quant_method": method, **words}}
    verdict = judge(claim_of(config), ServedModel(log("x", "", 5.0), config, headers(gptq(4))))
    assert verdict.outcome in ("verified", "contradicted", "undecided")


@given(st.dictionaries(st.text(max_size=30), st.tuples(st.sampled_from(["BF16", "I32", "U8", "F8_E4M3"]),
                                                       st.lists(st.integers(0, 9), max_size=4).map(tuple)), max_size=8))  # fmt: skip
def test_odd_headers_never_crash(tensors: Stored) -> None:
    judge(claim_of({"quantization_config": GPTQ}), ServedModel(log("x", "", 5.0), LLAMA, tensors))


_NAMES = st.lists(
    st.sampled_from(["model", "layers", "0", "1", "mlp", "q_proj", "lm_head", ""]), min_size=1, max_size=6
)
_PATTERNS = _NAMES.map(".".join) | st.sampled_from([ALL, "re:.*mlp", "re:(", "*.q_proj", "model.*", ""])


@given(st.lists(st.tuples(_PATTERNS, st.sampled_from([None, FP8, NVFP4]))), st.lists(_NAMES.map(".".join)))
def test_the_first_rule_that_fits_decides_however_many_there_are(rules: Any, layers: list[str]) -> None:
    claim = Claim("x", tuple(Rule(pattern, scheme) for pattern, scheme in rules))
    for layer in [*layers, *layers]:
        assert claim.scheme(layer) == next((rule.scheme for rule in claim.rules if fits(rule.pattern, layer)), None)
