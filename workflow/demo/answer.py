"""Greedy answers of a local model without a server: `-m demo.answer MODEL PROMPTS.jsonl` prints JSON lines.

For the test that remakes the weights and for choosing prompts; the pipeline asks the served model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("prompts", type=Path, help="JSON lines with id, prompt and max_tokens")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16).eval()
    for line in args.prompts.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        turn = [{"role": "user", "content": item["prompt"]}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=item["max_tokens"]
        )
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        print(json.dumps({"id": item["id"], "output": answer}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
