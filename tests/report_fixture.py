"""Small, complete results trees with synthetic values, for tests and for looking at pages. Never shipped as results.

Only what a run measures is invented: requests, server facts, answers. All else is made by the scripts of the rules
(workflow/scripts), run on the files as Snakemake runs them: a tree holds nothing that the pipeline cannot write.
"""

from __future__ import annotations

import math
import random
import runpy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import orjson
from msgspec import structs
from quantbench import jobs, results
from quantbench.client.concurrency import concurrency_held
from quantbench.client.metrics import block_metrics, percentile_table
from quantbench.client.tables_io import write_records
from quantbench.config import report_plan, settings
from quantbench.engines.vllm import metrics
from quantbench.files import write_json, write_text
from quantbench.judge.schedule import round_order
from quantbench.observe.telemetry import FIELDS, NO_NVML
from quantbench.records.base import convert
from quantbench.records.block import Page
from quantbench.records.cell import AA_SUFFIX, served_model
from quantbench.records.plan import ReportPlan
from quantbench.records.request import RequestRecord, spans
from quantbench.records.run import Run
from quantbench.records.server import Event
from quantbench.serving import registry

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
KEPT = ROOT / "docs" / "reference" / "h100"
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
FINGERPRINT = "vllm-0.32.0-33df0329"
MIN_SECONDS = 5.0


@dataclass(frozen=True)
class Scenario:
    """What the run was like."""

    variants: tuple[str, ...] = ("awq",)
    workloads: tuple[str, ...] = ("chat", "batch_summarize")
    blocks: int = 6
    aa: bool = True
    aa_speed: float = 1.0  # of the A/A arm: another value than 1 makes the control fail
    price: bool = True
    quality: bool = True
    lost: int = 2  # prompts that the first variant loses; the second loses none, the third four
    telemetry: bool = True
    p95: bool = True  # without: blocks too short for a p95, alone or pooled
    invalid: bool = False  # the variants throttle in four blocks of the last cell
    failures: bool = False  # the first variant loses one request in the second cell
    memory: bool = True
    interleaved: bool = True
    predictions: bool = True
    cpu: bool = False
    noise: float = 0.006  # standard deviation of the log of a block's speed
    drift: float = 0.0  # share of the speed that is lost over the blocks of a cell
    two_lanes: bool = False  # the variants have a GPU of their own
    dummy: bool = False
    mismatch: bool = False  # the variants are served with another max_model_len

    @property
    def models(self) -> tuple[str, ...]:
        """The baseline and the variants."""
        return ("bf16", *self.variants)


@lru_cache
def facts(scenario: Scenario) -> Run:
    """What a page may say of a scenario."""
    with tempfile.TemporaryDirectory() as folder:
        return write_tree(Path(folder), scenario)


def write_tree(root: Path, scenario: Scenario) -> Run:
    """Write results/{gpu} below `root` (docs/architecture.md): what a run measures, then what the rules make of it."""
    measured = blocks(scenario)
    for records, context in measured:
        stem = root / _stem(context)
        write_records(f"{stem}.parquet", records)
        write_json(f"{stem}.json", context)
    for model in scenario.models:
        ready = _ready(model, scenario)
        write_json(root / f"servers/{model}/ready.json", ready)
        write_json(root / f"servers/{model}/session.json", _session(model, scenario, [c for _, c in measured]))
        write_json(root / f"servers/{model}/startup.json", {"model": model, "starts": _starts(ready["startup"])})
    for concurrency in sorted({c for w in scenario.workloads for c, _ in GRID[w]}):
        write_json(root / f"client/calibration_c{concurrency}.json", _calibration(concurrency))
    if scenario.quality:
        write_text(root / "prompts.jsonl", "".join(orjson.dumps(p).decode() + "\n" for p in PROMPTS))
        for model in scenario.models:
            write_json(root / f"answers/{model}.json", _answers(model, scenario))
    return derive(root, _comparison(scenario), _config(scenario), price(scenario), COMMAND)


