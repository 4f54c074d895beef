"""What a config.json claims and what it implies in bits: the arithmetic behind `evidence`.

Bits per weight count the stored scales and zero points: W4A16 with group size 128, symmetric, 16-bit scales is
4 + 16/128 = 4.125.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Families whose layers are q, k, v, o, gate, up, down; others get no expectation from the config.
_DENSE = {
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "granite", "olmo", "olmo2", "smollm3", "starcoder2"
}  # fmt: skip
# --quantization on an unquantized checkpoint: bits of weights and of activations
_ONLINE: dict[str, tuple[int | None, int | None]] = {
    "fp8": (8, 8), "fp8_per_tensor": (8, 8), "fp8_per_channel": (8, 8), "fp8_per_block": (8, 8), "ptpc_fp8": (8, 8),
    "int8_per_channel_weight_only": (8, 16), "experts_int8": (8, 16), "mxfp8": (8, 8), "nvfp4_per_token": (4, 4),
    "mxfp4": (4, 16), "bitsandbytes": (4, 16),
}  # fmt: skip
_LABEL = re.compile(r"W(\d+)A(\d+)")
_DTYPE_BITS = {"F64": 64, "F32": 32, "I32": 32, "U32": 32, "I64": 64, "BF16": 16, "F16": 16, "I16": 16, "U16": 16}
_LINEAR_PART = re.compile(
    r"^(?P<module>.*\.(?:\w+_proj|dense\w*|fc\d|w[123]))\."
    r"(?P<part>weight|weight_packed|weight_scale(?:_inv)?|weight_zero_point|weight_global_scale|qweight|qzeros|scales)$"
)


@dataclass(frozen=True)
class Claim:
    """A quantization that a config asserts. `bits`: stored bits per weight, scales included; None where unknown.

    `online`: quantized by vLLM while loading, so the checkpoint is in 16 bit. `ignored`: modules left unquantized.
    """

    method: str
    weight_bits: int | None
    activation_bits: int | None
    overhead_bits: float = 0.0
    ignored: tuple[str, ...] = ()
    online: bool = False

    @property
    def bits(self) -> float | None:
        return None if self.weight_bits is None else self.weight_bits + self.overhead_bits

    @property
    def label(self) -> str:
        if self.weight_bits is None or self.activation_bits is None:
            return self.method
        return f"W{self.weight_bits}A{self.activation_bits}"

    def contradicted_by(self, linear_method: str) -> bool:
        """Whether a linear method's name states other weight bits, e.g. CompressedTensorsW8A8Int8 for a W4A16 claim."""
        m = _LABEL.search(linear_method)
        return bool(m and self.weight_bits is not None and int(m[1]) != self.weight_bits)


@dataclass(frozen=True)
class Sizes:
    """Parameters of the linear layers in the decoder, and all others (embeddings, lm_head, norms, biases)."""

    linear: int
    rest: int


def claim_of(config: Mapping[str, Any], quantization: str | None = None) -> Claim | None:
    """The claim of a config.json (`quantization_config`) or, without one, of the server argument --quantization."""
    stated = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(stated, Mapping) or not stated:
        if not quantization or quantization == "none":
            return None
        weight, activation = _ONLINE.get(quantization, (None, None))
        return Claim(quantization, weight, activation, online=quantization in _ONLINE)
    method = str(stated.get("quant_method") or quantization or "unknown").lower()
    ignored = _ignored(stated)
    if "gptq" in method or "awq" in method:
        return _grouped(method, stated, ignored)
    if method == "compressed-tensors":
        return _compressed_tensors(method, stated, ignored)
    if method in ("fp8", "fbgemm_fp8"):
        match stated.get("weight_block_size"):
            case [int(rows), int(columns)] if rows > 0 and columns > 0:
                return Claim(method, 8, 8, 32 / (rows * columns), ignored)
        return Claim(method, 8, 8, 0.0, ignored)
    if method == "bitsandbytes":
        return Claim(method, 4 if stated.get("load_in_4bit") else 8, 16, 0.0, ignored, online=True)
    return Claim(method, None, None, 0.0, ignored)


def _grouped(method: str, stated: Mapping[str, Any], ignored: tuple[str, ...]) -> Claim:
    bits = stated.get("bits", stated.get("w_bit", stated.get("weight_bits")))
    group = stated.get("group_size", stated.get("q_group_size", -1))
    if not isinstance(bits, int) or not isinstance(group, int):
        return Claim(method, bits if isinstance(bits, int) else None, 16, 0.0, ignored)
    return Claim(method, bits, 16, (16 + bits) / group if group > 0 else 0.0, ignored)


