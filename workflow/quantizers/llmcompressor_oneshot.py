"""Quantize a local model with calibration: GPTQ or AWQ by llm-compressor, in an environment of its own.

`.venv-llmcompressor/bin/python workflow/quantizers/llmcompressor_oneshot.py SOURCE OUT --method gptq --scheme W4A16
 --calibration data/documents.jsonl --samples 128`

The calibration file has one JSON object per line with `text`, `prompt` or `messages`; the lines are used in file
order, from the start again when there are fewer than `samples` (llm-compressor then sees a text more than once).
The checkpoint is in compressed-tensors format; vLLM 0.32 (compressed-tensors 0.17) serves it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from rtn import copy_companions  # type: ignore[import-not-found]
from transformers import AutoModelForCausalLM, AutoTokenizer


def calibration(path: Path, samples: int, tokenizer: Any, longest: int) -> Dataset:
    """`samples` tokenized texts of at most `longest` tokens, in file order; conversations get the chat template."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} has no lines")
    texts = [_text(line, tokenizer) for line in itertools.islice(itertools.cycle(lines), samples)]
    rows = [tokenizer(t, truncation=True, max_length=longest, add_special_tokens=False) for t in texts]
    return Dataset.from_list([{"input_ids": r["input_ids"], "attention_mask": r["attention_mask"]} for r in rows])


def _text(line: dict[str, Any], tokenizer: Any) -> str:
    if "text" in line:
        return str(line["text"])
    turns = line.get("messages") or [{"role": "user", "content": line["prompt"]}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def scheme_for(name: str, group_size: int) -> QuantizationScheme:
    """The named scheme; `group_size` counts only where weights have groups."""
    scheme = preset_name_to_scheme(name, ["Linear"])
    if scheme.weights.strategy == "group":
        scheme.weights.group_size = group_size
    return scheme


def recipe(method: str, scheme: QuantizationScheme) -> list[Any]:
    """The modifiers; embeddings and the output head stay as they are."""
    what = {"config_groups": {"group_0": scheme}, "ignore": ["lm_head"]}
    if method == "gptq":
        return [GPTQModifier(**what)]
    return [AWQModifier(), QuantizationModifier(**what)]


def without_pinning() -> None:
    """AWQ pins its cache for a copy to an accelerator, which raises on a machine that has none."""
    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_, **__: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", required=True, choices=["gptq", "awq"])
    parser.add_argument("--scheme", required=True, choices=["W8A8", "W4A16", "W4A16_ASYM"])
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--longest", type=int, default=512, help="tokens of a calibration text that are used")
    args = parser.parse_args()
    without_pinning()
    try:
        model = AutoModelForCausalLM.from_pretrained(args.source, dtype=torch.bfloat16, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(args.source, local_files_only=True)
        texts = calibration(args.calibration, args.samples, tokenizer, args.longest)
        modifiers = recipe(args.method, scheme_for(args.scheme, args.group_size))
        oneshot(
            model=model,
            tokenizer=tokenizer,
            dataset=texts,
            recipe=modifiers,
            num_calibration_samples=len(texts),
            max_seq_length=args.longest,
            shuffle_calibration_samples=False,
        )
        model.save_pretrained(args.out, save_compressed=True)
    except (ValueError, OSError, KeyError) as error:
        sys.exit(f"llmcompressor: {type(error).__name__}: {error}")
    copy_companions(args.source, args.out)
    print(f"{args.method} {args.scheme}: {len(texts)} calibration texts")


if __name__ == "__main__":
    main()
