"""The KL divergence that a likelihood suite estimates, against the exact one, on real models: docs/benchmarks.md.

    python benchmarks/exact_kl.py --work /tmp/exact bf16=models/cpu/bf16 int8=models/cpu/int8 int4=models/cpu/int4

The first model is the baseline. Each is served by vLLM and asked through the plain API, as the suite does it; then the
same ids go through vLLM once more, in one process, which keeps the log-probabilities of the whole vocabulary
(positions x vocabulary, float32: 200 kB a position for 49 152 tokens). What is in the working folder is not made again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
from likelihood_simulation import Pool, coverage, drawn
from quantbench.quality import ask_likelihood, likelihood, prompt_set
from quantbench.records import base
from quantbench.records.likelihood import TOP, Likelihoods
from quantbench.records.suite import Likelihood

ROOT = Path(__file__).resolve().parent.parent
FULL = """
import json, sys
import numpy as np, torch
from vllm import LLM, SamplingParams
from vllm.v1.sample.sampler import Sampler

model, texts, out = sys.argv[1:]
texts = json.load(open(texts))
llm = LLM(model, dtype="bfloat16", enforce_eager=True, max_model_len=1024, max_num_batched_tokens=1024,
          generation_config="vllm", enable_prefix_caching=False)
seen, gather = [], Sampler.gather_logprobs
Sampler.gather_logprobs = staticmethod(lambda all, *rest: seen.append(all.clone()) or gather(all, *rest))
rows = None
for number, (prompt, text) in enumerate(texts):
    seen.clear()
    wanted = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=20)
    llm.generate({"prompt_token_ids": prompt + text}, wanted, use_tqdm=False)
    full = torch.cat(seen)
    assert len(full) == len(prompt) + len(text) - 1, "vLLM's sampler is not asked as it was in 0.32"
    if rows is None:
        shape = sum(len(text) for _, text in texts), full.shape[1]
        rows, at = np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=shape), 0
    rows[at : at + len(text)] = full[len(prompt) - 1 :].float().numpy()
    at += len(text)
