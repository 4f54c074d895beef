"""GGUF files of a few kilobytes: any header, and a whole llama of some thousand weights that can be unpacked."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

F32, Q4_1, Q8_0, Q4_K, BF16 = 0, 3, 8, 12, 30
_BLOCKS = {F32: (1, 4), Q4_1: (32, 20), Q8_0: (32, 34), Q4_K: (256, 144), BF16: (1, 2)}
Tensors = Mapping[str, tuple[Sequence[int], int]]
"""Name → (shape as torch has it, GGML's number of the type)."""


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        inner = [_value(item) for item in value]
        return struct.pack("<I", 9) + inner[0][:4] + struct.pack("<Q", len(value)) + b"".join(i[4:] for i in inner)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<II", 4, value)


def gguf(tensors: Tensors, **values: Any) -> bytes:
    """A file of version 3; a key's `__` stands for a dot. Blocks hold small scales and random bits."""
    named = {key.replace("__", "."): value for key, value in values.items()}
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(named))
    out += b"".join(_text(key) + _value(value) for key, value in named.items())
    data = b""
    for name, (shape, kind) in tensors.items():
        data += bytes(-len(data) % 32)
        out += _text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", kind, len(data))
        data += _weights(name, prod(shape), kind)
    return out + bytes(-len(out) % 32) + data


def _weights(name: str, count: int, kind: int) -> bytes:
    weights, size = _BLOCKS[kind]
    if kind == F32:
        return struct.pack("<f", 1.0) * count
    chance = random.Random(name)
    head = struct.pack("<ee", 0.01, -0.05) if kind == Q4_1 else struct.pack("<e", 0.001)[: size - weights]
    return b"".join(head + chance.randbytes(size - len(head)) for _ in range(count // weights))


def tiny_llama() -> bytes:
    """One layer, 64 wide, Q4_1, with a byte-level tokenizer and a chat template."""
    tokens = ["<|end|>", *(chr(c) for c in range(33, 127)), "Ġ", "Ċ", "ab"]
    hidden, inner = 64, 96
    layer = {
        "attn_q": (hidden, hidden), "attn_k": (32, hidden), "attn_v": (32, hidden), "attn_output": (hidden, hidden),
        "ffn_gate": (inner, hidden), "ffn_up": (inner, hidden), "ffn_down": (hidden, inner),
    }  # fmt: skip
    tensors: dict[str, tuple[Sequence[int], int]] = {"token_embd.weight": ((len(tokens), hidden), Q8_0)}
    tensors |= {f"blk.0.{name}.weight": (shape, Q4_1) for name, shape in layer.items()}
    tensors |= dict.fromkeys(("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"), ((hidden,), F32))
    return gguf(
        tensors | {"output_norm.weight": ((hidden,), F32)},
        general__architecture="llama", general__name="tiny", general__license="cc0-1.0", llama__block_count=1,
        llama__context_length=128, llama__embedding_length=hidden, llama__feed_forward_length=inner,
        llama__attention__head_count=4, llama__attention__head_count_kv=2, llama__rope__freq_base=10000.0,
        llama__attention__layer_norm_rms_epsilon=1e-5, llama__vocab_size=len(tokens), llama__rope__dimension_count=16,
        tokenizer__ggml__model="gpt2", tokenizer__ggml__pre="smollm", tokenizer__ggml__tokens=tokens,
        tokenizer__ggml__token_type=[3] + [1] * (len(tokens) - 1), tokenizer__ggml__merges=["a b"],
        tokenizer__ggml__bos_token_id=0, tokenizer__ggml__eos_token_id=0, tokenizer__chat_template="{{ messages }}",
    )  # fmt: skip
