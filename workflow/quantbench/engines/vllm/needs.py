"""What vLLM will need on a GPU: weights, KV cache per token, and how many requests then fit.

Arithmetic, before a start. Of share × memory vLLM first takes weights, the peak of a profiling step, CUDA graphs and
what lies outside of torch; the rest is KV cache. Weights and KV are counted from the model. The reserve
(`ACTIVATION_COPIES` to `OUTSIDE_GIB`) is fitted to the logs of one shape, Qwen2.5-1.5B on an H100 and an H200 with vLLM
0.26 (tests/data/logs/h*, docs/reference/h100): activations 0.53 to 0.57 GiB, graphs 0.21 to 0.37, outside of torch up
to 0.32. For other shapes it is extrapolated.

Error against these servers: weights −0.2 to +4.4 % (0.05 GiB), KV tokens −1.8 to −0.7 %: vLLM 0.26 did not take graphs
off, 0.32 does (tests/unit/engines/vllm/test_needs.py). The log of a start decides more than this: `--log`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from quantbench.engines.vllm.formats import Claim, Scheme
from quantbench.engines.vllm.layers import HEAD, PLAIN_BITS, Layer, Model, is_tied, text_config
from quantbench.records.server import Step

Config = Mapping[str, Any]
GIB: Final = 1024**3

ACTIVATION_COPIES: Final = 3
"""Tensors of a step's tokens × width that live at once, in 16 bit: gate, up, product; and input, residual, output."""
LOGITS_BYTES: Final = 4
"""Of a logit in the sampler, per sequence and word of the vocabulary."""
GRAPHS_GIB_PER_LAYER: Final = 0.37 / 28
OUTSIDE_GIB: Final = 0.3
BUFFERS_GIB: Final = 0.1
"""Buffers and padding that vLLM counts among the weights (2.98 GiB logged for 2.88 GiB of parameters)."""

_GROUPS: Final = (
    ("experts", r"expert"),
    ("attention", r"att|(?:^|\.)(?:q|k|v|o|qkv)_proj$|c_attn"),
    ("MLP", r"mlp|feed_forward|ffn|(?:gate|up|down|gate_up)_proj$|(?:^|\.)fc\d"),
)
_STATE: Final = re.compile(
    r"mamba|(?:^|_)ssm_|^linear_|rwkv|conv_L_cache|^state_size$|hybrid_override|layers_block_type"
)
_OTHER_KV: Final = (
    "index_head_dim", "global_head_dim", "num_global_key_value_heads", "attention_chunk_size", "block_configs",
    "multi_query", "attn_type_list", "compress_ratios",
)  # fmt: skip
"""Keys of layers whose KV cache this arithmetic does not know."""
_EVERY: Final = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4, "gpt_oss": 2}
"""Families whose every n-th layer is not sliding, where neither `layer_types` nor `sliding_window_pattern` is there."""


# KV cache


@dataclass(frozen=True)
class Kv:
    """KV cache of one GPU. full: bytes that each token keeps; sliding: that each of the last `window` tokens keeps.

    undecided: why this arithmetic does not know the model; all else is 0 then.
    """

    full: float = 0
    sliding: float = 0
    window: int = 0
    undecided: str = ""

    @property
    def per_token(self) -> float:
        """Bytes of a token within the window."""
        return self.full + self.sliding

    def of_request(self, length: int) -> float:
        """Bytes of a request of this many tokens, its answer included."""
        return self.full * length + self.sliding * min(length, self.window)


