"""Unpack a GGUF file to a BF16 folder: `python workflow/quantizers/unpack_gguf.py FILE.gguf OUT`

Runs where vLLM runs (torch, transformers), and needs the packages gguf and accelerate there. Weights, configuration,
tokenizer and chat template come from the file. Unpacking gives back no precision: what four bits lost stays lost.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NEEDED = ("gguf", "accelerate")


def unpack(file: Path, out: Path) -> int:
    """Write the folder; returns the number of parameters. Raises ValueError for an architecture that is not known."""
    more: dict[str, Any] = {}
    try:
        from transformers import GgufConfig  # type: ignore[attr-defined, unused-ignore]

        more["quantization_config"] = GgufConfig(dequantize=True)
    except ImportError:  # an older transformers always unpacks
        pass
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, local_files_only=True, **more
    )
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True).save_pretrained(out)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    if missing := [name for name in NEEDED if not importlib.util.find_spec(name)]:
        sys.exit(f"unpack_gguf: {sys.executable} lacks {' and '.join(missing)}: "
                 f"{sys.executable} -m pip install {' '.join(missing)}")  # fmt: skip
    begin = time.perf_counter()
    # Transformers opens the file four times, and each takes seconds for its list of tokens.
    gguf = importlib.import_module("gguf")
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)  # type: ignore[attr-defined, unused-ignore]
    try:
        parameters = unpack(args.file, args.out)
    except (ValueError, OSError, KeyError, NotImplementedError) as error:
        sys.exit(f"unpack_gguf: {args.file.name}: {' '.join(str(error).split())}")
    size = sum(f.stat().st_size for f in args.out.glob("*.safetensors"))
    print(f"{parameters / 1e6:.1f} M parameters, {size / 2**20:.1f} MiB, {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
