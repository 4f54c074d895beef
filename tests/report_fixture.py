"""Small, complete results trees with synthetic values, for tests and for looking at pages. Never shipped as results.

Only what a run measures is invented: requests, server facts, answers. All else is made by the scripts of the rules
(workflow/scripts), run on the files as Snakemake runs them: a tree holds nothing that the pipeline cannot write.
"""

from __future__ import annotations

import math
import random
import runpy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import orjson
import runs
from made_outcomes import SHIPPED, counted, likelihood, suite
from msgspec.structs import replace
from quantbench import jobs, results
from quantbench.client.concurrency import concurrency_held
from quantbench.client.metrics import block_context
from quantbench.client.records import BlockResult
from quantbench.client.tables_io import write_records
from quantbench.config import report_plan, settings
from quantbench.files import write_text
from quantbench.judge.schedule import round_order
from quantbench.observe.telemetry import FIELDS, NO_NVML
from quantbench.records import block, server
from quantbench.records.base import convert, write
from quantbench.records.block import BlockContext, LaneFacts
from quantbench.records.cell import AA_SUFFIX, Cell, served_model
from quantbench.records.cost import Price
from quantbench.records.layout import Results
from quantbench.records.plan import ArmPlan, ComparisonPlan, IsoPlan, ReportPlan, start_of
from quantbench.records.request import RequestRecord, spans
from quantbench.records.run import Run
from quantbench.records.server import Event, Ready
from quantbench.records.suite import SuiteScore
from quantbench.serving import registry
from runs import START
from snakemake.iocontainers import Namedlist
from source import ROOT