@lru_cache
def kept_facts() -> Run:
    """The kept run of docs/reference/h100, judged anew from its raw blocks and server records."""
    overwrite = settings.read_yaml(ROOT / "benchmarks" / "reference_gpu" / "run.yaml")
    plan = settings.load(ROOT, overwrite | {"gpu": "h100-80gb", "select_workloads": ["chat"]})
    with tempfile.TemporaryDirectory() as folder:
        for name in ("raw", "servers", "client"):
            (Path(folder) / name).symlink_to(KEPT / name)
        config = report_plan.report(plan)
        return derive(Path(folder), report_plan.comparison(plan), config, report_plan.prices(plan), ["snakemake"])


class Named(list[str]):
    """Paths with names, as Snakemake hands them to a script."""

    def __init__(self, **named: str | list[str]) -> None:
        super().__init__(x for value in named.values() for x in ([value] if isinstance(value, str) else value))
        self.__dict__.update(named)
        self._named = named

    def get(self, name: str, default: Any = None) -> Any:
        return self._named.get(name, default)


def run(script: str, inputs: Named, outputs: Named, **job: Any) -> None:
    """Run a script of the workflow as Snakemake does; what it raises comes through."""
    params, wildcards = SimpleNamespace(**job.get("params", {})), SimpleNamespace(**job.get("wildcards", {}))
    config = {"command": job.get("command", COMMAND)}
    snakemake = SimpleNamespace(input=inputs, output=outputs, params=params, wildcards=wildcards, config=config)
    with mock.patch.object(jobs, "run", lambda job, main: main(job)):
        runpy.run_path(str(SCRIPTS / f"{script}.py"), init_globals={"snakemake": snakemake})


def derive(root: Path, comparison: Json, config: Json, price: Json, command: Sequence[str]) -> Run:
    """All tables from what lies in raw/, servers/, client/ and answers/, by the scripts of the rules (rules/*.smk).

    comparison, config, price: as `report_plan.comparison`, `report` and `prices` give them.
    """
    baseline, models = comparison["baseline"], [comparison["baseline"], *comparison["variants"]]
    labels = {model: config["labels"][model] for model in models}
    ready = [str(root / f"servers/{model}/ready.json") for model in models]
    sessions = [str(root / f"servers/{model}/session.json") for model in models]
    calibrations = sorted(str(path) for path in root.glob("client/*.json"))
    stems = []
    for arm in [*models, f"{baseline}{AA_SUFFIX}"]:
        for workload, cells in ((w, entry["cells"]) for w, entry in config["workloads"].items()):
            for c, t in cells:
                cell = f"{arm}/{workload}/c{c}_t{t}"
                found = sorted(str(path)[: -len(".json")] for path in root.glob(f"raw/{cell}/b*.json"))
                stems += found
                if found:
                    server = str(root / f"servers/{served_model(arm)}/ready.json")
                    calibration = str(root / f"client/calibration_c{c}.json")
                    tuple_inputs = _measured(found) | {"ready": server, "calibration": calibration}
                    names = {"gpu_name": comparison["gpu_name"]}
                    run("summarize_tuple", Named(**tuple_inputs), Named(csv=f"{root}/cells/{cell}.csv"), params=names)
    for workload, entry in config["workloads"].items():
        for model in models:
            tuples = [str(root / f"cells/{model}/{workload}/c{c}_t{t}.csv") for c, t in entry["cells"]]
            target = Named(csv=f"{root}/capacity/{workload}_{model}.csv")
            run("combine_capacity", Named(csv=tuples), target, wildcards={"model": model, "workload": workload})
    measured = Named(**_measured(stems), ready=ready, sessions=sessions, calibrations=calibrations)
    tables = [f"{root}/comparison/{workload}.csv" for workload in config["workloads"]]
    target = Named(verdict=f"{root}/comparison/verdict.json", tables=tables)
    run("compare_models", measured, target, params={"comparison": comparison})
    about = {"baseline": baseline, "gpu_name": comparison["gpu_name"]}
    run("describe_measurement", measured, Named(json=f"{root}/measurement.json"), params=about)
    memory = {"baseline": baseline, "labels": labels}
    run("tabulate_memory", measured, Named(csv=f"{root}/memory.csv"), params={"memory": memory})
    starts = Named(ready=ready, starts=[str(path) for path in sorted(root.glob("servers/*/startup.json"))])
    run("tabulate_startup", starts, Named(csv=f"{root}/startup.csv"), params={"labels": labels})
    run(
        "compare_chat_batch",
        evidence(root, models),
        Named(csv=f"{root}/comparison/chat_vs_batch.csv"),
        params={"report": config},
    )
    run("price_tokens", evidence(root, models), Named(json=f"{root}/cost.json"), params={"price": price})
    for variant in models[1:] if (root / "answers").exists() else []:
        answers = {"baseline": f"{root}/answers/{baseline}.json", "variant": f"{root}/answers/{variant}.json"}
        pairs = {name: f"{root}/quality_{name}{variant}.json" for name in ("", "details_")}
        run(
            "score_quality",
            Named(prompts=f"{root}/prompts.jsonl", **answers),
            Named(pairs=pairs[""], details=pairs["details_"]),
            params={"baseline": baseline, "notes": NOTES},
            wildcards={"variant": variant},
        )
    run("decide", evidence(root, models, pages=True), Named(json=f"{root}/decision.json"), params={"report": config})
    inputs = evidence(root, models, pages=True, decision=[f"{root}/decision.json"])
    return results.load_run(inputs, convert(config, ReportPlan), command)


