"""Damaged copies of a checkpoint, for suites that must see the damage. Run in the environment of vLLM (torch):

    .venv-vllm/bin/python tests/damage.py KIND SOURCE TARGET

SOURCE: a folder of a BF16 or FP16 model of Llama's layout, in one safetensors file. KIND, with its amount:

    rows:8      rows of so many pairs of frequent tokens swapped, in the embedding and in lm_head
    shuffle:15  the weights of layer 15 in random order
    zero:15     layer 15 adds nothing, neither its attention nor its MLP
    head:15     one head of the attention of layer 15 adds nothing
    noise:1     random noise, so many times what rounding to INT8 (a scale per row) does to each weight
    permute     units of all MLPs in another order: the same function, summed otherwise. No damage, but the floor of it
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WORDS = (
    " the", " of", " and", " to", " a", " in", " is", " that", " for", " it", " as", " was", " with", " be", " by",
    " on", " not", " he", " this", " are", " or", " his", " from", " at", " which", " but", " have", " an", " had",
    " they", " you", " were",
)  # fmt: skip
"""Frequent English words, each usually one token."""
Tensors = dict[str, Any]


def rows(tensors: Tensors, pairs: int, ids: list[int]) -> None:
    """Swap the rows of pairs of tokens; ids: frequent tokens, the pairs one after the other."""
    for name, tensor in tensors.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            for a, b in zip(ids[: 2 * pairs : 2], ids[1 : 2 * pairs : 2], strict=True):
                tensor[[a, b]] = tensor[[b, a]]


def shuffle(tensors: Tensors, layer: int, torch: Any) -> None:
    """All entries of each matrix of a layer in random order."""
    for name in _matrices(tensors, layer):
        flat = tensors[name].flatten()
        tensors[name] = flat[torch.randperm(len(flat))].reshape(tensors[name].shape)


def zero(tensors: Tensors, layer: int) -> None:
    """What leaves the attention and the MLP of a layer is zero."""
    for part in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
        tensors[f"model.layers.{layer}.{part}"].zero_()


def head(tensors: Tensors, layer: int, size: int) -> None:
    """What the first head of a layer attends to is dropped; size: of a head."""
    tensors[f"model.layers.{layer}.self_attn.o_proj.weight"][:, :size] = 0


def noise(tensors: Tensors, times: float, torch: Any) -> None:
    """Normal noise in each matrix of the layers; its sd is `times` that of rounding a row to 255 equal steps."""
    for name in _matrices(tensors):
        full = tensors[name].float()
        step = full.abs().amax(dim=1, keepdim=True) / 127
        tensors[name] = (full + torch.randn(full.shape) * times * step / 12**0.5).to(tensors[name].dtype)


def permute(tensors: Tensors, torch: Any) -> None:
    """The units of each MLP in one random order: rows of gate and up, columns of down."""
    for name in [name for name in tensors if name.endswith("mlp.down_proj.weight")]:
        order = torch.randperm(tensors[name].shape[1])
        tensors[name] = tensors[name][:, order].contiguous()
        for part in ("gate_proj", "up_proj"):
            other = name.replace("down_proj", part)
            tensors[other] = tensors[other][order].contiguous()


def _matrices(tensors: Tensors, layer: int | None = None) -> Iterator[str]:
    start = "model.layers." if layer is None else f"model.layers.{layer}."
    yield from (name for name, tensor in list(tensors.items()) if name.startswith(start) and tensor.ndim == 2)


def copy(kind: str, source: Path, target: Path, seed: int = 0) -> None:
    """Write a damaged copy of the folder `source` to `target`. Raises ValueError for an unknown kind."""
    import torch
    from safetensors.torch import load_file, save_file
    from tokenizers import Tokenizer

    torch.manual_seed(seed)
    name, _, amount = kind.partition(":")
    config = json.loads((source / "config.json").read_text())
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]

    def frequent() -> list[int]:
        tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
        tokens = [tokenizer.encode(word, add_special_tokens=False).ids for word in WORDS]
        return [ids[0] for ids in tokens if len(ids) == 1]

    kinds: dict[str, Callable[[Tensors], None]] = {
        "rows": lambda tensors: rows(tensors, int(amount or 8), frequent()),
        "shuffle": lambda tensors: shuffle(tensors, int(amount or 15), torch),
        "zero": lambda tensors: zero(tensors, int(amount or 15)),
        "head": lambda tensors: head(tensors, int(amount or 15), size),
        "noise": lambda tensors: noise(tensors, float(amount or 1), torch),
        "permute": lambda tensors: permute(tensors, torch),
    }
    if name not in kinds:
        raise ValueError(f"{kind}: no such damage; one of {', '.join(kinds)}")
    (file,) = source.glob("*.safetensors")
    tensors = load_file(file)
    kinds[name](tensors)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "provenance.json"))
    save_file(tensors, target / file.name, metadata={"format": "pt"})


if __name__ == "__main__":
    copy(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
