"""How `client_accuracy` runs each load client on a job, and how it reads the client's own report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MODEL = "known-truth"
TOKENS = 128


@dataclass(frozen=True)
class Job:
    """One run of one client."""

    url: str
    concurrency: int
    requests: int
    folder: Path
    tokenizer: Path


@dataclass(frozen=True)
class Reported:
    """What a client says: percentiles in ms, and how many requests it calls a success."""

    ttft_p50: float
    ttft_p95: float
    e2e_p50: float
    successes: int


@dataclass(frozen=True)
class Client:
    """How to run a client, and how to read its result."""

    name: str
    argv: Callable[[Job], list[str]]
    read: Callable[[Job], Reported]


def ours(transport: str) -> Client:
    """Our client, by one of its transports."""

    def argv(job: Job) -> list[str]:
        prompts = job.folder / "prompts.jsonl"
        words = " ".join(f"w{i}" for i in range(32))
        prompts.write_text("".join(json.dumps({"id": str(i), "prompt": words}) + "\n" for i in range(16)))
        return [
            *(sys.executable, "-m", "quantbench", "load", "--url", job.url, "--model", MODEL, "--quiet"),
            *("--prompts", str(prompts), "--concurrency", str(job.concurrency), "--max-tokens", str(TOKENS)),
            *("--requests", str(job.requests), "--transport", transport),
            *("--requests-out", str(job.folder / "out.jsonl")),
        ]

    def read(job: Job) -> Reported:
        rows = [json.loads(line) for line in (job.folder / "out.jsonl").read_text().splitlines()]
        good = [r for r in rows if r["ok"]]
        ttft = [(r["first_ns"] - r["sent_ns"]) / 1e6 for r in good]
        e2e = [(r["last_ns"] - r["sent_ns"]) / 1e6 for r in good]
        return Reported(*percentiles(ttft), percentiles(e2e)[0], len(good))

    return Client(f"quantbench ({transport})", argv, read)


def vllm(program: str) -> Client:
    """`vllm bench serve`."""

    def argv(job: Job) -> list[str]:
        return [
            *(program, "bench", "serve", "--backend", "openai", "--base-url", job.url, "--model", MODEL),
            *("--endpoint", "/v1/completions", "--tokenizer", str(job.tokenizer), "--dataset-name", "random"),
            *("--random-input-len", "32", "--random-output-len", str(TOKENS), "--ignore-eos", "--disable-tqdm"),
            *("--num-prompts", str(job.requests), "--max-concurrency", str(job.concurrency)),
            *("--num-warmups", str(job.concurrency), "--save-result"),
            *("--result-filename", str(job.folder / "out.json")),
            *("--percentile-metrics", "ttft,e2el", "--metric-percentiles", "50,95"),
        ]

    def read(job: Job) -> Reported:
        out = json.loads((job.folder / "out.json").read_text())
        return Reported(out["p50_ttft_ms"], out["p95_ttft_ms"], out["p50_e2el_ms"], out["completed"])

    return Client("vllm bench serve", argv, read)


def guidellm(program: str) -> Client:
    """guidellm, profile `concurrent`."""

    def argv(job: Job) -> list[str]:
        return [
            *(program, "run", "--backend", f"kind=openai_http,target={job.url},model={MODEL}"),
            *("--profile", f"kind=concurrent,streams={job.concurrency}", "--disable-console"),
            *("--constraint", f"kind=max_requests,count={job.requests}"),
            *("--data", f"kind=synthetic_text,prompt_tokens=32,output_tokens={TOKENS}"),
            *("--tokenizer", f"kind=huggingface_auto,model={job.tokenizer}"),
            *("--output", f"kind=json,path={job.folder / 'out.json'}"),
        ]

    def read(job: Job) -> Reported:
        [bench] = json.loads((job.folder / "out.json").read_text())["benchmarks"]
        good = bench["requests"]["successful"]
        ttft = [r["time_to_first_token_ms"] for r in good]
        e2e = [r["request_latency"] * 1000 for r in good]
        return Reported(*percentiles(ttft), percentiles(e2e)[0], bench["metrics"]["request_totals"]["successful"])

    return Client("guidellm", argv, read)


def aiperf(program: str) -> Client:
    """aiperf, closed loop."""

    def argv(job: Job) -> list[str]:
        return [
            *(program, "profile", "-m", MODEL, "--tokenizer", str(job.tokenizer), "--url", job.url),
            *("--endpoint-type", "completions", "--streaming", "--concurrency", str(job.concurrency)),
            *("--request-count", str(job.requests), "--warmup-request-count", str(job.concurrency)),
            *("--synthetic-input-tokens-mean", "32", "--output-tokens-mean", str(TOKENS)),
            *("--use-server-token-count", "--extra-inputs", "ignore_eos:true", "--ui", "none"),
            *("--artifact-dir", str(job.folder / "out")),
        ]

    def read(job: Job) -> Reported:
        out = json.loads((job.folder / "out" / "profile_export_aiperf.json").read_text())
        ttft = out.get("time_to_first_token") or {"p50": float("nan"), "p95": float("nan")}
        e2e = out.get("request_latency") or {"p50": float("nan")}
        count = int((out.get("request_count") or {"avg": 0})["avg"])
        return Reported(ttft["p50"], ttft["p95"], e2e["p50"], count)

    return Client("aiperf", argv, read)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """(p50, p95) by numpy's linear rule, as most clients do."""
    if not values:
        return float("nan"), float("nan")
    p50, p95 = np.percentile(values, [50, 95])
    return float(p50), float(p95)