def _measured(stems: Sequence[str]) -> dict[str, list[str]]:
    return {"contexts": [f"{s}.json" for s in stems], "records": [f"{s}.parquet" for s in stems]}


def evidence(root: Path, models: Sequence[str], *, pages: bool = False, decision: Sequence[str] = ()) -> Named:
    """The inputs of a rule that reads the tables; with `pages` also what only decisions and pages read."""
    verdict, impact = f"{root}/comparison/verdict.json", f"{root}/comparison/chat_vs_batch.csv"
    quality = sorted(map(str, root.glob("quality_details_*.json")))
    more = {"impact": impact, "quality": quality, "cost": f"{root}/cost.json", "startup": f"{root}/startup.csv"}
    return Named(
        verdict=verdict,
        capacity=[str(path) for path in sorted(root.glob("capacity/*.csv"))],
        memory=f"{root}/memory.csv",
        ready=[f"{root}/servers/{model}/ready.json" for model in models],
        measurement=f"{root}/measurement.json",
        **(more if pages else {}),
        **({"decision": decision[0]} if decision else {}),
    )


# What the configuration says ------------------------------------------------------------------------------------


def _comparison(s: Scenario) -> Json:
    config = _config(s)
    keys = ("baseline", "gpu_name", "primary", "variants", "margin")
    return {key: config[key] for key in keys} | {
        "precision": 0.02,
        "blocks": s.blocks,
        "most_blocks": 40,
    }


def _config(s: Scenario) -> Json:
    primary = {"workload": s.workloads[0], "metric": "throughput_tok_s"}
    primary |= dict(zip(("concurrency", "max_tokens"), GRID[s.workloads[0]][-1], strict=True))
    predicted = {"vram_reduction_pct": 60, "ttft_single": "better", "helps_more_at": 1, "startup": "slower download"}
    return {
        "gpu": "test-gpu",
        "gpu_name": "Test GPU 24GB",
        "baseline": "bf16",
        "variants": list(s.variants),
        "labels": {model: LABELS[model] for model in s.models},
        "load_formats": dict.fromkeys(s.models, "dummy" if s.dummy else "auto"),
        "server_differences": {},
        "workloads": {w: {"style": STYLES[w], "cells": [list(cell) for cell in GRID[w]]} for w in s.workloads},
        "primary": primary,
        "margin": 0.02,
        "predictions": predicted if s.predictions else {},
    }


