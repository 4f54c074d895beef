"""The linear layers of a model, with their weights counted and the bits that they are stored in.

Counted from the headers of its safetensors where they are on disk, else by the arithmetic of known families.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from quantbench.engines.vllm.formats import Claim, Scheme
from quantbench.observe.checkpoint import count, dtype_bits

Config = Mapping[str, Any]
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name → (safetensors dtype, shape)."""

PLAIN_BITS: Final = 12
"""Stored in more than this, a weight is not quantized."""
_PARTS: Final = frozenset((
    "weight", "weight_packed", "qweight", "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale",
    "weight_shape", "weight_zero_point", "weight_g_idx", "qzeros", "scales", "g_idx", "SCB", "bias", "meta",
    "scale_packed", "_weight_qdata", "_weight_scale", "_weight_zero_point", "_weight_scale_and_zero",
    *(f"{of}_{kind}" for of in ("input", "output", "k", "v", "q") for kind in ("scale", "zero_point", "global_scale")),
))  # fmt: skip
"""Last words of the names of a layer's tensors."""
_OF_WEIGHT: Final = re.compile(r"^(?P<module>.+?)\.(?P<part>weight\.(?:absmax|quant_map|nested_\w+|quant_state\.\w+))$")
_STACKED: Final = re.compile(r"^(?P<module>.+\.experts\.\w+?)(?:_(?P<part>blocks|scales|bias))?$")
"""Experts in one tensor: gpt-oss' `experts.gate_up_proj_blocks`, or `experts.gate_up_proj` in 16 bit."""
_WEIGHTS: Final = ("weight", "weight_packed", "qweight", "blocks", "_weight_qdata")
_ASIDE: Final = ("bias", "g_idx", "weight_g_idx", "weight_shape", "input_scale", "input_global_scale")
"""Not a part of a layer's weights."""
_INDEX: Final = re.compile(r"^(?P<stack>.*?\.?(?:layers|h|blocks))\.(?P<index>\d+)\.")
_NO_LINEAR: Final = re.compile(
    r"(?:^|\.)(?:\w*embed\w*|wte|wpe|\w*norm\w*|ln_\w+|router|gate|rotary\w*|conv\w*)(?:\.|$)"
)
_BESIDE: Final = re.compile(r"vis|audio|speech|encoder|talker|proj|perceiver|resampler|mtp")
"""Stacks of layers that are not the language model's."""
_ABOVE: Final = re.compile(r"^(?:(?:model|language_model)\.)+")
HEAD: Final = "lm_head"
_MOST, _DEEPEST = 10**8, 10**4
"""Sizes and layers beyond these are damage and no model."""
# Families whose layers are q, k, v, o, gate, up, down; others get no expectation from the config.
_DENSE: Final = {
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "granite", "olmo", "olmo2",
    "smollm3", "starcoder2",
}  # fmt: skip
_EXPERTS: Final = {
    "mixtral": "num_local_experts",
    "qwen2_moe": "num_experts",
    "qwen3_moe": "num_experts",
    "gpt_oss": "num_local_experts",
    "olmoe": "num_experts",
}


@dataclass(frozen=True)
class Layer:
    """A linear layer. stored: bits per weight on disk, scales included; None where only the config is known."""

    name: str
    weights: float
    stored: float | None = None

    def scheme(self, claim: Claim | None) -> Scheme | None:
        """What the claim makes of it; None for 16 bit, also where the files hold 16 bit and nothing changes that."""
        scheme = claim.scheme(self.name) if claim else None
        is_left = self.stored is not None and self.stored > PLAIN_BITS and claim is not None and not claim.online
        return None if is_left else scheme


@dataclass(frozen=True)
class Model:
    """The linear layers of the decoder (and lm_head, where it is quantized), and the parameters of all else."""

    layers: tuple[Layer, ...]
    rest: float

    @property
    def weights(self) -> float:
        """Of all linear layers."""
        return sum(layer.weights for layer in self.layers)

    def share(self, claim: Claim) -> float:
        """Of the linear layers' weights, what the claim quantizes and the files do not hold in 16 bit."""
        return sum(layer.weights for layer in self.layers if layer.scheme(claim)) / self.weights

    def bits(self, claim: Claim | None, full: int) -> float | None:
        """Mean bits per weight of the linear layers as claimed (`full` where left alone); None if not known."""
        total = 0.0
        for layer in self.layers:
            scheme = layer.scheme(claim)
            packed = layer.stored is not None and layer.stored <= PLAIN_BITS
            bits = scheme.bits if scheme else layer.stored if packed and claim else full
            if bits is None:
                return None
            total += layer.weights * bits
        return total / self.weights

    def quantized(self, claim: Claim) -> Model | None:
        """Of it what the claim quantizes; None if nothing."""
        layers = tuple(layer for layer in self.layers if layer.scheme(claim))
        return Model(layers, 0.0) if layers else None

    def unnamed(self, claim: Claim) -> float:
        """Of all weights, the share that is stored in few bits and that the claim does not name."""
        beside = (
            layer for layer in self.layers if 0 < (layer.stored or 0) <= PLAIN_BITS and not claim.scheme(layer.name)
        )
        return sum(layer.weights for layer in beside) / self.weights

    @property
    def stored(self) -> float | None:
        """Mean bits per weight on disk."""
        if any(layer.stored is None for layer in self.layers):
            return None
        return sum(layer.weights * (layer.stored or 0) for layer in self.layers) / self.weights

    def plain(self, claim: Claim) -> float:
        """Of the weights that the claim quantizes, the share that is stored in 16 bit or more.

        Towers for images and sound are left out: words seldom name them, and vLLM leaves them in 16 bit.
        """
        own = [layer for layer in self.layers if _is_of_decoder(layer.name)] or self.layers
        claimed = [layer for layer in own if claim.scheme(layer.name) and layer.stored is not None]
        total = sum(layer.weights for layer in claimed)
        return sum(layer.weights for layer in claimed if (layer.stored or 0) > PLAIN_BITS) / total if total else 0.0