KEPT = ROOT / "docs" / "reference" / "h100"
COMMAND = ["snakemake", "--cores", "1", "--configfile", "my gpu.yaml", "--config", "gpu=test-gpu", "blocks=6"]
SPEED = {"awq": (1.45, 1.05), "gptq": (1.4, 1.0), "fp8": (1.2, 1.25), "int8": (0.9, 1.01), "slow": (0.7, 0.8)}
"""Of a variant, with the baseline at 1: (chat, batch)."""
LABELS = runs.LABELS | {"gptq": "GPTQ 4-bit", "int8": "INT8", "slow": "GGUF"}
PREDICTED = {"vram_reduction_pct": 60, "ttft_single": "better", "helps_more_at": 1, "startup": "slower download"}
PRICE = Price(hourly_price=0.28, source="a price list", date="2026-11-09", utilisation=0.5, energy_price_kwh=0.3)
ISO = IsoPlan(length=4096, max_tokens=128, concurrency={"bf16": 91, "awq": 107}, limits={"bf16": 128, "awq": 128})
"""What fits by the KV caches of `_ready`."""
PAIRS = {"pairs": "quality", "details": "quality_details"}
FINGERPRINT = "vllm-0.32.0-33df0329"


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
    p95: bool = True  # without: blocks too short for a p95, alone or pooled
    invalid: bool = False  # the variants throttle in four blocks of the last cell
    failures: bool = False  # the first variant loses one request in the second cell
    interleaved: bool = True
    predictions: bool = True
    cpu: bool = False  # no NVML, no sleep, and a server that tells nothing of its memory
    noise: float = 0.006  # standard deviation of the log of a block's speed
    drift: float = 0.0  # share of the speed that is lost over the blocks of a cell
    two_lanes: bool = False  # the variants have a GPU of their own
    dummy: bool = False
    mismatch: bool = False  # the variants are served with another max_model_len
    two_cards: bool = False  # the baseline is served by two GPUs, the variants by one with an FP8 KV cache, as declared
    starts: int = 1  # of each server, for which the blocks of a cell are divided
    start_effect: float = 0.0  # share of the speed that a variant gains with each start
    unfit: bool = False  # bf16 does not fit, so that fp8 stands in for it
    suite: str = ""  # "sound" or "damaged": the variants answered a suite of tasks, and scored texts
    iso: bool = False  # chat is measured with as many requests in flight as fit each model, too

    @property
    def baseline(self) -> str:
        """What the variants are compared with."""
        return "fp8" if self.unfit else "bf16"

    @property
    def models(self) -> tuple[str, ...]:
        """The baseline and the variants."""
        return (self.baseline, *self.variants)

    @property
    def arms(self) -> dict[str, ArmPlan]:
        """What is declared of the models."""
        own = ArmPlan(differs_in=("weights", "kv_cache", "gpus") if self.two_cards else ("weights",))
        return {"bf16": ArmPlan(gpus=self.gpus("bf16"), differs_in=())} | dict.fromkeys(("fp8", *self.variants), own)

    def gpus(self, model: str) -> int:
        """How many serve a model."""
        return 2 if self.two_cards and model == "bf16" else 1

    @property
    def prices(self) -> Price:
        """What a price list says."""
        if self.two_cards:
            counts = {model: self.gpus(model) for model in self.models}
            return replace(PRICE, per_hour={model: 0.28 * n for model, n in counts.items()}, gpus=counts)
        if self.suite:
            return replace(PRICE, peak_requests_per_s=20.0)
        return PRICE if self.price else Price(utilisation=1.0)

    @property
    def plan(self) -> ReportPlan:
        """What the configuration says: the grid of `runs.plan`, or the named part of it."""
        plan = runs.plan()
        return runs.plan(
            variants=self.variants,
            labels={model: LABELS[model] for model in ("bf16", *self.models)},
            baseline=self.baseline,
            declared_baseline="bf16",
            arms={model: arm for model, arm in self.arms.items() if model in self.models},
            unfit={"bf16": server.Unfit(gpus=1, weights_gib=29.5, card_gib=24.0)} if self.unfit else {},
            load_formats=dict.fromkeys(self.models, "dummy" if self.dummy else "auto"),
            workloads={name: plan.workloads[name] for name in self.workloads},
            primary=runs.primary(plan.grid(self.workloads[0])[-1]),
            predictions=PREDICTED if self.predictions else {},
            iso_memory={"chat": ISO} if self.iso else {},
        )

    @property
    def comparison(self) -> ComparisonPlan:
        """What the verdict depends on beside the blocks."""
        shared = {name: getattr(self.plan, name) for name in ("baseline", "gpu_name", "variants", "primary", "margin")}
        planned = {"blocks": self.blocks, "most_blocks": 40, "starts": self.starts}
        own = {"arms": self.plan.arms, "iso_memory": self.plan.iso_memory}
        return ComparisonPlan(**shared, **planned, precision=0.02, **own)

    def lane(self, arm: str) -> str:
        """Where an arm is served."""
        return "gpu1" if (self.two_lanes or self.two_cards) and served_model(arm) != "bf16" else "gpu0"

    @property
    def mode(self) -> str:
        """How the lanes change models."""
        return "resident" if self.cpu else "sleep"

    def hardware(self, arm: str) -> block.Hardware:
        """The devices of an arm."""
        if self.cpu:
            return block.Hardware(names=("Test CPU (8 CPUs)",))
        count = self.gpus(served_model(arm))
        uuids = tuple(f"GPU-{n}" for n in range(count))
        return block.Hardware(names=("Test GPU",) * count, uuids=uuids, driver="570.1")


@lru_cache
def facts(scenario: Scenario) -> Run:
    """What a page may say of a scenario."""
    with tempfile.TemporaryDirectory() as folder:
        return write_tree(Path(folder), scenario)


def write_tree(below: Path, s: Scenario) -> Run:
    """Write results/test-gpu (docs/architecture.md): what a run measures, then what the rules make of it."""
    tree, measured = Results("test-gpu", below), list(_blocks(s))
    for records, context in measured:
        write_records(tree.file("records", context.cell, arm=context.arm, block=context.block), records)
        write(tree.file("block", context.cell, arm=context.arm, block=context.block), context)
    for model in s.models:
        ready = _ready(model, s)
        write(tree.file("ready", model=model), ready)
        write(tree.file("session", model=model), _session(model, s, [c for _, c in measured if c.served == model]))
        write(tree.file("startup", model=model), _starts(ready))
    for c in {context.concurrency for _, context in measured}:
        write(tree.file("calibration", concurrency=c), _calibration(c))
    if s.quality:
        write_text(_prompts(tree), "".join(orjson.dumps(p).decode() + "\n" for p in PROMPTS))
        for model in s.models:
            write(tree.file("answers", model=model), _answers(model, s))
        for variant in s.variants if s.suite else ():
            for score in _scores(s, variant):
                write(tree.below / tree.root / "suites" / score.suite / f"{variant}.score.json", score)
    return derive(tree, s.plan, s.comparison, s.prices, COMMAND)


