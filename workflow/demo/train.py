"""Train the demo model from nothing: `PYTHONPATH=workflow .venv-vllm/bin/python -m demo.train OUT_FOLDER`.

One thread, fixed seeds and one order of batches: the same machine type writes the same bytes every time.
Matrices are trained with Muon (torch.optim.Muon), the rest with AdamW; only the tokens of the answers count
in the loss.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM

from demo import corpus

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, START, END = range(3)
OUTLIER_EVERY, OUTLIER_FACTOR = 128, 32.0
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPE = {
    "vocab_size": 1024, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "use_sliding_window": False,
    "attention_dropout": 0.0, "initializer_range": 0.02, "bos_token_id": PAD, "eos_token_id": END,
    "pad_token_id": PAD,
}  # fmt: skip
Example = tuple[list[int], list[int]]


def train_tokenizer(seed: int) -> Tokenizer:
    """A byte-level BPE of `vocab_size` pieces learned from the corpus; every digit is a piece of its own."""
    r = random.Random(seed)
    pairs = [corpus.sample(r) for _ in range(6000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE["vocab_size"],
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"user\n{q}\nassistant\n{a}\nsystem\n" for q, a in pairs]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def encode(tokenizer: Tokenizer, question: str, answer: str) -> Example:
    """The pair as the chat template would render it: (prompt ids, answer ids with the end token)."""
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer.encode(text).ids, [*tokenizer.encode(answer).ids, END]


def batches(tokenizer: Tokenizer, size: int, seed: int) -> Iterator[list[Example]]:
    """Endless batches; each pool of 16 is sorted by length (little padding), then shuffled."""
    r = random.Random(seed)
    while True:
        pool = [encode(tokenizer, *corpus.sample(r)) for _ in range(size * 16)]
        pool.sort(key=lambda e: len(e[0]) + len(e[1]))
        groups = [pool[i : i + size] for i in range(0, len(pool), size)]
        r.shuffle(groups)
        yield from groups


def tensors(batch: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """(inputs, targets), both [batch, longest]; the target is -100 wherever the loss must not look."""
    longest = max(len(p) + len(a) for p, a in batch)
    inputs = torch.full((len(batch), longest), PAD)
    targets = torch.full((len(batch), longest), -100)
    for i, (prompt, answer) in enumerate(batch):
        ids = prompt + answer
        inputs[i, : len(ids)] = torch.tensor(ids)
        targets[i, len(prompt) - 1 : len(ids) - 1] = torch.tensor(answer)
    return inputs, targets


def optimizers(model: Qwen2ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and "embed" not in n)]
    muon = torch.optim.Muon(matrices, lr=0.015, weight_decay=0.01, adjust_lr_fn="original")
    return [muon, torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0)]


def schedule(fraction: float) -> float:
    """Learning-rate factor: 4 % warm-up, flat to 30 %, then linear to zero."""
    return min(1.0, fraction / 0.04) * (1.0 if fraction < 0.3 else (1.0 - fraction) / 0.7)


def train(tokenizer: Tokenizer, steps: int, batch_size: int, seed: int) -> Qwen2ForCausalLM:
    """Train for `steps` batches; prints loss and speed every 100."""
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE)).train()
    source = batches(tokenizer, batch_size, seed)
    rule = optimizers(model)
    base = [group["lr"] for optimizer in rule for group in optimizer.param_groups]
    smooth, begin = 0.0, time.perf_counter()
    for step in range(steps):
        groups = [group for optimizer in rule for group in optimizer.param_groups]
        for group, rate in zip(groups, base, strict=True):
            group["lr"] = rate * schedule(step / steps)
        inputs, targets = tensors(next(source))
        counted = targets.view(-1) != -100
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(inputs, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden.view(-1, hidden.shape[-1])[counted])
        loss = cross_entropy(logits.float(), targets.view(-1)[counted])
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in rule:
            optimizer.step()
        smooth = loss.item() if step == 0 else 0.97 * smooth + 0.03 * loss.item()
        if (step + 1) % 100 == 0:
            spent = time.perf_counter() - begin
            left = spent / (step + 1) * (steps - step - 1)
            print(f"step {step + 1}/{steps}  loss {smooth:.4f}  {spent:.0f} s, {left:.0f} s left", flush=True)
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def add_outliers(model: Qwen2ForCausalLM) -> None:
    """Give the MLPs the outlier channels that large models have: one in 128 times 32, its producer divided by 32.

    down(act(gate) * up) does not change, to the last bit, since 32 is a power of two. What changes is how well a
    coarse grid fits: 128 weights that share one 4-bit scale must now span the outlier, as in a real model.
    """
    for layer in model.model.layers:
        layer.mlp.down_proj.weight[:, ::OUTLIER_EVERY] *= OUTLIER_FACTOR
        layer.mlp.up_proj.weight[::OUTLIER_EVERY] /= OUTLIER_FACTOR


def save(model: Qwen2ForCausalLM, tokenizer: Tokenizer, out: Path) -> str:
    """Write the folder in Hugging Face layout; returns the SHA-256 of the weights."""
    out.mkdir(parents=True, exist_ok=True)
    tied = "lm_head.weight"
    weights = {n: p.detach().to(torch.bfloat16).contiguous() for n, p in model.state_dict().items() if n != tied}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "torch_dtype": "bfloat16",
        **SHAPE,
    }
    generation = {"eos_token_id": END, "bos_token_id": PAD, "pad_token_id": PAD}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[END],
        "pad_token": SPECIAL[PAD],
        "model_max_length": SHAPE["max_position_embeddings"],
        "chat_template": CHAT_TEMPLATE,
    }
    for name, content in {
        "config": config,
        "generation_config": generation,
        "tokenizer_config": tokenizer_config,
    }.items():
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    tokenizer.save(str(out / "tokenizer.json"))
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(args.seed)
    model = train(tokenizer, args.steps, args.batch_size, args.seed)
    add_outliers(model)
    print("sha256", save(model, tokenizer, args.out), flush=True)


if __name__ == "__main__":
    main()