def _compressed_tensors(method: str, stated: Mapping[str, Any], ignored: tuple[str, ...]) -> Claim:
    groups = stated.get("config_groups")
    schemes = [g for g in groups.values() if isinstance(g, Mapping)] if isinstance(groups, Mapping) else []
    weights = [g["weights"] for g in schemes if isinstance(g.get("weights"), Mapping)]
    bits = {w.get("num_bits") for w in weights}
    if len(bits) != 1 or not isinstance(next(iter(bits)), int):
        return Claim(method, None, None, 0.0, ignored)
    weight, inputs = weights[0], schemes[0].get("input_activations")
    activation = inputs.get("num_bits", 16) if isinstance(inputs, Mapping) else 16
    group, width = weight.get("group_size"), int(weight["num_bits"])
    overhead = 0.0
    if isinstance(group, int) and group > 0:
        overhead = (16 + (0 if weight.get("symmetric", True) else width)) / group
    return Claim(method, width, int(activation), overhead, ignored)


def _ignored(stated: Mapping[str, Any]) -> tuple[str, ...]:
    for key in ("ignore", "modules_to_not_convert", "ignored_layers", "llm_int8_skip_modules"):
        value = stated.get(key)
        if isinstance(value, list):
            return tuple(str(v) for v in value)
    return ()


def linear_modules(config: Mapping[str, Any]) -> dict[str, int] | None:
    """Parameters of each linear layer by its checkpoint name; None for families that this arithmetic does not know."""
    if config.get("model_type") not in _DENSE:
        return None
    try:
        hidden, inter, layers = (int(config[k]) for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
        heads = int(config["num_attention_heads"])
        kv = int(config.get("num_key_value_heads") or heads)
        dim = int(config.get("head_dim") or hidden // heads)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    attention = {"q_proj": hidden * heads * dim, "k_proj": hidden * kv * dim, "v_proj": hidden * kv * dim}
    attention["o_proj"] = heads * dim * hidden
    one = {f"self_attn.{k}": v for k, v in attention.items()}
    gate = () if config["model_type"] == "starcoder2" else ("gate_proj",)
    one |= {f"mlp.{k}": hidden * inter for k in (*gate, "up_proj", "down_proj")}
    return {f"model.layers.{i}.{name}": n for i in range(layers) for name, n in one.items()}


def sizes_of(config: Mapping[str, Any], tensors: Mapping[str, tuple[str, tuple[int, ...]]] | None) -> Sizes | None:
    """Parameter counts from the config, else from an unquantized checkpoint's headers; None where neither tells."""
    modules = linear_modules(config)
    if modules is not None and isinstance(config.get("vocab_size"), int):
        hidden, vocab = int(config["hidden_size"]), int(config["vocab_size"])
        tied = bool(config.get("tie_word_embeddings", False))
        norms = (2 * int(config["num_hidden_layers"]) + 1) * hidden
        return Sizes(sum(modules.values()), vocab * hidden * (1 if tied else 2) + norms)
    if not tensors or not all(_LINEAR_PART.match(n) is None or n.endswith(".weight") for n in tensors):
        return None
    linear = sum(_count(shape) for n, (_, shape) in tensors.items() if _LINEAR_PART.match(n))
    return Sizes(linear, sum(_count(shape) for _, shape in tensors.values()) - linear) if linear else None


def expected_share(config: Mapping[str, Any], claim: Claim) -> float | None:
    """The share of the linear layers' parameters that the claim quantizes; None for unknown families."""
    modules = linear_modules(config)
    if not modules:
        return None
    unquantized = sum(n for name, n in modules.items() if any(_matches(p, name) for p in claim.ignored))
    return 1 - unquantized / sum(modules.values())


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error:
            return False
    return f".{pattern}." in f".{name}."


def stored_bits(tensors: Mapping[str, tuple[str, tuple[int, ...]]], packed_bits: int = 4) -> float | None:
    """Stored bits per weight of the linear layers, from safetensors headers: name → (dtype, shape).

    The number of weights follows from the shape of 8- and 16-bit tensors, and of GPTQ's indices and scales; other
    packed tensors do not tell how many bits a weight has: `packed_bits` are assumed.
    """
    bits = weights = 0
    for name, (dtype, shape) in tensors.items():
        m = _LINEAR_PART.match(name)
        if not m:
            continue
        stored = _count(shape) * _DTYPE_BITS.get(dtype, 8)
        bits += stored
        if m["part"] in ("weight", "weight_packed", "qweight"):
            packed = dtype in ("I32", "U32", "I64")
            weights += _packed_weights(m["module"], tensors, stored // packed_bits) if packed else _count(shape)
    return bits / weights if weights else None


def _packed_weights(module: str, tensors: Mapping[str, tuple[str, tuple[int, ...]]], assumed: int) -> int:
    """Weights in a packed tensor: from group indices (GPTQ: one per input) where present, else as assumed."""
    index, scales = tensors.get(f"{module}.g_idx"), tensors.get(f"{module}.scales")
    if index and scales:
        return index[1][0] * scales[1][-1]
    return assumed


def _count(shape: tuple[int, ...]) -> int:
    n = 1
    for extent in shape:
        n *= extent
    return n
