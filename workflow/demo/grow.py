"""Make a model slower without changing what it computes: pad its MLPs with zeros.

`.venv-vllm/bin/python workflow/demo/grow.py SOURCE OUT --intermediate-size N` (0 keeps the size)

A zero row in gate and up gives silu(0) * 0 = 0, and the matching zero column in down adds nothing, so every
output stays the same while each token costs the work of the wider model. It gives the demo speeds in which
fewer bits per weight can be seen. Works on any Qwen2- or Llama-style folder with one safetensors file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def pad(name: str, weight: torch.Tensor, size: int) -> torch.Tensor:
    """The weight with its intermediate dimension (rows of gate and up, columns of down) padded to `size`."""
    rows, columns = weight.shape if weight.dim() == 2 else (0, 0)
    if name.endswith(("gate_proj.weight", "up_proj.weight")):
        return torch.cat([weight, weight.new_zeros(size - rows, columns)])
    if name.endswith("down_proj.weight"):
        return torch.cat([weight, weight.new_zeros(rows, size - columns)], dim=1)
    return weight


def grow(source: Path, out: Path, size: int) -> int:
    """Write the grown copy of `source` to `out` (size 0: a plain copy); returns its number of parameters.

    Raises ValueError when `size` is below the model's own intermediate size.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    size = size or config["intermediate_size"]
    if size < config["intermediate_size"]:
        raise ValueError(f"intermediate size {size} is below the model's own {config['intermediate_size']}")
    weights = {n: pad(n, w, size) for n, w in load_file(source / "model.safetensors").items()}
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*.json")):
        shutil.copyfile(file, out / file.name)
    config["intermediate_size"] = size
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return sum(w.numel() for w in weights.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--intermediate-size", type=int, default=0, help="0 keeps the model's own")
    args = parser.parse_args()
    try:
        parameters = grow(args.source, args.out, args.intermediate_size)
    except (ValueError, OSError) as error:
        sys.exit(f"grow: {error}")
    print(f"{args.out}: {parameters / 1e6:.1f} M parameters, intermediate size {args.intermediate_size or 'unchanged'}")


if __name__ == "__main__":
    main()