def price(s: Scenario) -> Json:
    """The config's `cost`."""
    nothing = {"hourly_price": None, "source": None, "date": None, "utilisation": 1.0, "energy_price_kwh": None}
    given = {"hourly_price": 0.28, "source": "a price list", "date": "2026-11-09", "utilisation": 0.5}
    return {"currency": "USD"} | (given | {"energy_price_kwh": 0.3} if s.price else nothing)


# What a block measures ------------------------------------------------------------------------------------------


def blocks(s: Scenario) -> list[tuple[list[RequestRecord], Json]]:
    """All blocks in the order of measuring: (requests, context), the context not yet judged."""
    found, clocks, last = [], {"gpu0": START, "gpu1": START}, {"gpu0": "", "gpu1": ""}
    for workload in s.workloads:
        for cell in GRID[workload]:
            for number, arm in _order(s, _arms(s, workload, cell)):
                lane, server = _lane(s, arm), served_model(arm)
                clocks[lane] += 0.5
                records = _requests(s, arm, workload, cell, number)
                context = _context(s, arm, workload, cell, number, clocks[lane], records)
                woken = server != last[lane] and not s.cpu
                switch_s = 0.45 + 0.01 * number if woken else 0.08
                context["lane"] |= {"action": "woken" if woken else "reused", "switch_s": switch_s}
                last[lane] = server
                clocks[lane] += context["duration_s"] + 0.5
                found.append((records, context))
    return found


def _stem(context: Json) -> str:
    cell = f"c{context['concurrency']}_t{context['max_tokens']}"
    return f"raw/{context['model']}/{context['workload']}/{cell}/b{context['block']}"


def _lane(s: Scenario, arm: str) -> str:
    return "gpu1" if s.two_lanes and served_model(arm) != "bf16" else "gpu0"


def _arms(s: Scenario, workload: str, cell: tuple[int, int]) -> list[str]:
    primary = workload == s.workloads[0] and cell == GRID[workload][-1]
    return [*s.models, *([f"bf16{AA_SUFFIX}"] if s.aa and primary else [])]


def _order(s: Scenario, arms: list[str]) -> list[tuple[int, str]]:
    turns = [(number, arm) for number in range(1, s.blocks + 1) for arm in round_order(arms, number - 1)]
    return turns if s.interleaved else sorted(turns, key=lambda turn: arms.index(turn[1]))