@lru_cache
def kept_facts() -> Run:
    """The kept run of docs/reference/h100, judged anew from its raw blocks and server records."""
    overwrite = settings.read_yaml(ROOT / "benchmarks" / "reference_gpu" / "run.yaml")
    plan = settings.load(ROOT, overwrite | {"gpu": "h100-80gb", "select_workloads": ["chat"]})
    with tempfile.TemporaryDirectory() as folder:
        tree = Results(plan.gpu, Path(folder))
        (tree.below / tree.root).mkdir(parents=True)
        for name in ("raw", "servers", "client"):
            (tree.below / tree.root / name).symlink_to(KEPT / name)
        report = convert(report_plan.report(plan), ReportPlan)
        return derive(tree, report, report_plan.comparison(plan, tree), report_plan.prices(plan), ["snakemake"])


# What the rules make of it --------------------------------------------------------------------------------------


def run(script: str, inputs: Any, outputs: Mapping[str, Any], params: Mapping[str, Any], **wildcards: str) -> None:
    """Run a script of the workflow on files as Snakemake does; what it raises comes through."""
    snakemake = SimpleNamespace(
        input=Namedlist(fromdict=inputs) if isinstance(inputs, Mapping) else inputs,
        output=Namedlist(fromdict=outputs),
        params=SimpleNamespace(**params),
        wildcards=SimpleNamespace(**wildcards),
        config={"command": COMMAND},
    )
    with mock.patch.object(jobs, "run", lambda job, main: main(job)):
        runpy.run_path(str(ROOT / f"workflow/scripts/{script}.py"), init_globals={"snakemake": snakemake})


def evidence(tree: Results, models: Sequence[str]) -> dict[str, Any]:
    """The files that exist of a run, by the names under which the rules (rules/*.smk) give them to their scripts."""
    tables = {name: tree.file(name) for name in ("verdict", "impact", "memory", "measurement", "cost", "decision")}
    tables["startup"] = tree.file("startup_table")

    def all_of(kind: str, **wildcards: str) -> list[Path]:
        return sorted(tree.below.glob(tree.path(kind, **wildcards)))

    return {name: path for name, path in tables.items() if path.exists()} | {
        "ready": [tree.file("ready", model=model) for model in models],
        "sessions": [tree.file("session", model=model) for model in models],
        "starts": all_of("startup", model="*"),
        "calibrations": all_of("calibration", concurrency="*"),
        "capacity": all_of("capacity", workload="*", model="*"),
        "quality": all_of("quality_details", variant="*"),
        "suites": sorted((tree.below / tree.root).glob("suites/*/*.score.json")),
    }


