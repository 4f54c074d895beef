"""A small, complete results tree with synthetic values, for tests and for looking at pages. Never shipped as results.

Verdict, quality scores and cost go through the real code; only the measured values are invented.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from quantbench.client.tables_io import write_records, write_rows
from quantbench.files import write_json
from quantbench.judge import cost, verdict
from quantbench.quality import score
from quantbench.quality.checks import CheckResult
from quantbench.report import impact, measurement, tables
from quantbench.report.facts import Facts

Json = dict[str, Any]
START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC).timestamp()
GRID = {"chat": [(1, 128), (8, 128), (16, 128)], "batch_summarize": [(16, 256), (32, 256)]}
STYLES = {"chat": "interactive", "batch_summarize": "batch"}
COMMAND = ["snakemake", "--cores", "1", "--configfile", "my gpu.yaml", "--config", "gpu=test-gpu", "blocks=6"]
SPEED = {"awq": (1.45, 1.05), "gptq": (1.4, 1.0), "fp8": (1.2, 1.25), "int8": (0.9, 1.01), "slow": (0.7, 0.8)}
LABELS = {
    "bf16": "BF16",
    "awq": "AWQ 4-bit",
    "gptq": "GPTQ 4-bit",
    "fp8": "FP8 (online)",
    "int8": "INT8",
    "slow": "GGUF",
}


@dataclass(frozen=True)
class Scenario:
    """What the tree holds."""

    variants: tuple[str, ...] = ("awq",)
    workloads: tuple[str, ...] = ("chat", "batch_summarize")
    blocks: int = 6
    aa: bool = True
    price: bool = True
    quality: bool = True
    telemetry: bool = True
    p95: bool = True
    invalid: bool = False
    memory: bool = True
    interleaved: bool = True
    predictions: bool = True
    cpu: bool = False


@lru_cache
def facts(scenario: Scenario) -> Facts:
    """The facts of a scenario, without files."""
    rng = random.Random(7)
    contexts = _contexts(scenario, rng)
    config = _config(scenario)
    ready = {model: _ready(model, scenario) for model in ("bf16", *scenario.variants)}
    sessions = {model: _session(model, i) for i, model in enumerate(ready)}
    judged = verdict.build_verdict(
        contexts,
        baseline="bf16",
        primary=config["primary"],
        variants=list(scenario.variants),
        target=0.02,
        planned_blocks=scenario.blocks,
        gpu_name=config["gpu_name"],
    )
    capacity = _capacity(contexts, scenario)
    labels = {model: LABELS[model] for model in ready}
    found = Facts(
        config=config,
        verdict=judged,
        capacity=capacity,
        memory=tables.memory_rows(labels, "bf16", ready, sessions),
        ready=ready,
        measurement=measurement.summarize(contexts, ready, sessions, _calibrations(scenario)),
        startup=tables.startup_rows(labels, ready, _starts(ready)),
        quality=_quality(scenario),
        command=COMMAND,
        cost=cost.cost_report(
            [row for models in capacity.values() for rows in models.values() for row in rows],
            judged["rows"],
            price(scenario),
        ),
    )
    return Facts(**(vars(found) | {"impact": impact.impact_rows(found)}))


def write_tree(root: Path, scenario: Scenario) -> Facts:
    """Write the files of docs/architecture.md below `root`, as far as reports read them."""
    found = facts(scenario)
    contexts = _contexts(scenario, random.Random(7))
    for c in contexts:
        stem = f"raw/{c['model']}/{c['workload']}/c{c['concurrency']}_t{c['max_tokens']}/b{c['block']}"
        write_json(root / f"{stem}.json", c)
        write_records(root / f"{stem}.parquet", [])
    for i, (model, record) in enumerate(found.ready.items()):
        write_json(root / f"servers/{model}/ready.json", record)
        write_json(root / f"servers/{model}/session.json", _session(model, i))
    for calibration in _calibrations(scenario):
        write_json(root / f"client/calibration_c{calibration['concurrency']}.json", calibration)
    for workload, models in found.capacity.items():
        for model, rows in models.items():
            for row in rows:
                write_rows(root / f"cells/{model}/{workload}/c{row['concurrency']}_t{row['max_tokens']}.csv", [row])
            write_rows(root / f"capacity/{workload}_{model}.csv", rows)
    write_json(root / "comparison/verdict.json", found.verdict)
    write_json(root / "measurement.json", found.measurement)
    write_json(root / "cost.json", found.cost)
    write_rows(root / "memory.csv", found.memory)
    write_rows(root / "startup.csv", found.startup)
    for model, record in _starts(found.ready).items():
        write_json(root / f"servers/{model}/startup.json", record)
    write_rows(root / "comparison/chat_vs_batch.csv", found.impact)
    for variant, details in found.quality.items():
        write_json(root / f"quality_details_{variant}.json", details)
    return found


def _starts(ready: dict[str, Json]) -> dict[str, Json]:
    """Two rounds of starts with a cold and a warm compile cache, the warm ones without compiling."""
    found = {}
    for model, record in ready.items():
        phases, rounds = record["startup"], [(n, state) for n in (1, 2) for state in ("cold", "warm")]
        starts = [
            {**phases, "round": n, "wanted": state, "compile_cache": state, "total_s": phases["total_s"] - saved + n}
            | {"compile_s": phases["compile_s"] - saved}
            for n, state in rounds
            for saved in [20.0 if state == "warm" else 0.0]
        ]
        found[model] = {"model": model, "starts": starts}
    return found


def _config(s: Scenario) -> Json:
    primary = {"workload": s.workloads[0], "metric": "throughput_tok_s"}
    primary |= dict(zip(("concurrency", "max_tokens"), GRID[s.workloads[0]][-1], strict=True))
    predicted = {"vram_reduction_pct": 60, "ttft_single": "better", "helps_more_at": 1, "startup": "slower download"}
    return {
        "gpu": "test-gpu",
        "gpu_name": "Test GPU 24GB",
        "baseline": "bf16",
        "variants": list(s.variants),
        "labels": {model: LABELS[model] for model in ("bf16", *s.variants)},
        "load_formats": {},
        "server_differences": {},
        "workloads": {w: {"style": STYLES[w], "cells": [list(cell) for cell in GRID[w]]} for w in s.workloads},
        "primary": primary,
        "margin": 0.02,
        "precision": 0.02,
        "predictions": predicted if s.predictions else {},
        "reason_words": {"thermal_throttling": "Thermal throttling", "prefix_cache": "Prefix cache hits"},
    }


def price(s: Scenario) -> Json:
    if not s.price:
        return {
            "hourly_price": None,
            "currency": "USD",
            "source": None,
            "date": None,
            "utilisation": 1.0,
            "energy_price_kwh": None,
        }
    return {
        "hourly_price": 0.28,
        "currency": "USD",
        "source": "a price list",
        "date": "2026-11-09",
        "utilisation": 0.5,
        "energy_price_kwh": 0.3,
    }


def _arms(s: Scenario, workload: str, cell: tuple[int, int]) -> list[str]:
    primary = workload == s.workloads[0] and cell == GRID[workload][-1]
    return ["bf16", *s.variants, *(["bf16__aa"] if s.aa and primary else [])]


def _contexts(s: Scenario, rng: random.Random) -> list[Json]:
    found, clock = [], START
    for workload in s.workloads:
        for cell in GRID[workload]:
            arms = _arms(s, workload, cell)
            order = [(b, arm) for b in range(1, s.blocks + 1) for arm in (arms if b % 2 else arms[::-1])]
            if not s.interleaved:
                order.sort(key=lambda entry: arms.index(entry[1]))
            for block, arm in order:
                clock += 21.0
                found.append(_context(s, rng, arm, workload, cell, block, clock))
    return found


def _context(
    s: Scenario, rng: random.Random, arm: str, workload: str, cell: tuple[int, int], block: int, t: float
) -> Json:
    metrics = _metrics(s, rng, arm, workload, cell)
    bad = s.invalid and arm != "bf16" and workload == s.workloads[-1] and block <= 4 and cell == GRID[workload][-1]
    guards = [
        {"id": "prefix_cache", "status": "ok", "detail": "0 hits"},
        {
            "id": "thermal_throttling",
            "status": "fail" if bad else "ok" if s.telemetry else "unknown",
            "detail": "SwThermalSlowdown" if bad else "",
        },
    ]
    return {
        "protocol": 1,
        "gpu": "test-gpu",
        "hardware": {"names": ["Test GPU"], "uuids": ["GPU-0"], "driver": "1"},
        "model": arm,
        "workload": workload,
        "style": STYLES[workload],
        "concurrency": cell[0],
        "max_tokens": cell[1],
        "block": block,
        "started_at": datetime.fromtimestamp(t, UTC).isoformat(),
        "started_unix": t,
        "duration_s": 20.0,
        "min_seconds": 20.0,
        "metrics": metrics,
        "client": {
            "cpu_s": 1.0,
            "cpu_share": 0.12,
            "loop_lag_p50_ms": 0.1,
            "loop_lag_p99_ms": 1.4,
            "connections_opened": cell[0],
            "coalesced_share": 0.01,
            "concurrency_held": 0.997,
        },
        "server": {
            "spec_hash": "x",
            "process_start_time": START,
            "fingerprints": ["vllm-0.32.0-33df0329"],
            "before": {},
            "after": {},
            "delta": {"prefix_cache_hits": 0, "preemptions": 0, "generation_tokens": metrics["tokens_out"]},
            "peak": {"running": cell[0], "waiting": 0, "kv_usage": 0.2},
            "incidents": [],
        },
        "telemetry": _telemetry(s),
        "lane": {
            "lane": "gpu0",
            "mode": "resident" if s.cpu else "sleep",
            "action": "woken",
            "switch_s": 0.45 + 0.01 * block,
            "note": "",
        },
        "bottleneck": {
            "part": "front_end" if cell[0] == 16 and workload == "chat" else "engine",
            "sentence": "The engine limits.",
        },
        "guards": guards,
        "valid": not bad,
        "reasons": ["thermal_throttling"] if bad else [],
    }


def _telemetry(s: Scenario) -> Json:
    if s.telemetry:
        return {
            "power_w_mean": 61.0,
            "energy_j": 1220.0,
            "sm_clock_mhz_mean": 1900.0,
            "temperature_c_max": 71,
            "missing": {},
        }
    return {"power_w_mean": None, "missing": {"power_w": "no NVML here", "energy_j": "no NVML here"}}


def _metrics(s: Scenario, rng: random.Random, arm: str, workload: str, cell: tuple[int, int]) -> Json:
    chat, batch = SPEED.get(arm.removesuffix("__aa"), (1.0, 1.0))
    factor = (chat if workload == "chat" else batch) * math.exp(rng.gauss(0, 0.006))
    tpot = 8.0 * (1 + cell[0] / 40) / factor
    ttft = 30.0 * (1 + cell[0] / 8) * math.exp(rng.gauss(0, 0.02)) * (1.1 if arm == "slow" else 1)
    e2e = ttft + tpot * cell[1]
    throughput = cell[0] * cell[1] / e2e * 1000
    requests = round(throughput * 20 / cell[1])
    metrics: Json = {
        "n": requests,
        "failures": 0,
        "tokens_in": requests * 300,
        "tokens_out": requests * cell[1],
        "chunks": requests * cell[1],
        "duration_s": 20.0,
        "throughput_tok_s": throughput,
        "throughput_steady_tok_s": throughput * 1.02,
        "steady_s": 18.0,
        "request_rate_s": throughput / cell[1],
        "p50_ttft_ms": ttft,
        "p95_ttft_ms": ttft * 1.6 if s.p95 else None,
        "p50_e2e_ms": e2e,
        "p95_e2e_ms": e2e * 1.1 if s.p95 else None,
        "p50_tpot_ms": tpot,
        "p95_tpot_ms": tpot * 1.2 if s.p95 else None,
        "j_per_token": 61.0 / throughput if s.telemetry else None,
    }
    return metrics


def _capacity(contexts: list[Json], s: Scenario) -> dict[str, dict[str, list[Json]]]:
    found: dict[str, dict[str, list[Json]]] = {}
    cells: dict[tuple[Any, ...], list[Json]] = {}
    for c in contexts:
        if not c["model"].endswith("__aa"):
            cells.setdefault((c["workload"], c["model"], c["concurrency"], c["max_tokens"]), []).append(c)
    for (workload, model, concurrency, max_tokens), group in cells.items():
        valid = [c for c in group if c["valid"]]
        means = {
            key: sum(values) / len(values)
            if (values := [c["metrics"][key] for c in valid if c["metrics"][key] is not None])
            else None
            for key in group[0]["metrics"]
        }
        row = {
            "gpu_name": "Test GPU 24GB",
            "model": model,
            "workload": workload,
            "concurrency": concurrency,
            "max_tokens": max_tokens,
        }
        row |= means | {"n": sum(c["metrics"]["n"] for c in valid), "failures": 0, "blocks": len(group)}
        if STYLES[workload] == "batch":
            row |= {"p50_latency_ms": means["p50_e2e_ms"], "p95_latency_ms": means["p95_e2e_ms"]}
        reasons = [] if s.p95 else ["P95_NEEDS_N72"]
        row |= {
            "valid": bool(valid),
            "reasons": ";".join([*reasons, *({r for c in group for r in c["reasons"]})]) or None,
        }
        found.setdefault(workload, {}).setdefault(model, []).append(row)
    return found


def _ready(model: str, s: Scenario) -> Json:
    index = ("bf16", *s.variants).index(model)
    labels = {"bf16": "BF16", "fp8": "W8A8 (FP8)", "int8": "W8A8"}
    weights = {"bf16": 2.98, "fp8": 1.8, "int8": 1.79}.get(model, 1.1)
    memory: Json = {
        "weights_gib": weights,
        "checkpoint_gib": weights * 1.01,
        "kv_cache_gib": 10.4 + 2.98 - weights,
        "kv_cache_tokens": int((10.4 + 2.98 - weights) * 36000),
        "max_concurrency": 90.5,
        "activation_peak_gib": 0.6,
        "cuda_graphs_gib": 0.4,
        "non_torch_gib": None,
        "missing": {"non_torch_gib": "not found: looked for “non_torch_memory”"},
    }
    if not s.memory:
        reason = "not found: looked for “Model loading took”"
        memory = dict.fromkeys(memory) | {"missing": {key: reason for key in memory if key != "missing"}}
    return {
        "model": model,
        "spec_hash": f"hash-{model}",
        "source": f"Org/Model-{model}",
        "served_name": model,
        "url": f"http://127.0.0.1:{8000 + index}",
        "hardware": {"names": ["Test GPU"], "uuids": ["GPU-0"], "driver": "1"},
        "lane": "gpu0",
        "devices": ["0"],
        "mode": "sleep",
        "versions": {"vllm": "0.32.0", "torch": "2.13.0", "driver": "570.1", "python": "3.11.9"},
        "quantization": {
            "claimed": model,
            "method": None if model == "bf16" else "awq_marlin",
            "label": labels.get(model, "W4A16"),
            "kernel": None if model == "bf16" else "MarlinLinearKernel",
            "bits_per_weight": 16.0 if model == "bf16" else 4.4,
            "verified": True,
            "evidence": [],
        },
        "memory": memory,
        "vram": {
            "source": "rss" if s.cpu else "nvml",
            "before_mib": 310,
            "after_mib": 14310 + index,
            "delta_mib": 14000 + index,
            "total_mib": 16380,
        },
        "startup": {
            "total_s": 62.0 + 20 * index,
            "weights_s": 3.1 - 0.3 * index,
            "compile_s": 21.0,
            "warmup_s": 4.0,
            "graphs_s": 11.0 + 9 * index,
            "engine_init_s": 40.0,
            "compile_cache": "cold" if index else "warm",
            "missing": {},
        },
        "test_completion": {
            "prompt": "Hello, how are you?",
            "text": " I am fine | thanks.",
            "tokens": 6,
            "e2e_ms": 88.0,
        },
        "settings": {
            "max_model_len": 4096,
            "dtype": "bfloat16",
            "enforce_eager": False,
        },
    }


def _session(model: str, index: int) -> Json:
    return {
        "model": model,
        "mode": "sleep",
        "events": [{"t": START, "event": "start", "seconds": 60, "why": "asked"}],
        "memory_before_mib": 310,
        "memory_after_stop_mib": 311,
        "memory_returned": True,
        "measured_s": 600.0 + index,
        "held_s": 640.0,
    }


def _calibrations(s: Scenario) -> list[Json]:
    found = {c for w in s.workloads for c, _ in GRID[w]}
    return [
        {"concurrency": c, "ttft_error_p50_ms": 0.2 + c / 100, "cpu_share": 0.1, "limit_tok_s": 30000.0}
        for c in sorted(found)
    ]


CLASSES = ("fact", "arithmetic", "summary", "code", "json", "second_language", "explanation", "edge_case")


def _quality(s: Scenario) -> dict[str, Json]:
    if not s.quality:
        return {}
    return {variant: _pair(variant, i) for i, variant in enumerate(s.variants)}


def _pair(variant: str, index: int) -> Json:
    rows = []
    for n in range(16):
        prompt = {"id": f"p{n:02d}", "class": CLASSES[n % len(CLASSES)]}
        lost = n in (3, 9) if index == 0 else index == 2 and n in (1, 2, 4, 5)
        again = _answer(n, "4" if n else '```json\n{"a": 1}\n```', ok=n != 7, ids=[1, 2, 3])
        other = _answer(
            n,
            "4 4 4 4 4 <b>bold</b> | pipe" if lost else "4" if n % 3 else "four",
            ok=not lost and n != 7,
            ids=[1, 2 + n % 2, 3],
        )
        rows.append(score.compare(prompt, again, other, "wrong, but harmless" if n == 3 else None))
    same = [
        {"id": f"p{n:02d}", "identical": True, "first_pass": True, "again_pass": True, "concurrency": 8}
        for n in range(16)
    ]
    return score.score(rows, score.floor_of(same), baseline="bf16", variant=variant)


def _answer(n: int, output: str, *, ok: bool, ids: list[int]) -> Json:
    check = (
        CheckResult(type="exact_number", ok=ok, detail="expected 4")
        if n % 2
        else CheckResult(type="contains", ok=ok, detail="looked for 4")
    )
    return {
        "prompt": f"Question {n}: how much is 2 + 2?",
        "output": output,
        "token_ids": ids,
        "tokens": len(ids),
        "finish_reason": "stop",
        "checks": [check],
    }