def _requests(s: Scenario, arm: str, workload: str, cell: tuple[int, int], number: int) -> list[RequestRecord]:
    """A closed loop of `concurrency` slots. All arms get the same prompts, and so the same scatter of requests."""
    concurrency, tokens = cell
    block, asked = (random.Random(f"{key} {cell} {number}") for key in (arm, workload))
    chat, batch = SPEED.get(served_model(arm), (1.0, 1.0))
    speed = (chat if workload == "chat" else batch) * (s.aa_speed if arm.endswith(AA_SUFFIX) else 1.0)
    speed *= (1 - s.drift * (number - 1) / s.blocks) * math.exp(block.gauss(0, s.noise))
    tpot_ms = (10.0 if s.p95 else 40.0) * (1 + concurrency / 40) / speed
    ttft_ms = 30.0 * (1 + concurrency / 8) * math.exp(block.gauss(0, 0.02)) * (1.1 if arm == "slow" else 1)
    n = max(80, 3 * concurrency) if s.p95 else max(10, 2 * concurrency)
    chunks = round(tokens / 1.2) if _merges(workload, cell) else tokens
    broken = 7 if s.failures and arm == s.variants[0] and cell == GRID["chat"][1] and number == 2 else None
    free = [0] * concurrency
    records = []
    for index in range(n):
        sent = min(free)
        first = sent + round(1e6 * ttft_ms * math.exp(asked.gauss(0, 0.25)))
        last = first + round(1e6 * tpot_ms * (tokens - 1) * math.exp(asked.gauss(0, 0.05)))
        free[free.index(sent)] = end = last + 50_000
        common = {"index": index, "prompt_id": f"{workload}-{index % 20}", "sent_ns": sent, "end_ns": end}
        if index == broken:
            records.append(RequestRecord(**common, reason="disconnected", http_status=200))
            continue
        counts = {"prompt_tokens": 300, "completion_tokens": tokens, "chunks": chunks, "reads": round(0.99 * chunks)}
        counts["gaps_us"] = tuple([(last - first) // 1000 // (counts["reads"] - 1)] * (counts["reads"] - 1))
        told = {"http_status": 200, "finish_reason": "length", "fingerprint": FINGERPRINT, "first_chunk_tokens": 1}
        records.append(RequestRecord(**common, **counts, **told, first_ns=first, last_ns=last, ok=True))
    return records


def _merges(workload: str, cell: tuple[int, int]) -> bool:
    """Where vLLM's front end sends several tokens in a chunk."""
    return workload == "chat" and cell[0] == 16


def _context(
    s: Scenario,
    arm: str,
    workload: str,
    cell: tuple[int, int],
    number: int,
    t: float,
    records: Sequence[RequestRecord],
) -> Json:
    seconds = max(r.end_ns or 0 for r in records) / 1e9
    throttles = s.invalid and arm in s.variants and workload == s.workloads[-1] and cell == GRID[workload][-1]
    telemetry = _telemetry(s, seconds, throttled=throttles and number <= 4)
    metrics = block_metrics(records, cell[0], energy_j=telemetry["energy_j"])
    reasons = [r.reason for r in records if not r.ok]
    return {
        "protocol": 1,
        "gpu": "test-gpu",
        "hardware": _hardware(s),
        "model": arm,
        "workload": workload,
        "style": STYLES[workload],
        "concurrency": cell[0],
        "max_tokens": cell[1],
        "block": number,
        "min_seconds": MIN_SECONDS,
        "started_at": datetime.fromtimestamp(t, UTC).isoformat(timespec="milliseconds"),
        "started_unix": t,
        "duration_s": seconds,
        "client": {
            "cpu_s": 0.12 * seconds,
            "cpu_share": 0.12,
            "loop_lag_p50_ms": 0.1,
            "loop_lag_p99_ms": 1.4,
            "connections_opened": cell[0],
            "resent": 0,
            "transport": "WireConnection",
            "parse_cpu_s": 0.1,
            "coalesced_share": 0.01,
            "concurrency_held": concurrency_held(spans(records), cell[0]),
        },
        "metrics": metrics,
        "percentiles": {name: facts.as_dict() for name, facts in percentile_table(records).items()},
        "failure_reasons": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        "telemetry": telemetry,
        "server": _server(arm, cell, records),
        "lane": {"lane": _lane(s, arm), "mode": "resident" if s.cpu else "sleep", "note": ""},
    }


def _server(arm: str, cell: tuple[int, int], records: Sequence[RequestRecord]) -> Json:
    page = Page(process_start_time=START - 900, cache_dtype="auto")
    answered = [r for r in records if r.ok]
    counted = {
        "prefix_cache_queries": 0,
        "prefix_cache_hits": 0,
        "preemptions": 0,
        "generation_tokens": sum(r.completion_tokens or 0 for r in answered),
        "prompt_tokens": sum(r.prompt_tokens or 0 for r in answered),
        "queue_time_sum_s": 0.0002 * len(records),
        "queue_time_count": len(records),
        "requests_succeeded": len(answered),
        "corrupted_requests": 0,
    }
    before, after = structs.replace(page, **dict.fromkeys(counted, 0)), structs.replace(page, **counted)
    return {
        "spec_hash": f"hash-{served_model(arm)}",
        "source_id": f"files-{served_model(arm)}",
        "process_start_time": page.process_start_time,
        "fingerprints": [FINGERPRINT],
        "before": before.as_dict(),
        "after": after.as_dict(),
        "delta": metrics.difference(before, after).as_dict(),
        "peak": {"running": cell[0], "waiting": 0, "kv_usage": 0.2},
        "incidents": [],
    }


def _telemetry(s: Scenario, seconds: float, *, throttled: bool) -> Json:
    if not s.telemetry:
        return {**dict.fromkeys(FIELDS), "samples": 0, "missing": dict.fromkeys(FIELDS, NO_NVML)}
    return {
        "power_w_mean": 61.0,
        "energy_j": 61.0 * seconds,
        "energy_from_power_j": 60.5 * seconds,
        "sm_clock_mhz_mean": 1900.0,
        "sm_clock_mhz_min": 1890,
        "mem_clock_mhz_mean": 8000.0,
        "temperature_c_max": 71,
        "utilisation_pct_mean": 97.0,
        "memory_used_mib_max": 14320,
        "throttle_reasons": ["sw_thermal_slowdown"] if throttled else [],
        "foreign_processes": [],
        "samples": round(2 * seconds),
        "missing": {},
    }


def _hardware(s: Scenario) -> Json:
    if s.cpu:
        return {"names": ["Test CPU (8 CPUs)"], "uuids": [], "driver": None}
    return {"names": ["Test GPU"], "uuids": ["GPU-0"], "driver": "570.1"}


def _calibration(concurrency: int) -> Json:
    return {
        "measured_unix": START - 600,
        "concurrency": concurrency,
        "n": 6 * concurrency,
        "ttft_error_p50_ms": 0.2 + concurrency / 100,
        "ttft_error_p95_ms": 0.4 + concurrency / 100,
        "e2e_error_p50_ms": 0.2 + concurrency / 100,
        "cpu_share": 0.1,
        "cpu_s_per_1k_tokens": 0.03,
        "loop_lag_p50_ms": 0.1,
        "loop_lag_p99_ms": 1.2,
        "concurrency_held": 0.999,
        "tokens_per_s": 2700.0,
        "limit_tok_s": 30000.0,
    }


# What the servers say -------------------------------------------------------------------------------------------


def _ready(model: str, s: Scenario) -> Json:
    index = s.models.index(model)
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
        "consumed_gib": None,
        "missing": {name: f"not found: looked for “{name}”" for name in ("non_torch_gib", "consumed_gib")},
    }
    if not s.memory:
        reason = "not found: looked for “Model loading took”"
        memory = dict.fromkeys(memory) | {"missing": {key: reason for key in memory if key != "missing"}}
    return {
        "model": model,
        "spec_hash": f"hash-{model}",
        "source": f"Org/Model-{model}",
        "source_id": f"files-{model}",
        "served_name": model,
        "url": f"http://127.0.0.1:{8000 + index}",
        "hardware": _hardware(s),
        "lane": _lane(s, model),
        "devices": ["cpu"] if s.cpu else [_lane(s, model)[-1]],
        "mode": "resident" if s.cpu else "sleep",
        "started_at": "2026-11-20T08:45:00Z",
        "log": f"results/test-gpu/servers/{model}/server.log",
        "versions": {"vllm": "0.32.0", "torch": "2.13.0", "driver": None if s.cpu else "570.1", "python": "3.11.9"},
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
        "settings": {
            "max_model_len": 2048 if s.mismatch and model != "bf16" else 4096,
            "dtype": "bfloat16",
            "kv_cache_dtype": "auto",
            "enforce_eager": False,
            "prefix_caching": False,
            "attention_backend": "FLASH_ATTN",
            "cuda_graphs": "FULL_AND_PIECEWISE",
            "speculative": False,
            "sampling_defaults_overridden": False,
            "jit_monitor": True,
            "missing": {},
            "inherited_env": {},
        },
        "test_completion": {
            "prompt": "Hello, how are you?",
            "text": " I am fine | thanks.",
            "tokens": 6,
            "e2e_ms": 88.0,
        },
        "logits": {"finite": True, "seen": "logprobs of 4 tokens: -0.1, -0.2, -0.1, -0.3", "missing": {}},
        "tokenizer": {"probe_sha256": "a1", "chat_probe_sha256": "b2", "chat_bos_count": 0, "chat_is_plain": False},
        "system_fingerprint": FINGERPRINT,
    }


def _session(model: str, s: Scenario, measured: Sequence[Json]) -> Json:
    leases = [
        {"t": c["started_unix"] + c["duration_s"], "event": "lease", "model": model, "action": c["lane"]["action"]}
        | {"seconds": c["duration_s"] / 0.94, "measured_s": c["duration_s"]}
        for c in measured
        if served_model(c["model"]) == model
    ]
    memory = {"memory_before_mib": 310, "memory_after_stop_mib": 311, "memory_returned": True}
    start = {"t": START - 900, "event": "start", "model": model, "seconds": 60, "why": "start rule"}
    stop = {"t": leases[-1]["t"] + 60, "event": "stop", "model": model, "seconds": 1, "why": "stop rule", **memory}
    events = convert([start, *leases, stop], list[Event])
    return registry.session_of(model, "resident" if s.cpu else "sleep", events).as_dict()


def _starts(phases: Json) -> list[Json]:
    """Two rounds of starts with a cold and a warm compile cache, the warm ones without compiling."""
    return [
        {**phases, "round": number, "wanted": state, "compile_cache": state}
        | {"total_s": phases["total_s"] - saved + number, "compile_s": phases["compile_s"] - saved}
        for number in (1, 2)
        for state, saved in (("cold", 0.0), ("warm", 20.0))
    ]


# What the models answer -----------------------------------------------------------------------------------------

CLASSES = ("fact", "arithmetic", "summary", "code", "json", "second_language", "explanation", "edge_case")
NOTES = {"p03": "wrong, but harmless"}
PROMPTS = [
    {
        "id": f"p{n:02d}",
        "class": CLASSES[n % len(CLASSES)],
        "prompt": f"Question {n}: how much is 2 + 2?",
        "max_tokens": 64,
        "checks": [{"type": "exact_number", "value": 4} if n % 2 else {"type": "contains", "all": ["4"]}],
    }
    for n in range(16)
]


def _answers(model: str, s: Scenario) -> list[Json]:
    index = s.models.index(model) - 1
    lost = {0: (3, 9, 1, 2)[: s.lost], 2: (1, 2, 4, 5)}.get(index, ())
    answers = []
    for n, prompt in enumerate(PROMPTS):
        text = "4" if n else '4\n```json\n{"a": 1}\n```'
        if n in lost:
            text = "five <b>bold</b> | pipe"
        elif n == 7:
            text = "5"
        elif index >= 0 and n % 3 == 0:
            text = "It is 4"
        again = [{"concurrency": c, **_reply(text)} for c in ((1, 8) if index < 0 else ())]
        answers.append(
            {"id": prompt["id"], "class": prompt["class"], "prompt": prompt["prompt"], **_reply(text)}
            | {"prompt_tokens": 12, "prompt_token_ids_sha256": f"ids-{n}", "again": again}
        )
    return answers


def _reply(text: str) -> Mapping[str, Any]:
    ids = [ord(letter) for letter in text]
    return {"output": text, "finish_reason": "stop", "tokens": len(ids), "token_ids": ids, "system_fingerprint": "x"}
