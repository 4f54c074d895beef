"""Quantize a local model by rounding to nearest: no calibration data, seconds of work.

`python workflow/quantizers/rtn.py SOURCE OUT --scheme W8A8|W4A16|FP8_DYNAMIC [--group-size 128]`

Runs where vLLM runs (torch, transformers, compressed-tensors) and writes a compressed-tensors checkpoint that
vLLM serves as it is. Embeddings and the output head stay as they are. W8A8: int8 weights with one scale per
output row, int8 activations with one scale per token. W4A16: 4-bit weights with one scale per group of
`group-size` inputs. FP8_DYNAMIC: 8-bit floats, one weight scale per row, activations scaled per token.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from pathlib import Path

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationConfig,
    QuantizationStatus,
    apply_quantization_config,
    preset_name_to_scheme,
)
from compressed_tensors.quantization.utils import calculate_qparams
from transformers import AutoModelForCausalLM

WEIGHT_FILES = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}


def scheme_for(name: str, group_size: int | None) -> QuantizationConfig:
    """The recipe: every Linear but the output head; `group_size` counts only where weights have groups."""
    scheme = preset_name_to_scheme(name, ["Linear"])
    if scheme.weights.strategy == "group" and group_size:
        scheme.weights.group_size = group_size
    return QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])


def round_to_nearest(name: str, module: torch.nn.Module) -> None:
    """Set the scales (and zero points) of one module from the extremes of its weights.

    Raises ValueError when 4-bit packing is impossible.
    """
    args = module.quantization_scheme.weights
    weight = module.weight.float()
    rows, columns = weight.shape
    if args.num_bits == 4 and (rows % 32 or columns % 32):
        raise ValueError(f"{name} is {rows} x {columns}: 4-bit kernels need multiples of 32")
    groups = weight.view(rows, -1, args.group_size) if args.strategy == "group" else weight.view(rows, 1, -1)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    module.weight_scale.data.copy_(scale.view_as(module.weight_scale))
    if getattr(module, "weight_zero_point", None) is not None:
        module.weight_zero_point.data.copy_(zero.view_as(module.weight_zero_point))
    module.quantization_status = QuantizationStatus.FROZEN


def check_groups(modules: list[tuple[str, torch.nn.Module]]) -> None:
    """Raise ValueError, with the sizes that do, where the group size does not divide a module's inputs."""
    grouped = [(n, m.weight.shape[1], m.quantization_scheme.weights.group_size) for n, m in modules
               if m.quantization_scheme.weights.strategy == "group"]  # fmt: skip
    for name, columns, size in grouped:
        if columns % size:
            common = math.gcd(*(columns for _, columns, _ in grouped))
            able = ", ".join(str(other) for other in range(32, common + 1, 32) if common % other == 0) or "none"
            raise ValueError(
                f"group size {size} does not divide the {columns} inputs of {name} (sizes that do: {able})"
            )


def copy_companions(source: Path, out: Path) -> None:
    """Tokenizer, template, generation settings: everything beside weights, their indices and config.json."""
    for file in sorted(source.iterdir()):
        other = file.name == "config.json" or file.name.endswith(".index.json") or file.suffix in WEIGHT_FILES
        if file.is_file() and not other and file.name != "provenance.json":
            shutil.copyfile(file, out / file.name)


@torch.no_grad()  # type: ignore[untyped-decorator]
def quantize(source: Path, out: Path, scheme: str, group_size: int | None) -> int:
    """Write the quantized copy; returns the number of quantized modules (an error if there are none)."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, local_files_only=True)
    apply_quantization_config(model, scheme_for(scheme, group_size))
    modules = [(n, m) for n, m in model.named_modules() if getattr(m, "quantization_scheme", None)]
    check_groups(modules)
    for name, module in modules:
        round_to_nearest(name, module)
    if not modules:
        raise ValueError(f"{source} has no Linear layer to quantize")
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(out)
    compressor.update_config(out)
    copy_companions(source, out)
    return len(modules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scheme", required=True, choices=["W8A8", "W4A16", "FP8_DYNAMIC"])
    parser.add_argument("--group-size", type=int, default=None)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch wants")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    begin = time.perf_counter()
    try:
        count = quantize(args.source, args.out, args.scheme, args.group_size)
    except (ValueError, OSError) as error:
        sys.exit(f"quantize_rtn: {error}")
    size = sum(f.stat().st_size for f in args.out.glob("*.safetensors"))
    print(f"{args.scheme}: {count} layers, {size / 2**20:.1f} MiB, {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