rows.flush()
"""
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}  # fmt: skip
PATIENCE_S = 600


@contextmanager
def served(python: str, folder: str, port: int, log: Path) -> Iterator[str]:
    """The URL of a model that vLLM serves."""
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--served-model-name", "model"]
    command += ["--port", str(port), "--max-model-len", "1024", "--dtype", "bfloat16", "--enforce-eager"]
    command += ["--generation-config", "vllm"]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not _answers(f"{url}/health"):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{folder} is not served: {log}")
                time.sleep(1)
            yield url
        finally:
            server.terminate()
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except OSError:
        return False


def collected(name: str, folder: str, first: Likelihoods | None, args: argparse.Namespace) -> Likelihoods:
    """What the API tells of a model; None for `first`: this is the baseline, and writes the texts."""
    kept = args.work / f"{name}.json"
    if not kept.exists():
        path = ROOT / "config/prompts/likelihood.jsonl"
        prompts = prompt_set.parse(path.read_text(encoding="utf-8"), path.name)[: args.prompts]
        with served(args.python, folder, args.port, args.work / f"{name}.log") as url:
            start = time.monotonic()
            told = ask_likelihood.collect(
                url, "model", prompts, tokens=args.tokens, concurrency=args.concurrency, baseline=first
            )
            took = time.monotonic() - start
        base.write(kept, told)
        print(f"{name}: {took:.0f} s, {kept.stat().st_size / 1e6:.2f} MB", file=sys.stderr, flush=True)
    return base.read(kept, Likelihoods)


def whole(name: str, folder: str, first: Likelihoods, args: argparse.Namespace) -> np.ndarray:
    """Log-probabilities of the whole vocabulary at all positions, as vLLM computes them."""
    kept, texts = args.work / f"{name}.npy", args.work / "texts.json"
    if not kept.exists():
        base.write(texts, [[list(text.prompt_token_ids), list(text.token_ids)] for text in first.texts])
        environment = os.environ | ENVIRONMENT
        half = kept.with_suffix(".half.npy")
        with (args.work / f"{name}.full.log").open("wb") as log:
            command = [args.python, "-c", FULL, folder, str(texts), str(half)]
            subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)
        half.rename(kept)
    return np.load(kept, mmap_mode="r")


def top1(pool: Pool) -> float:
    """Share of positions with a most likely token in common, ties included."""
    return float(np.mean([((p == p.max()) & (q == q.max())).any() for p, q in zip(pool.p, pool.q, strict=True)]))


def naive(pool: Pool) -> float:
    """What others call KL: p ln(p / q) summed over the tokens of the first twenty that both list, and no more."""
    total = 0.0
    for p, q in zip(pool.p, pool.q, strict=True):
        both = np.intersect1d(np.argpartition(-p, TOP)[:TOP], np.argpartition(-q, TOP)[:TOP])
        total += float(np.exp(p[both].astype(float)) @ (p[both] - q[both]))
    return total / len(pool.p)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="NAME=FOLDER, the baseline first")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--port", type=int, default=18300)
    parser.add_argument("--python", default=str(ROOT / ".venv-vllm/bin/python"), help="of the environment of vLLM")
    parser.add_argument("--trials", type=int, default=0, help="of the interval on each pair; 0: no second table")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    (name, folder), *others = (model.split("=", 1) for model in args.models)
    first = collected(name, folder, None, args)
    text = np.repeat(np.arange(len(first.texts)), [len(text.token_ids) for text in first.texts])
    floor = likelihood.score("likelihood", (name, first), (name, first)).likelihood_floor
    rows, trials = [], []
    p = whole(name, folder, first, args)
    for other, place in others:
        said = likelihood.score("likelihood", (name, first), (other, collected(other, place, first, args))).likelihood
        pool = Pool(p, whole(other, place, first, args), text)
        exact = pool.kl
        rows.append((float(exact.mean()), other, said, naive(pool), float(np.quantile(exact, 0.99)), top1(pool)))
        rng = np.random.default_rng(1)
        looks = list(drawn(pool, 60, rng)) if args.trials else []
        for c in (None, 0.0, 1.0) if args.trials else ():
            got = coverage(pool, looks, rng, texts=len(first.texts), trials=args.trials, c=c)
            trials.append((got.truth, other, "rule" if c is None else f"{c:g}", got))
            print(other, c, got, file=sys.stderr, flush=True)
    print(
        "| model | exact KL | estimate [95 % CI] | naive top-20 sum | lower bound | 99 %: exact | estimate "
        "| top-1: exact | API | near ties | PPL ratio |"
    )
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    if floor:
        _row(None, f"{name} again, {first.again_concurrency} at a time", floor, None, None, None)
    for truth, other, said, sum_, p99, agree in sorted(rows, key=lambda row: row[0]):
        _row(truth, other, said, sum_, p99, agree)
    if trials:
        print("\n| model | exact KL | weight | covers | reads low | reads high | half-width | mean |")
        print("|---|---:|---|---:|---:|---:|---:|---:|")
        for truth, other, kind, got in sorted(trials, key=lambda row: row[0]):
            print(
                f"| {other} | {truth:.4f} | {kind} | {got.share:.1%} | {got.low:.1%} | {got.high:.1%} | "
                f"{got.half:.1%} | {got.bias:.3f} |"
            )


def _row(
    truth: float | None, name: str, said: Likelihood, sum_: float | None, p99: float | None, agree: float | None
) -> None:
    kl = said.kl
    estimate = f"{_digits(kl.value)} [{_digits(kl.low)}, {_digits(kl.high)}]"
    cells = [name, _digits(truth), estimate, _digits(sum_), _digits(said.kl_lower_bound), _digits(p99)]
    cells += [_digits(said.kl_p99), "" if agree is None else f"{agree:.1%}", f"{said.top1.value:.1%}"]
    cells += [f"{said.near_ties:.1%}", f"{said.ppl_ratio.value:.3f}"]
    print("| " + " | ".join(cells) + " |")


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if value < 0.1 else f"{value:.3f}"


if __name__ == "__main__":
    main()