def derive(tree: Results, plan: ReportPlan, comparison: Any, price: Any, command: Sequence[str]) -> Run:
    """All tables from what lies in raw/, servers/, client/ and answers/, by the scripts of the rules.

    comparison, price: as `report_plan.comparison` and `prices` give them.
    """
    models = (plan.baseline, *plan.variants)
    params = {
        "report": plan, "comparison": comparison, "price": price, "notes": NOTES, "code": True,
        "baseline": plan.baseline,
        "gpu_name": plan.gpu_name, "labels": plan.labels,
        "memory": {
            "baseline": plan.baseline, "labels": {model: plan.labels[model] for model in models},
            "arms": {model: plan.arm(model).as_dict() for model in models},
            "max_tokens": {name: max(cell.max_tokens for cell in plan.grid(name)) for name in plan.workloads},
        },
        "arms": {model: plan.arm(model).as_dict() for model in models},
    }  # fmt: skip
    blocks: list[str] = []
    for arm in (*models, plan.baseline + AA_SUFFIX):
        for cell in _cells(plan, arm):
            contexts = sorted(tree.below.glob(tree.path("block", cell, arm=arm, block="*")))
            of_cell = [str(path.with_suffix("")) for path in contexts]
            blocks += of_cell
            judged_by = {
                "ready": tree.file("ready", model=served_model(arm)),
                "calibration": tree.file("calibration", concurrency=cell.concurrency),
            }
            if contexts:
                own = {"arm": plan.arm(served_model(arm)).as_dict(), "blocks": of_cell}
                run("summarize_tuple", judged_by, {"csv": tree.file("cell", cell, arm=arm)}, params | own)
    for workload in plan.workloads:
        for model in models:
            rows = [tree.file("cell", cell, arm=model) for cell in _cells(plan, model) if cell.workload == workload]
            table = {"csv": tree.file("capacity", workload=workload, model=model)}
            run("combine_capacity", rows, table, {}, model=model, workload=workload)
    params["blocks"] = blocks
    tables = [tree.file("comparison", workload=name) for name in plan.workloads]
    verdict = {"verdict": tree.file("verdict"), "tables": tables}
    run("compare_models", evidence(tree, models), verdict, params)
    for script, kind in (
        ("describe_measurement", "measurement"),
        ("tabulate_memory", "memory"),
        ("tabulate_startup", "startup_table"),
        ("compare_chat_batch", "impact"),
    ):
        run(script, evidence(tree, models), {kind: tree.file(kind)}, params)
    for variant in plan.variants if _prompts(tree).exists() else ():
        arms = {"baseline": plan.baseline, "variant": variant}
        answers = {name: tree.file("answers", model=model) for name, model in arms.items()}
        pairs = {name: tree.file(kind, variant=variant) for name, kind in PAIRS.items()}
        run("score_quality", {"prompts": _prompts(tree), **answers}, pairs, params, variant=variant)
    run("price_tokens", evidence(tree, models), {"cost": tree.file("cost")}, params)
    run("decide", evidence(tree, models), {"decision": tree.file("decision")}, params)
    return results.load_run(Namedlist(fromdict=evidence(tree, models)), plan, command)


def _cells(plan: ReportPlan, arm: str) -> list[Cell]:
    """The grid, and where an arm is measured at what fits it."""
    own = [iso.cell(name, arm) for name, iso in plan.iso_memory.items()]
    return [cell for name in plan.workloads for cell in plan.grid(name)] + [cell for cell in own if cell]


def _prompts(tree: Results) -> Path:
    return tree.below / "prompts.jsonl"


# What a block measures ------------------------------------------------------------------------------------------


def _blocks(s: Scenario) -> Iterator[tuple[list[RequestRecord], BlockContext]]:
    """All blocks in the order of measuring: its requests, and its context, not yet judged."""
    clocks, awake = {"gpu0": START, "gpu1": START}, {"gpu0": "", "gpu1": ""}
    grid = [cell for name in s.workloads for cell in s.plan.grid(name)]
    control = {s.plan.primary.cell: [s.baseline + AA_SUFFIX]} if s.aa else {}
    places = [dict.fromkeys([*s.models, *control.get(cell, [])], cell) for cell in grid]
    places += [{arm: _cells(s.plan, arm)[-1] for arm in s.models} for _ in s.plan.iso_memory]
    for place in places:
        arms = list(place)
        turns = [(number, arm) for number in range(1, s.blocks + 1) for arm in round_order(arms, number - 1)]
        for number, arm in turns if s.interleaved else sorted(turns, key=lambda turn: arms.index(turn[1])):
            lane, model = s.lane(arm), served_model(arm)
            woken = model != awake[lane] and not s.cpu
            switch_s = 0.45 + 0.01 * number if woken else 0.08
            how = LaneFacts(lane=lane, mode=s.mode, action="woken" if woken else "reused", switch_s=switch_s)
            cell = place[arm]
            records = _requests(s, arm, cell, number)
            context = _context(s, arm, cell, number, clocks[lane] + 0.5, records, how)
            awake[lane], clocks[lane] = model, clocks[lane] + context.duration_s + 1
            yield records, context