def model_of(config: Config, tensors: Tensors | None, claim: Claim | None) -> Model | None:
    """From the headers where they tell, else from the config of a known family; None where neither does."""
    text = text_config(config)
    return (_from_tensors(text, tensors, claim) if tensors else None) or _from_config(text, claim)


def text_config(config: Config) -> Config:
    """The part that describes the language model."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) and "hidden_size" in text else config


def is_tied(config: Config) -> bool:
    """Does lm_head share the embeddings' weights? By the config, else by transformers' default of the family."""
    stated = config.get("tie_word_embeddings")
    return stated if isinstance(stated, bool) else config.get("model_type") in _tied_families()


@cache
def _tied_families() -> frozenset[str]:
    lines = Path(__file__).with_name("tied_families.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


# --- From the headers of the weights ---------------------------------------------------------------------------------


def _from_tensors(config: Config, tensors: Tensors, claim: Claim | None) -> Model | None:
    parts: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = defaultdict(dict)
    rest: Counter[str] = Counter()
    for name, (dtype, shape) in _without_extras(config, tensors):
        module, part = _split(name)
        if module and (module in parts or not _NO_LINEAR.search(module)):
            parts[module][part] = (dtype, shape)
        elif not module or part in ("weight", "bias"):
            rest[name] += count(shape)
    times = _whole(config, [*parts, *rest])
    layers, other = [], 0.0
    for module, found in parts.items():
        weight = next((found[part] for part in _WEIGHTS if part in found), None)
        head = module.rpartition(".")[2] == HEAD
        if weight is None or len(weight[1]) < 2 or not count(weight[1]) or (head and _is_plain(weight)):
            other += sum(count(shape) for _, shape in found.values()) * times(module) * (not (head and is_tied(config)))
            continue
        name = HEAD if head else module
        scheme = claim.scheme(name) if claim else None
        weights = _weights(found, scheme)
        if weights is None:
            return None
        stored = sum(dtype_bits(dtype) * count(shape) for part, (dtype, shape) in found.items() if part not in _ASIDE)
        layers.append(Layer(name, weights * times(module), stored / weights))
    other += sum(parameters * times(name) for name, parameters in rest.items())
    return Model(tuple(layers), other) if layers else None


def _is_of_decoder(name: str) -> bool:
    match = _INDEX.match(name)
    return match is not None and not _BESIDE.search(match["stack"])


def _split(name: str) -> tuple[str, str]:
    """(module, part) of a tensor of a layer; empty module for others."""
    module, _, part = name.rpartition(".")
    if part in _PARTS:
        return module, part
    match = _OF_WEIGHT.match(name) or _STACKED.match(name)
    return (match["module"], match["part"] or "weight") if match else ("", "")


def _without_extras(config: Config, tensors: Tensors) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """Without layers that predict further tokens, which vLLM leaves on the disk unless it is to speculate with them."""
    depth, more = config.get("num_hidden_layers"), config.get("num_nextn_predict_layers")
    extra: tuple[str, ...] = ()
    if isinstance(depth, int) and isinstance(more, int) and 0 < more < 100:
        extra = tuple(f"layers.{n}." for n in range(depth, depth + more))
    for name, entry in tensors.items():
        if not name.startswith("mtp.") and not (extra and _ABOVE.sub("", name).startswith(extra)):
            yield name, entry


def _whole(config: Config, names: Iterable[str]) -> Any:
    """name → how often its layer is there: headers of some layers stand for those whose files are elsewhere."""
    seen: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if match := _INDEX.match(name):
            seen[match["stack"]].add(int(match["index"]))
    wanted = config.get("num_hidden_layers")
    more = {
        stack: wanted / len(found)
        for stack, found in seen.items()
        if isinstance(wanted, int)
        and len(found) < wanted
        and stack.endswith(("layers", "h"))
        and not _BESIDE.search(stack)
    }

    def times(name: str) -> float:
        match = _INDEX.match(name) if more else None
        return more.get(match["stack"], 1.0) if match else 1.0

    return times


def _weights(found: Mapping[str, tuple[str, tuple[int, ...]]], scheme: Scheme | None) -> int | None:
    """Weights of a layer: by its shape where a value is a weight, else as packing, scales and index say."""
    part = next(part for part in _WEIGHTS if part in found)
    dtype, shape = found[part]
    stored = int(count(shape) * dtype_bits(dtype))
    if "weight.absmax" in found:  # bitsandbytes, in containers of any type: a scale for each block of 64
        return count(found["weight.absmax"][1]) * 64
    if "meta" in found:  # 2:4 sparse: not all weights are there
        return None
    if part == "blocks" or dtype == "U8":  # two 4-bit values a byte, but for what is claimed to have eight bits
        return count(shape) if scheme and scheme.weight_bits == 8 else 2 * count(shape)
    if dtype not in ("I32", "U32", "I64"):
        return count(shape)
    if part == "qweight" and "scales" in found:
        outputs = found["scales"][1][-1]
        if "g_idx" in found:  # GPTQ: an index for each input
            return int(found["g_idx"][1][0]) * outputs
        if outputs > shape[-1]:  # AWQ packs the outputs: its rows are the inputs
            return shape[0] * outputs
        return _by_group(found["scales"][1], 0, scheme) or _assumed(stored, scheme)
    if "weight_scale" in found:
        return _by_group(found["weight_scale"][1], -1, scheme) or _assumed(stored, scheme)
    return _assumed(stored, scheme)


def _by_group(scales: tuple[int, ...], axis: int, scheme: Scheme | None) -> int | None:
    """Scales in groups of known size count the weights; one scale per row does not."""
    if not scheme or scheme.group <= 0 or len(scales) < 2 or scales[axis] == 1:
        return None
    return count(scales) * scheme.group


def _assumed(stored: int, scheme: Scheme | None) -> int:
    """Integers of the claimed width, 4 bits if none is known."""
    return stored // ((scheme.weight_bits if scheme else None) or 4)


def _is_plain(weight: tuple[str, tuple[int, ...]]) -> bool:
    return weight[0] in ("BF16", "F16", "F32", "F64")


# --- By the arithmetic of the family ---------------------------------------------------------------------------------


def _from_config(config: Config, claim: Claim | None) -> Model | None:
    layers = list(_arithmetic(config))
    vocabulary = config.get("vocab_size")
    if not layers or not isinstance(vocabulary, int) or not 0 <= vocabulary <= _MOST:
        return None
    hidden = int(config["hidden_size"])
    norms = (2 * int(config["num_hidden_layers"]) + 1) * hidden
    head = 0 if is_tied(config) else vocabulary * hidden
    if head and claim and claim.scheme(HEAD):
        layers.append(Layer(HEAD, head))
        head = 0
    return Model(tuple(layers), vocabulary * hidden + head + norms)


def _arithmetic(config: Config) -> Iterator[Layer]:
    """The layers by their checkpoint names; none for families that this arithmetic does not know."""
    family = config.get("model_type")
    if family not in _DENSE and family not in _EXPERTS:
        return
    try:
        hidden, inter, depth = (int(config[k]) for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
        heads = int(config["num_attention_heads"])
        kv = int(config.get("num_key_value_heads") or heads)
        dim = int(config.get("head_dim") or hidden // heads)
        experts = int(config[_EXPERTS[family]]) if family in _EXPERTS else 0
        width = int(config.get("moe_intermediate_size") or inter)
        shared = int(config.get("shared_expert_intermediate_size") or 0)
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return
    sizes = (hidden, inter, depth, heads, kv, dim, width)
    if min(*sizes, experts + 1, shared + 1) < 1 or max(*sizes, experts, shared) > _MOST or depth > _DEEPEST:
        return
    attention = {"q_proj": hidden * heads * dim, "k_proj": hidden * kv * dim, "v_proj": hidden * kv * dim}
    attention["o_proj"] = heads * dim * hidden
    one = {f"self_attn.{k}": v for k, v in attention.items()}
    if experts:
        block = "block_sparse_moe" if family == "mixtral" else "mlp"
        one |= {f"{block}.experts.{k}": experts * hidden * width for k in ("gate_proj", "up_proj", "down_proj")}
        one |= {f"mlp.shared_expert.{k}": hidden * shared for k in ("gate_proj", "up_proj", "down_proj") if shared}
    else:
        gate = () if family == "starcoder2" else ("gate_proj",)
        one |= {f"mlp.{k}": hidden * inter for k in (*gate, "up_proj", "down_proj")}
    for i in range(depth):
        for name, weights in one.items():
            yield Layer(f"model.layers.{i}.{name}", weights)