def kv_of(config: Config, value_bytes: float = 2, gpus: int = 1) -> Kv:
    """KV cache of a model (its config.json). value_bytes: `value_bytes_of`; gpus: tensor-parallel size.

    Keys and values of num_key_value_heads × head_dim per layer, of MLA (DeepSeek) kv_lora_rank + qk_rope_head_dim once.
    """
    text = text_config(config)
    if why := _unknown(text):
        return Kv(undecided=why)
    depth = _number(text, "num_hidden_layers", "n_layer")
    heads = _number(text, "num_attention_heads", "n_head")
    hidden = _number(text, "hidden_size", "n_embd")
    width = _number(text, "head_dim") or (hidden // heads if hidden and heads else 0)
    if not depth or not heads or not width:
        return Kv(undecided="its config does not say how many layers and heads it has")
    if rank := _number(text, "kv_lora_rank"):
        return Kv(full=(rank + (_number(text, "qk_rope_head_dim") or 0)) * depth * value_bytes)
    kv_heads = _number(text, "num_key_value_heads") or heads
    layer = 2 * math.ceil(kv_heads / gpus) * width * value_bytes
    window = _number(text, "sliding_window") or 0
    if window <= 0 or text.get("use_sliding_window") is False:
        return Kv(full=layer * _holding(text, depth))
    sliding = _sliding(text, depth)
    return Kv(full=layer * (_holding(text, depth) - sliding), sliding=layer * sliding, window=window)


def value_bytes_of(config: Config, asked: str = "auto") -> float:
    """Bytes of a value in the KV cache: --kv-cache-dtype, for `auto` what the checkpoint's quantization says."""
    dtype = asked.lower()
    if dtype == "auto":
        stated = text_config(config).get("quantization_config") or config.get("quantization_config")
        stated = stated if isinstance(stated, Mapping) else {}
        inner = stated.get("quantization")
        named = (inner if isinstance(inner, Mapping) else stated).get("kv_cache_quant_algo")
        scheme = stated.get("kv_cache_scheme")
        dtype = str(named or ("fp8" if isinstance(scheme, Mapping) and scheme else "")).lower()
    if "fp4" in dtype:
        return 0.5 + 1 / 16
    return 1 if "fp8" in dtype or "int8" in dtype else 4 if dtype == "float32" else 2


def _unknown(text: Config) -> str:
    types = {str(kind) for kind in _listed(text, "layer_types")} - {"full_attention", "sliding_attention"}
    if state := next((key for key in text if _STATE.search(key) and text[key]), None):
        return f"it has layers with a state beside attention ({state})"
    if types:
        return f"it has layers of another kind ({', '.join(sorted(types))})"
    other = next((key for key in _OTHER_KV if text.get(key)), None)
    if other or not isinstance(text.get("num_key_value_heads", 0), int | None):
        return f"its layers keep a KV cache of another kind ({other or 'num_key_value_heads'})"
    return ""


def _holding(text: Config, depth: int) -> int:
    """Layers with a KV cache of their own."""
    return max(1, depth - (_number(text, "num_kv_shared_layers") or 0))


def _sliding(text: Config, depth: int) -> int:
    """Sliding layers among those with a cache of their own."""
    holding, types = _holding(text, depth), _listed(text, "layer_types")
    if types:
        return sum(kind == "sliding_attention" for kind in types[:holding])
    if every := _number(text, "sliding_window_pattern") or _EVERY.get(str(text.get("model_type")), 0):
        return holding - holding // every
    return min(_number(text, "max_window_layers") or holding, holding) if text.get("use_sliding_window") else holding


# Weights


@dataclass(frozen=True)
class Group:
    """Layers of one kind: parameters, mean bits with scales (None where nobody says), and how they are quantized."""

    name: str
    weights: float
    bits: float | None
    scheme: str

    @property
    def gib(self) -> float | None:
        """Memory of its weights."""
        return None if self.bits is None else self.weights * self.bits / 8 / GIB


def groups(model: Model, config: Config, claim: Claim | None) -> list[Group]:
    """Attention, MLP, experts, other linear layers, embeddings, lm_head, rest: those that there are."""
    text = text_config(config)
    kinds: dict[str, list[Layer]] = {name: [] for name in (*(name for name, _ in _GROUPS), "other linear", HEAD)}
    for layer in model.layers:
        kinds[_kind(layer.name)].append(layer)
    found = [_group(name, layers, claim) for name, layers in kinds.items() if layers]
    plain = zip(("embeddings", HEAD, "rest"), _plain(model, text), strict=True)
    return found + [Group(name, weights, 16, "16 bit") for name, weights in plain if weights > 0]


def _plain(model: Model, text: Config) -> tuple[float, float, float]:
    """Parameters in 16 bit beside the linear layers: embeddings, lm_head with weights of its own, all else."""
    table = (_number(text, "vocab_size") or 0) * (_number(text, "hidden_size", "n_embd") or 0)
    embeddings = min(model.rest, float(table))
    apart = is_tied(text) or any(layer.name == HEAD for layer in model.layers)
    head = 0.0 if apart else min(model.rest - embeddings, float(table))
    return embeddings, head, model.rest - embeddings - head


def _kind(layer: str) -> str:
    return HEAD if layer == HEAD else next((n for n, part in _GROUPS if re.search(part, layer)), "other linear")


def _group(name: str, layers: list[Layer], claim: Claim | None) -> Group:
    total, bits, labels = sum(layer.weights for layer in layers), 0.0, dict[str, None]()
    known = True
    for layer in layers:
        scheme = layer.scheme(claim)
        labels[(scheme.label or claim.method) if scheme and claim else "16 bit"] = None
        width = _loaded(layer, scheme, online=bool(claim and claim.online))
        known, bits = known and width is not None, bits + layer.weights * (width or 0)
    return Group(name, total, bits / total if known else None, " + ".join(labels))


def _loaded(layer: Layer, scheme: Scheme | None, *, online: bool) -> float | None:
    """Bits per weight in the GPU's memory: as stored, but what vLLM quantizes or casts while loading."""
    if scheme and (online or layer.stored is None):
        return scheme.bits
    return 16 if layer.stored is None or layer.stored > PLAIN_BITS else layer.stored


def weights_gib(parts: list[Group]) -> float | None:
    """Memory of all weights; None where the bits of a group are not known."""
    sizes = [part.gib for part in parts]
    return None if None in sizes else sum(size or 0 for size in sizes)


def step_of(
    model: Model, config: Config, claim: Claim | None, kv: Kv, *, max_num_seqs: int, served: str = ""
) -> Step | None:
    """What one decode step reads and multiplies; None where the bits of a layer are not known.

    The table of embeddings is looked up and not read, unless it is lm_head too. kv: of the whole model (one GPU).
    served: label of what the server runs, which multiplies in 16 bit whatever the claim if it is …A16.
    """
    text = text_config(config)
    count = _number(text, "num_local_experts", "num_experts", "n_routed_experts") or 0
    used = _number(text, "num_experts_per_tok", "experts_per_token") or count
    embeddings, head, rest = _plain(model, text)
    head = embeddings if is_tied(text) else head
    read, experts, multiplied = (head + rest) * 2, 0.0, dict[str, float]()
    for layer in model.layers:
        scheme = layer.scheme(claim)
        bits = _loaded(layer, scheme, online=bool(claim and claim.online))
        if bits is None:
            return None
        own = bool(count) and "expert" in layer.name and "shared" not in layer.name
        kind = _precision(scheme, served)
        multiplied[kind] = multiplied.get(kind, 0.0) + layer.weights * (used / count if own else 1)
        if own:
            experts += layer.weights * bits / 8
        else:
            read += layer.weights * bits / 8
    return Step(
        shared_bytes=read,
        expert_bytes=experts,
        experts=count if experts else 0,
        experts_used=used if experts else 0,
        kv_full=kv.full,
        kv_sliding=kv.sliding,
        window=kv.window,
        multiplied=multiplied,
        head=head,
        max_num_seqs=max_num_seqs,
        missing={"kv_full": kv.undecided} if kv.undecided else {},
    )


def _precision(scheme: Scheme | None, served: str) -> str:
    """In which a layer is multiplied: in that of its activations."""
    bits = scheme.activation_bits if scheme else 16
    if bits is None or bits >= PLAIN_BITS or served.endswith("A16"):
        return "bf16"
    return f"{'fp' if scheme and scheme.floating else 'int'}{bits}"


# All of it


@dataclass(frozen=True)
class Setting:
    """How the server runs. card_gib: memory that CUDA sees; share: gpu_memory_utilization; gpus: tensor-parallel size.

    batched_tokens: None for vLLM's own, which is by memory and another for the A100 (`small_batches`). kv_gib: a
    size of the KV cache that is set and not left over; the share does not count then.
    """

    card_gib: float
    share: float = 0.85
    max_model_len: int = 4096
    max_num_seqs: int = 64
    batched_tokens: int | None = None
    gpus: int = 1
    eager: bool = False
    small_batches: bool = False
    kv_gib: float | None = None

    @property
    def batched(self) -> int:
        """--max-num-batched-tokens; vLLM's own as in its engine/arg_utils.py."""
        big = 16384 if self.card_gib >= 160 else 8192 if self.card_gib >= 70 and not self.small_batches else 2048
        return self.batched_tokens or min(big, self.max_num_seqs * self.max_model_len)


@dataclass(frozen=True)
class Need:
    """Memory of one GPU in GiB."""

    budget_gib: float
    weights_gib: float
    activations_gib: float
    graphs_gib: float
    outside_gib: float
    kv: Kv

    @property
    def kv_gib(self) -> float:
        """What remains for the KV cache; negative where not even the weights fit."""
        taken = self.weights_gib + self.activations_gib + self.graphs_gib + self.outside_gib
        return self.budget_gib - taken

    def concurrency(self, length: int) -> float | None:
        """Requests of this many tokens that fit at once; None where the KV cache is undecided."""
        return None if self.kv.undecided else max(0.0, self.kv_gib) * GIB / self.kv.of_request(length)

    def tokens(self, length: int) -> int | None:
        """Tokens of KV cache in requests of this length, as vLLM counts them."""
        fit = self.concurrency(length)
        return None if fit is None else math.floor(fit * length)


def need(parts: list[Group], config: Config, setting: Setting, kv: Kv) -> Need | None:
    """What the model needs under this setting; None where the bits of its weights are not known."""
    weights = weights_gib(parts)
    if weights is None:
        return None
    text = text_config(config)
    hidden, vocabulary = _number(text, "hidden_size", "n_embd") or 0, _number(text, "vocab_size") or 0
    used = _number(text, "num_experts_per_tok", "experts_per_token")
    width = _number(text, "intermediate_size") or 4 * hidden
    if used:
        width = max(width, used * (_number(text, "moe_intermediate_size") or width))
    step = setting.batched * ACTIVATION_COPIES * (width / setting.gpus + hidden) * 2
    logits = setting.max_num_seqs * vocabulary * LOGITS_BYTES
    depth = _number(text, "num_hidden_layers", "n_layer") or 0
    found = Need(
        budget_gib=setting.share * setting.card_gib,
        weights_gib=weights / setting.gpus + BUFFERS_GIB,
        activations_gib=(step + logits) / GIB,
        graphs_gib=0.0 if setting.eager else depth * GRAPHS_GIB_PER_LAYER,
        outside_gib=OUTSIDE_GIB,
        kv=kv,
    )
    if setting.kv_gib is None:
        return found
    taken = found.budget_gib - found.kv_gib
    return replace(found, budget_gib=min(taken + setting.kv_gib, setting.card_gib))


def _number(text: Config, *keys: str) -> int | None:
    """The first of these keys that holds a whole number above 0; one that is too large for any model is none."""
    values = (text.get(key) for key in keys)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 < v < 10**9), None)


def _listed(text: Config, key: str) -> list[Any]:
    value = text.get(key)
    return value if isinstance(value, list) else []
