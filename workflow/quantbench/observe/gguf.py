"""The header of a GGUF file: which architecture, which tensors, in which of GGML's types. No weights are read.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Read here and not with the package `gguf`, which
is in the environment of vLLM only: a plan is made without that.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

TYPES: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""GGML's number of a type → (name, weights of a block, its bytes)."""
BITS: Final = {name: 8 * bytes_ / weights for name, weights, bytes_ in TYPES.values()}
"""Of a weight, scales included."""
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST = 2**20
"""No count in a header is above this, and no text longer."""
_BESIDE: Final = ("token_embd", "output.")
"""Not linear layers of the decoder."""
_FAMILIES: Final = {"qwen3moe": "qwen3_moe", "qwen2moe": "qwen2_moe", "gemma3": "gemma3_text", "gpt-oss": "gpt_oss"}
"""`general.architecture` → what transformers calls it, where that differs."""
_KEYS: Final = {
    "block_count": "num_hidden_layers", "embedding_length": "hidden_size", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.sliding_window": "sliding_window", "vocab_size": "vocab_size",
    "expert_count": "num_experts", "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size", "attention.kv_lora_rank": "kv_lora_rank",
    "rope.dimension_count": "qk_rope_head_dim", "ssm.state_size": "ssm_state_size",
    "attention.chunk_size": "attention_chunk_size", "shortconv.l_cache": "conv_L_cache",
}  # fmt: skip
"""Keys of an architecture → those of a config.json."""
_PLACES: Final = (
    (re.compile(r"^blk\.(\d+)\.ffn_gate_inp\w*"), r"model.layers.\1.mlp.router"),
    (re.compile(r"^blk\.(\d+)\.ffn_(\w+)_exps"), r"model.layers.\1.mlp.experts.\2_proj"),
    (re.compile(r"^blk\.(\d+)\.ffn_(\w+)"), r"model.layers.\1.mlp.\2_proj"),
    (re.compile(r"^blk\.(\d+)\."), r"model.layers.\1."),
    (re.compile(r"^token_embd"), "model.embed_tokens"),
    (re.compile(r"^output\."), "lm_head."),
)
"""Names of tensors, as checkpoints of transformers have them, as far as it tells kinds of layers apart."""


@dataclass(frozen=True)
class Tensor:
    """GGML's name of its type, its shape as torch has it (outputs, inputs), the bits of a weight with its scales."""

    type: str
    shape: tuple[int, ...]
    bits: float