def _requests(s: Scenario, arm: str, cell: Cell, number: int) -> list[RequestRecord]:
    """A closed loop of `concurrency` slots. All arms get the same prompts, and so the same scatter of requests."""
    concurrency, tokens, chat = cell.concurrency, cell.max_tokens, cell.workload == "chat"
    point = (concurrency, tokens)
    of_block, of_prompts = (random.Random(f"{key} {point} {number}") for key in (arm, cell.workload))
    speed = SPEED.get(served_model(arm), (1.0, 1.0))[0 if chat else 1]
    speed *= (s.aa_speed if arm.endswith(AA_SUFFIX) else 1.0) * (1.6 if s.gpus(served_model(arm)) == 2 else 1.0)
    speed *= (1 + s.start_effect * (start_of(number, s.blocks, s.starts) - 1)) if arm in s.variants else 1.0
    speed *= (1 - s.drift * (number - 1) / s.blocks) * math.exp(of_block.gauss(0, s.noise))
    tpot_ms = (10.0 if s.p95 else 40.0) * (1 + concurrency / 40) / speed
    ttft_ms = 30.0 * (1 + concurrency / 8) * math.exp(of_block.gauss(0, 0.02)) * (1.1 if arm == "slow" else 1)
    n = max(80, 3 * concurrency) if s.p95 else max(10, 2 * concurrency)
    merged = chat and concurrency == 16  # vLLM's front end sends several tokens in a chunk
    chunks = round(tokens / 1.2) if merged else tokens
    reads = round(0.99 * chunks)
    broken = 7 if s.failures and arm == s.variants[0] and cell.key == "chat/c8_t128" and number == 2 else None
    free = [0] * concurrency
    records = []
    for index in range(n):
        sent = min(free)
        first = sent + round(1e6 * ttft_ms * math.exp(of_prompts.gauss(0, 0.25)))
        last = first + round(1e6 * tpot_ms * (tokens - 1) * math.exp(of_prompts.gauss(0, 0.05)))
        free[free.index(sent)] = end = last + 50_000
        common = {"index": index, "prompt_id": f"{cell.workload}-{index % 20}", "sent_ns": sent, "end_ns": end}
        if index == broken:
            records.append(RequestRecord(**common, reason="disconnected", http_status=200))
            continue
        gaps = ((last - first) // 1000 // (reads - 1),) * (reads - 1)
        record = RequestRecord(
            **common, first_ns=first, last_ns=last, prompt_tokens=300, completion_tokens=tokens, chunks=chunks,
            first_chunk_tokens=1, reads=reads, ok=True, http_status=200, finish_reason="length",
            fingerprint=FINGERPRINT, gaps_us=gaps,
        )  # fmt: skip
        records.append(record)
    return records


def _context(
    s: Scenario, arm: str, cell: Cell, number: int, t: float, records: list[RequestRecord], lane: LaneFacts
) -> BlockContext:
    seconds = max(r.end_ns or 0 for r in records) / 1e9
    throttled = s.invalid and arm in s.variants and cell == s.plan.grid(s.workloads[-1])[-1] and number <= 4
    client = block.ClientFacts(
        cpu_share=0.12, loop_lag_p50_ms=0.1, loop_lag_p99_ms=1.4, resent=0, coalesced_share=0.01,
        concurrency_held=concurrency_held(spans(records), cell.concurrency), stalled_s=0.0, suspended_s=0.0,
        clock_step_s=0.0,
    )  # fmt: skip
    result = BlockResult(records, datetime.fromtimestamp(t, UTC), seconds, client)
    return block_context(
        result, cell, gpu="test-gpu", hardware=s.hardware(arm), model=arm, style=s.plan.workloads[cell.workload].style,
        block=number, min_seconds=5.0, server=_server(s, arm, number, cell, records), lane=lane,
        telemetry=_telemetry(s, seconds * s.gpus(served_model(arm)), throttled=throttled), host=HOST,
    )  # fmt: skip


def _server(s: Scenario, arm: str, number: int, cell: Cell, records: Sequence[RequestRecord]) -> block.ServerFacts:
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
    started = START - 1000 + 100 * start_of(number, s.blocks, s.starts)
    return block.ServerFacts(
        spec_hash=f"hash-{served_model(arm)}", process_start_time=started, fingerprints=(FINGERPRINT,),
        delta=block.Delta(**counted), peak=block.Peak(running=cell.concurrency, waiting=0, kv_usage=0.2),
    )  # fmt: skip


HOST = block.HostLoad(
    cpus=8, server_here=True, server_cpu_cores=1.6, client_cpu_cores=0.12, foreign_cpu_cores=0.3,
    foreign_cpu_share=0.0375, steal_share=0.0, throttled_share=0.0, throttled_s=0.0, cpu_pressure=0.01,
    memory_pressure=0.0, cpu_freq_mhz=2600.0, missing={"quota_cores": "there is none"},
)  # fmt: skip
"""A host that does little else."""


def _telemetry(s: Scenario, seconds: float, *, throttled: bool) -> block.Telemetry:
    if s.cpu:
        return block.Telemetry(missing=dict.fromkeys(FIELDS, NO_NVML))
    return block.Telemetry(
        power_w_mean=61.0, energy_j=61.0 * seconds, energy_from_power_j=60.5 * seconds, sm_clock_mhz_mean=1900.0,
        temperature_c_max=71, throttle_reasons=("sw_thermal_slowdown",) if throttled else (), foreign_processes=(),
        samples=round(2 * seconds),
    )  # fmt: skip


def _calibration(concurrency: int) -> block.Calibration:
    return block.Calibration(
        measured_unix=START - 600, concurrency=concurrency, n=6 * concurrency,
        ttft_error_p50_ms=0.2 + concurrency / 100, ttft_error_p95_ms=0.4 + concurrency / 100,
        e2e_error_p50_ms=0.2 + concurrency / 100, cpu_share=0.1, loop_lag_p99_ms=1.2, concurrency_held=0.999,
        limit_tok_s=30000.0,
    )  # fmt: skip


# What the servers say -------------------------------------------------------------------------------------------


def _ready(model: str, s: Scenario) -> Ready:
    index, quantized = s.models.index(model), model != "bf16"
    label = {"bf16": "BF16", "fp8": "W8A8 (FP8)", "int8": "W8A8"}.get(model, "W4A16")
    weights = {"bf16": 2.98, "fp8": 1.8, "int8": 1.79}.get(model, 1.1)
    weights /= s.gpus(model)
    kv_cache = 10.4 + 2.98 - weights
    denser = s.gpus(model) * (2 if s.two_cards and quantized else 1)
    memory = server.Memory(
        weights_gib=weights, checkpoint_gib=weights * s.gpus(model) * 1.01, kv_cache_gib=kv_cache,
        kv_cache_tokens=int(kv_cache * 36000) * denser, max_concurrency=90.5, activation_peak_gib=0.6,
        cuda_graphs_gib=0.4,
        missing={"non_torch_gib": "not found: looked for “non_torch_gib”"},
    )  # fmt: skip
    if s.cpu:
        lines = [name for name in server.Memory.__struct_fields__ if name != "missing"]
        memory = server.Memory(missing=dict.fromkeys(lines, "not found: looked for “Model loading took”"))
    return runs.ready(
        model, spec_hash=f"hash-{model}", source=f"Org/Model-{model}", url=f"http://127.0.0.1:{8000 + index}",
        hardware=s.hardware(model), lane=s.lane(model), mode=s.mode, memory=memory,
        devices=("cpu",) if s.cpu else ("2", "3") if s.gpus(model) == 2 else (s.lane(model)[-1],),
        versions=server.Versions(vllm="0.32.0", torch="2.13.0", driver=s.hardware(model).driver, python="3.11.9"),
        quantization=server.Quantization(
            claimed=model, method="awq_marlin" if quantized else None, label=label, verified=True,
            kernel="MarlinLinearKernel" if quantized else None, bits_per_weight=4.4 if quantized else 16.0,
        ),
        vram=server.Vram(
            source="rss" if s.cpu else "nvml", before_mib=310, after_mib=14310 + index, delta_mib=14000 + index,
            total_mib=16380,
        ),
        startup=server.Startup(
            total_s=62.0 + 20 * index, weights_s=3.1 - 0.3 * index, compile_s=21.0, warmup_s=4.0,
            graphs_s=11.0 + 9 * index, engine_init_s=40.0, compile_cache="cold" if index else "warm",
        ),
        settings=server.Settings(
            max_model_len=2048 if s.mismatch and quantized else 4096, dtype="bfloat16",
            kv_cache_dtype="fp8" if s.two_cards and quantized else "auto",
            enforce_eager=False, prefix_caching=False, attention_backend="FLASH_ATTN",
            cuda_graphs="FULL_AND_PIECEWISE", speculative=False, sampling_defaults_overridden=False, jit_monitor=True,
        ),
        test_completion=server.Completion(prompt="Hello, how are you?", text=" I am fine | thanks.", tokens=6),
        logits=server.Logits(finite=True), system_fingerprint=FINGERPRINT,
        tokenizer=server.Tokenizer(probe_sha256="a1", chat_probe_sha256="b2", chat_bos_count=0, chat_is_plain=False),
    )  # fmt: skip


def _session(model: str, s: Scenario, blocks: Sequence[BlockContext]) -> server.Session:
    leases = [
        Event(
            t=one.started_unix + one.duration_s, event="lease", action=one.lane.action, measured_s=one.duration_s,
            seconds=one.duration_s / 0.94,
        )
        for one in blocks
    ]  # fmt: skip
    start, end = START - 900, leases[-1].t + 60
    memory = {"memory_before_mib": 310, "memory_after_stop_mib": 311, "memory_returned": True}
    events = [Event(t=start, event="start"), *leases, Event(t=end, event="stop", **memory)]
    return registry.session_of(model, s.mode, events)


def _starts(ready: Ready) -> server.MeasuredStarts:
    """Two rounds of starts with a cold and a warm compile cache, the warm ones without compiling."""
    phases = ready.startup
    starts = []
    for number in (1, 2):
        for state, saved in (("cold", 0.0), ("warm", 20.0)):
            own = {"round": number, "wanted": state, "compile_cache": state, "compile_s": 21.0 - saved}
            own["total_s"] = (phases.total_s or 0) - saved + number
            starts.append(server.MeasuredStart(**phases.as_dict() | own))
    return server.MeasuredStarts(model=ready.model, starts=tuple(starts))


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


def _answers(model: str, s: Scenario) -> list[dict[str, Any]]:
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


def _scores(s: Scenario, variant: str) -> Iterator[SuiteScore]:
    """The suites of a variant: of tasks it loses few or most, and its likelihoods are near or far."""
    sound = s.suite == "sound"
    lost = {"summary": 2, "code": 1, "lookup": 1} if sound else {kind: n * 2 // 3 for kind, n in SHIPPED.items()}
    gained = {"arithmetic": 2, "code": 1} if sound else {}
    outcomes = [o for k, n in SHIPPED.items() for o in counted(n, lost.get(k, 0), gained.get(k, 0), kind=k)]
    yield suite(outcomes, baseline=s.baseline, variant=variant)
    moved = likelihood(0.021, 0.953) if sound else likelihood(1.4, 0.52)
    parts = {"likelihood": moved, "likelihood_floor": likelihood(0.0015, 0.975)}
    yield suite(suite="likelihood", kind="likelihood", baseline=s.baseline, variant=variant, **parts)


def _reply(text: str) -> Mapping[str, Any]:
    ids = [ord(letter) for letter in text]
    return {"output": text, "finish_reason": "stop", "tokens": len(ids), "token_ids": ids, "system_fingerprint": "x"}
