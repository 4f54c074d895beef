"""Make the model folders of a GPU reference run: a real architecture, no weights (`load_format: dummy`).

The GPU machines of these runs have no model hub. The folders hold the shape of a Qwen2.5 Instruct model (its
config.json), the quantization_config that its AWQ and GPTQ releases carry, and a tokenizer: the demo model's, padded
with filler tokens to the same vocabulary size, so that every token id that random weights can produce can be decoded.

    python benchmarks/reference_gpu/make_models.py models/dummy [1.5b | 7b]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[2] / "data" / "demo-model"

ARCHITECTURE: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "initializer_range": 0.02,
    "intermediate_size": 8960,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}

SHAPES: dict[str, dict[str, Any]] = {
    "1.5b": ARCHITECTURE,
    "7b": ARCHITECTURE
    | {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_window_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": 152064,
    },
}

QUANTIZATION: dict[str, dict[str, Any] | None] = {
    "bf16": None,
    "awq": {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": None,
    },
    "gptq": {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 128,
        "damp_percent": 0.01,
        "desc_act": False,
        "static_groups": False,
        "sym": True,
        "true_sequential": True,
        "model_name_or_path": None,
        "model_file_base_name": "model",
        # vLLM reads from the safetensors headers which layers are quantized; without weights it finds none and would
        # serve plain BF16 without a word. So the layers are named.
        "modules_in_block_to_quantize": [
            ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj"],
            ["self_attn.o_proj"],
            ["mlp.up_proj", "mlp.gate_proj"],
            ["mlp.down_proj"],
        ],
    },
}


QUANTIZATION["gptq_int8"] = {**(QUANTIZATION["gptq"] or {}), "bits": 8}


def padded_tokenizer(size: int) -> dict[str, Any]:
    """The demo tokenizer with filler entries up to `size`; no merge leads to them, so encoding never yields one."""
    tokenizer: dict[str, Any] = json.loads((DEMO / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    taken = set(vocabulary.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    vocabulary.update({f"filler{number}": number for number in range(size) if number not in taken})
    return tokenizer


def main(target: Path, shape: str = "1.5b") -> None:
    """Write one folder per variant under `target`."""
    architecture = SHAPES[shape]
    tokenizer = json.dumps(padded_tokenizer(architecture["vocab_size"]))
    settings = json.loads((DEMO / "tokenizer_config.json").read_text()) | {"model_max_length": 32768}
    for name, quantization in QUANTIZATION.items():
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        config = architecture | ({"quantization_config": quantization} if quantization else {})
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        (folder / "tokenizer.json").write_text(tokenizer)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        print(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