@dataclass(frozen=True)
class Gguf:
    """What a header says. values: its single values by key; lists: how long its lists are."""

    values: dict[str, Any]
    tensors: dict[str, Tensor]
    lists: dict[str, int] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name as in a checkpoint of transformers → (GGML's type, shape)."""
        found = {}
        for name, tensor in self.tensors.items():
            place = next((pattern.sub(to, name) for pattern, to in _PLACES if pattern.match(name)), name)
            found[place] = (tensor.type, tensor.shape)
        return found

    @property
    def config(self) -> dict[str, Any]:
        """What a config.json would say of sizes; a value that differs from layer to layer is a text, and no number."""
        family = str(self.values.get("general.architecture") or "")
        found: dict[str, Any] = {}
        for key, name in _KEYS.items():
            if (place := f"{family}.{key}") in self.values:
                found[name] = self.values[place]
            elif place in self.lists:
                found[name] = "differs"
        if not found:
            return {}
        vocabulary = self.lists.get("tokenizer.ggml.tokens")
        tied = "output.weight" not in self.tensors
        counted = {"vocab_size": vocabulary} if vocabulary and "vocab_size" not in found else {}
        return {"model_type": _FAMILIES.get(family, family), **found, **counted, "tie_word_embeddings": tied}

    @property
    def linear(self) -> list[Tensor]:
        """The matrices of the decoder's layers."""
        return [t for name, t in self.tensors.items() if len(t.shape) > 1 and not name.startswith(_BESIDE)]

    @property
    def bits_per_weight(self) -> float | None:
        """Mean over the linear layers, scales included."""
        total = sum(prod(tensor.shape) for tensor in self.linear)
        return sum(prod(tensor.shape) * tensor.bits for tensor in self.linear) / total if total else None

    @property
    def type(self) -> str:
        """The type of most linear weights, such as Q4_K; empty if there are none."""
        shares: Counter[str] = Counter()
        for tensor in self.linear:
            shares[tensor.type] += prod(tensor.shape)
        return shares.most_common(1)[0][0] if shares else ""

    @property
    def is_split(self) -> bool:
        """Is it one of several files of a model?"""
        count = self.values.get("split.count")
        return isinstance(count, int) and count > 1


_PART: Final = re.compile(r"(?P<stem>.+)-(?P<n>\d{5})-of-(?P<of>\d{5})\.gguf")


def whole(path: Path | str) -> Gguf:
    """The header of a model: of its file, or of all its parts (NAME-00001-of-00003.gguf), of which any may be named.

    Raises as `read`, and ValueError for a part that is not there.
    """
    match = _PART.fullmatch(Path(path).name)
    if not match:
        return read(path)
    names = [f"{match['stem']}-{n:05d}-of-{match['of']}.gguf" for n in range(1, int(match["of"]) + 1)]
    parts = [Path(path).with_name(name) for name in names]
    if missing := [part.name for part in parts if not part.exists()]:
        raise ValueError(f"is one of {len(parts)} parts, of which {', '.join(missing[:3])} is missing")
    headers = [read(part) for part in parts]
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    return Gguf(headers[0].values, tensors, headers[0].lists)


def read(path: Path | str) -> Gguf:
    """The header of a file. Raises OSError, or ValueError for what is no GGUF file, or is cut short."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("is no GGUF file")
        (version,) = _take(file, "I")
        if not 2 <= version <= 3:
            raise ValueError(f"is GGUF of version {version}, which is not known here")
        tensors, pairs = _take(file, "QQ")
        if max(tensors, pairs) > _MOST:
            raise ValueError("has a damaged header")
        values: dict[str, Any] = {}
        lists: dict[str, int] = {}
        for _ in range(pairs):
            key, (kind,) = _text(file), _take(file, "I")
            if kind == _ARRAY:
                lists[key] = _passed(file)
            else:
                values[key] = _value(file, kind)
        found, end = {}, 0
        for _ in range(tensors):
            name, (rank,) = _text(file), _take(file, "I")
            shape = _take(file, f"{min(rank, 8)}Q")[::-1]
            number, offset = _take(file, "IQ")
            if number not in TYPES:
                raise ValueError(f"has a tensor of the unknown type {number} ({name})")
            type_, weights, bytes_ = TYPES[number]
            found[name] = Tensor(type_, shape, BITS[type_])
            end = max(end, offset + prod(shape) // weights * bytes_)
        step = values.get("general.alignment", 32)
        if not isinstance(step, int) or step < 1:
            raise ValueError("has a damaged header")
        if size < (whole := -(-file.tell() // step) * step + end):
            raise ValueError(f"is cut short: {size} bytes of {whole}")
    return Gguf(values, found, lists)


def _take(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    content = file.read(struct.calcsize("<" + layout))
    try:
        return struct.unpack("<" + layout, content)
    except struct.error:
        raise ValueError("is cut short in its header") from None


def _text(file: BinaryIO) -> str:
    (length,) = _take(file, "Q")
    if length > _MOST:
        raise ValueError("has a damaged header")
    return file.read(length).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    """One value."""
    if kind == _STRING:
        return _text(file)
    if kind in _SCALARS:
        return _take(file, _SCALARS[kind])[0]
    raise ValueError("has a damaged header")


def _passed(file: BinaryIO) -> int:
    """How many values a list has, which is passed over."""
    of, count = _take(file, "IQ")
    if of in _SCALARS:
        file.seek(count * struct.calcsize("<" + _SCALARS[of]), 1)
    elif of == _STRING:
        for _ in range(count):
            _text(file)
    else:
        raise ValueError("has a damaged header")
    return int(count)
