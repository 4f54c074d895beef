"""Each guard is proven on both sides of each of its limits, by a planted fault, and by taking its fact away."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from quantbench.judge import guards, pairing
from quantbench.records.base import convert
from quantbench.records.block import BlockContext, Calibration, GuardResult, MeasuredWith
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready, Session

PRINT = "vllm-0.32.0-1234abcd"
CALIBRATION = {"concurrency": 8, "limit_tok_s": 100_000.0, "ttft_error_p50_ms": 0.3}
Facts = dict[str, Any]


def context(n: int = 1, t: float = 1000.0, model: str = "bf16", throughput: float = 64_000.0) -> Facts:
    return {
        "gpu": "gpu", "hardware": {"names": ["GPU"]}, "model": model, "workload": "chat", "style": "interactive",
        "concurrency": 8, "max_tokens": 128, "block": n, "min_seconds": 20, "started_at": "", "started_unix": t,
        "duration_s": 20.0, "failure_reasons": {}, "lane": {"lane": "gpu0"},
        "metrics": {
            "n": 10_000, "failures": 0, "tokens_in": 1_000_000, "tokens_out": 1_280_000, "chunks": 1_250_000,
            "duration_s": 20.0, "steady_s": 18.0, "throughput_tok_s": throughput, "p50_ttft_ms": 40.0,
            "j_per_token": 0.001,
        },
        "client": {
            "cpu_share": 0.02, "loop_lag_p50_ms": 0.1, "loop_lag_p99_ms": 1.0, "coalesced_share": 0.05,
            "concurrency_held": 0.99, "resent": 0, "stalled_s": 0.0, "longest_stall_s": 0.0, "suspended_s": 0.0,
            "clock_step_s": 0.0,
        },
        "silences": silences((), ()),
        "server": {
            "process_start_time": 500.0, "fingerprints": [PRINT], "source_id": "files",
            "before": {"process_start_time": 500.0, "cache_dtype": "auto"},
            "after": {"process_start_time": 500.0, "cache_dtype": "auto"},
            "delta": {
                "prefix_cache_queries": 4000, "prefix_cache_hits": 0, "preemptions": 0, "generation_tokens": 1_280_000,
                "queue_time_sum_s": 1.0, "queue_time_count": 10_000,
            },
            "peak": {"running": 8, "waiting": 0},
            "incidents": [],
        },
        "telemetry": {
            "energy_j": 1200.0, "energy_from_power_j": 1190.0, "sm_clock_mhz_mean": 1900.0, "throttle_reasons": [],
            "foreign_processes": [],
        },
        "host": {
            "cpus": 16, "foreign_cpu_cores": 0.8, "foreign_cpu_share": 0.05, "steal_share": 0.0, "throttled_share": 0.0,
        },
    }  # fmt: skip


def silences(waits: Sequence[float], steps: Sequence[float], prompt_tokens: Sequence[int] = ()) -> list[Facts]:
    """The longest silences of a block, those of `waits` and `steps` beside ordinary ones."""
    tokens = [*prompt_tokens, *[100] * (6 - len(prompt_tokens))]
    waited = [{"s": s, "at_s": 1.0, "prompt_tokens": n} for s, n in zip([*waits, *[0.1] * 6], tokens, strict=False)]
    between = [{"s": s, "at_s": 2.0, "prompt_tokens": 0} for s in [*steps, *[0.02] * 6][:6]]
    return sorted([*waited, *between], key=lambda silence: -silence["s"])


def ready(claimed: str = "none", weights: float = 3.0) -> Facts:
    return {
        "model": "m", "spec_hash": "", "source": "", "served_name": "m", "url": "", "lane": "gpu0", "devices": ["0"],
        "mode": "sleep", "started_at": None, "log": "server.log", "vram": None, "startup": {}, "test_completion": {},
        "hardware": {"names": ["GPU"]}, "system_fingerprint": PRINT,
        "versions": {"vllm": "0.32.0", "torch": "2.13.0"},
        "quantization": {
            "claimed": claimed, "label": "W4A16", "kernel": "MarlinLinearKernel", "verified": True,
            "evidence": ["seen."],
        },
        "memory": {"weights_gib": weights, "kv_cache_gib": 8.0},
        "settings": {
            "max_model_len": 4096, "dtype": "bfloat16", "kv_cache_dtype": "auto", "enforce_eager": False,
            "prefix_caching": False, "attention_backend": "FLASH_ATTN", "cuda_graphs": "FULL_AND_PIECEWISE",
            "speculative": False, "sampling_defaults_overridden": False, "jit_monitor": True, "missing": {},
        },
        "logits": {"finite": True, "seen": "logprobs of 4 tokens: -0.1, -0.2, -0.1, -0.3"},
        "tokenizer": {"probe_sha256": "aa", "chat_probe_sha256": "bb", "chat_bos_count": 0, "chat_is_plain": False},
    }  # fmt: skip


def with_() -> Facts:
    """What a block was measured with, and is wanted to be."""
    knobs = {
        "workload": "chat", "concurrency": 8, "max_tokens": 128, "protocol": 1, "style": "interactive",
        "endpoint": "chat", "template": None, "min_seconds": 20, "min_requests": 8, "warmup_requests": 8,
        "warmup_max_tokens": None, "timeout_s": 60,
    }  # fmt: skip
    spec = {"model": "bf16", "settings": {"max_num_seqs": 64, "env": {"A": "1"}}, "devices": ["0"]}
    server = {"spec": spec, "made": {"group_size": 128}, "vllm": "0.32.0", "source_id": "files"}
    return {"server": server, "knobs": knobs, "prompts": "text"}


def block_facts() -> Facts:
    block = context() | {"measured_with": with_()}
    return {
        "context": block, "ready": ready(), "calibration": dict(CALIBRATION), "wanted": with_(), "arm": {},
    }  # fmt: skip


def server_facts() -> Facts:
    return {"ready": ready("awq")}


def pair_facts() -> Facts:
    places = [(2 * n + n % 2, 2 * n + 1 - n % 2) for n in range(10)]  # A B B A …
    return {
        "ready_a": ready(),
        "ready_b": ready("awq", 1.1),
        "blocks_a": [context(n, 20.0 * a, throughput=64_000 + (n * 7) % 3) for n, (a, _) in enumerate(places)],
        "blocks_b": [context(n, 20.0 * b, "awq", 80_000 + n % 3) for n, (_, b) in enumerate(places)],
        "arm_a": {"differs_in": []},
        "arm_b": {"differs_in": ["weights"]},
    }


def run_facts() -> Facts:
    return {"sessions": {"bf16": session(True), "awq": session(True)}}


def session(returned: bool | None) -> Facts:
    return {"model": "m", "mode": "sleep", "events": [], "memory_returned": returned}


TYPES: dict[str, Any] = {
    "context": BlockContext, "ready": Ready, "calibration": Calibration | None, "ready_a": Ready, "ready_b": Ready,
    "wanted": MeasuredWith | None,
    "blocks_a": list[BlockContext], "blocks_b": list[BlockContext], "sessions": dict[str, Session],
    "arm": ArmPlan, "arm_a": ArmPlan, "arm_b": ArmPlan,
}  # fmt: skip
SCOPES: dict[str, tuple[Callable[[], Facts], Callable[..., list[GuardResult]]]] = {
    "block": (block_facts, guards.evaluate_block),
    "server": (server_facts, guards.evaluate_server),
    "pair": (pair_facts, guards.evaluate_pair),
    "run": (run_facts, guards.evaluate_run),
}
GUARD = {guard.id: guard for guard in guards.GUARDS}


def put(facts: Any, path: str, value: Any) -> None:
    """Set the fact at a dotted path. Of a list every element is changed, or the one whose place the path gives."""
    head, _, rest = path.partition(".")
    if isinstance(facts, list) and not head.isdigit():
        for item in facts:
            put(item, path, value)
        return
    key: Any = int(head) if isinstance(facts, list) else head
    if rest:
        put(facts[key], rest, value)
    else:
        facts[key] = value(facts.get(key)) if callable(value) else value


def typed(facts: Facts) -> list[Any]:
    """The facts as records; a name or type that no record has is an error here."""
    return [convert(copy.deepcopy(value), TYPES[name]) for name, value in facts.items()]


def evaluate(scope: str, changes: Facts) -> dict[str, GuardResult]:
    """The answers of a scope's guards on clean facts with some changes."""
    clean, evaluated = SCOPES[scope]
    facts = clean()
    for path, value in changes.items():
        put(facts, path, value)
    return {result.id: result for result in evaluated(*typed(facts))}


class Case(NamedTuple):
    """A guard's status on clean facts with some changes. No other guard may have trouble with these but `also`."""

    guard: str
    status: str
    changes: Facts
    also: frozenset[tuple[str, str]] = frozenset()


def both(
    guard: str, path: str, *, ok: Any, bad: Any, also: frozenset[tuple[str, str]] = frozenset(), **more: Any
) -> list[Case]:
    """A limit from both sides: the last value that is ok, and one just beyond it. more: changes that both need."""
    rest = {key.replace("__", "."): value for key, value in more.items()}
    severity = GUARD[guard].severity
    return [Case(guard, "ok", {**rest, path: ok}, also), Case(guard, severity, {**rest, path: bad}, also)]


def planted(guard: str, changes: Facts, *also: tuple[str, str]) -> Case:
    """A fault of a guard that has no limit."""
    return Case(guard, GUARD[guard].severity, changes, frozenset(also))


def trend(percent: float) -> Callable[[list[Facts]], list[Facts]]:
    """Blocks of which throughput changes by so much from the first to the last."""

    def changed(blocks: list[Facts]) -> list[Facts]:
        span = blocks[-1]["started_unix"] - blocks[0]["started_unix"]
        for block in blocks:
            share = (block["started_unix"] - blocks[0]["started_unix"]) / span
            block["metrics"]["throughput_tok_s"] = 64_000 * (1 + percent / 100) ** share
        return blocks

    return changed


def ranks(*order: int) -> Callable[[list[Facts]], list[Facts]]:
    """Blocks of which throughput takes these ranks in turn, some percent over the session."""

    def changed(blocks: list[Facts]) -> list[Facts]:
        for rank, block in zip(order, blocks, strict=False):
            block["metrics"]["throughput_tok_s"] = 64_000 * 1.01**rank
        return blocks[: len(order)]

    return changed


def at(*times: float) -> Callable[[list[Facts]], list[Facts]]:
    """The first blocks, started at these times."""
    return lambda blocks: [block | {"started_unix": t} for block, t in zip(blocks, times, strict=False)]


def days(later: float) -> Callable[[list[Facts]], list[Facts]]:
    """One block on each of five days, so many seconds later than the first of the day."""
    return at(*(86_400 * day + later for day in range(5)))


def incident(kind: str) -> list[dict[str, str]]:
    return [{"id": kind, "line": "a line of the log"}]


def declared(*factors: str) -> Facts:
    """What the variant is declared to differ in."""
    return {"arm_b.differs_in": factors}


TWO_CARDS = {
    "arm_a.gpus": 2, "ready_a.hardware.names": ["GPU", "GPU"], "blocks_a.hardware.names": ["GPU", "GPU"],
}  # fmt: skip
METRICS, DELTA, CLIENT = "context.metrics.", "context.server.delta.", "context.client."
SILENCES = "context.silences"
TELEMETRY, HOST, SETTINGS = "context.telemetry.", "context.host.", "ready_b.settings."
SHORT = {METRICS + "duration_s": 10.0, METRICS + "steady_s": 9.0, "context.min_seconds": 9.0, "wanted": None}
MOMENT = frozenset({("hiccup", "warn")})
NONE_STEADY = frozenset({("ramp_share", "warn")})
WITH, SPEC = "context.measured_with.", "context.measured_with.server.spec."
CASES = [
    # a block: what it was measured with
    *(
        planted("other_configuration", {path: other})
        for path, other in {
            "context.protocol": 0, SPEC + "settings.max_num_seqs": 7, SPEC + "settings.env": {},
            SPEC + "devices": ["1"],
            WITH + "server.made.group_size": 64, WITH + "server.vllm": "0.31.0", WITH + "server.source_id": "others",
            WITH + "knobs.template": "{prompt}", WITH + "knobs.timeout_s": 61, WITH + "prompts": "another text",
        }.items()
    ),
    *(
        Case("other_configuration", "ok", {path: None})
        for path in ("server.made", "server.vllm", "server.source_id", "prompts")
        for path in (WITH + path, "wanted." + path)
    ),
    Case("other_configuration", "ok", {"wanted": None, "context.measured_with": None}),
    Case("other_configuration", "ok", {SPEC + "settings": {}, "wanted.server.spec.settings.of_a_later_version": 1}),
    planted("other_configuration", {"context.measured_with": None, "context.protocol": 0}),
    planted("other_configuration", {"context.measured_with": None, "context.server.source_id": "others"}),
    # a block: load
    planted("failed_requests", {
        METRICS + "failures": 1, METRICS + "tokens_out": 1_279_872, "context.failure_reasons": {"timeout": 1},
    }),
    planted("failed_requests", {
        **dict.fromkeys((METRICS + "n", METRICS + "tokens_out", METRICS + "chunks", DELTA + "generation_tokens"), 0),
    }, ("short_block", "warn"), ("merged_chunks", "unknown")),
    *both("resent_requests", CLIENT + "resent", ok=100, bad=101),
    *both("short_block", METRICS + "duration_s", ok=19.8, bad=19.79),
    *both("short_block", "context.concurrency", ok=5000, bad=5001),
    *both("concurrency_not_held", CLIENT + "concurrency_held", ok=0.95, bad=0.949),
    Case("concurrency_not_held", "ok", {METRICS + "steady_s": None, CLIENT + "concurrency_held": 0.6}, NONE_STEADY),
    Case("concurrency_not_held", "fail", {METRICS + "steady_s": None, CLIENT + "concurrency_held": 0.599}, NONE_STEADY),
    *both("ramp_share", METRICS + "steady_s", ok=10.0, bad=9.99),
    planted("ramp_share", {METRICS + "steady_s": None}),
    planted("output_length", {"context.max_tokens": 129}),
    planted("output_length", {"context.failure_reasons": {"token_count": 1}}),
    # a block: standstill. Of 20 s; usual are 0.1 s while first tokens are waited for, and 0.02 s between tokens
    *both("stalled", SILENCES, ok=silences((), (1.019,)), bad=silences((), (1.021,)), also=MOMENT),
    *both("stalled", SILENCES, ok=silences((1.099,), ()), bad=silences((1.101,), ()), also=MOMENT),
    *both("stalled", SILENCES, ok=silences((), (0.35, 0.35, 0.35)), bad=silences((), (0.36, 0.36, 0.36)), also=MOMENT),
    Case("stalled", "ok", {**SHORT, SILENCES: silences((), (0.249, 0.249, 0.249))}),
    Case("stalled", "fail", {**SHORT, SILENCES: silences((), (0.251, 0.251, 0.251))}, MOMENT),
    # what is usual: four times the fourth longest other step; a wait for ten times the tokens takes ten times as long
    Case("stalled", "ok", {SILENCES: silences((), (1.99, *[0.5] * 4))}),
    Case("stalled", "fail", {SILENCES: silences((), (2.01, *[0.5] * 4))}, MOMENT),
    Case("stalled", "ok", {SILENCES: silences((3.99,), (), (1000,))}),
    Case("stalled", "fail", {SILENCES: silences((4.01,), (), (1000,))}, MOMENT),
    Case("stalled", "unknown", {SILENCES: silences((5.0,), ())[:1]}, frozenset({("hiccup", "unknown")})),
    *both("hiccup", SILENCES, ok=silences((), (1.019,)), bad=silences((), (1.021,)),
          context__metrics__duration_s=100.0, context__metrics__steady_s=90.0),
    *both("client_stalled", CLIENT + "stalled_s", ok=0.999, bad=1.0),
    *both("client_stalled", CLIENT + "stalled_s", ok=0.249, bad=0.25, context__metrics__duration_s=4.0,
          context__min_seconds=4.0, context__metrics__steady_s=3.0, wanted=None),
    *both("suspended", CLIENT + "suspended_s", ok=0.1, bad=0.101),
    *both("clock_set", CLIENT + "clock_step_s", ok=1.0, bad=1.01),
    *both("clock_set", CLIENT + "clock_step_s", ok=-1.0, bad=-1.01),
    # a block: engine
    *both("prefix_cache", DELTA + "prefix_cache_hits", ok=0, bad=1),
    *both("prefix_cache", "context.server.cached_tokens", ok=500_000, bad=500_001,
          context__server__delta__prefix_cache_hits=None),
    Case("prefix_cache", "ok", {"context.server.cached_tokens": 1_000_000}),
    planted("jit_compilation", {"context.server.incidents": incident("jit")}),
    planted("jit_compilation", {
        "context.server.incidents": incident("graph_capture"), "ready.settings.jit_monitor": None,
    }),
    planted("nan_logits", {DELTA + "corrupted_requests": 1}),
    planted("nan_logits", {"context.server.incidents": incident("nan")}),
    planted("nan_logits", {"ready.logits.finite": False}),
    Case("nan_logits", "ok", {"ready.logits.finite": None, DELTA + "corrupted_requests": 0}),
    *(planted("server_error", {"context.server.incidents": incident(k)}) for k in ("error", "oom", "engine_dead")),
    planted("server_restart", {"context.server.before.process_start_time": 400.0}),
    planted("server_restart", {DELTA + "preemptions": -1}),
    planted("config_drift", {"context.server.fingerprints": [PRINT, "vllm-0.32.0-ffffffff"]}),
    planted("config_drift", {"ready.system_fingerprint": "vllm-0.32.0-ffffffff"}),
    *both("token_count", DELTA + "generation_tokens", ok=1_292_800, bad=1_292_801),
    *both("token_count", DELTA + "generation_tokens", ok=1_267_200, bad=1_267_199),
    *both("preemption", DELTA + "preemptions", ok=0, bad=1),
    *both("queueing", DELTA + "queue_time_sum_s", ok=40.0, bad=40.1),
    planted("speculative", {"ready.settings.speculative": True}),
    *both("speculative", DELTA + "spec_decode_drafts", ok=0, bad=1),
    Case("speculative", "ok", {
        "ready.settings.speculative": True, DELTA + "spec_decode_drafts": 9, "arm.differs_in": ["speculative"],
    }),
    # a block: device
    *(planted("thermal_throttling", {TELEMETRY + "throttle_reasons": [reason]}) for reason in (
        "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_slowdown", "HwPowerBrakeSlowdown",
    )),
    planted("power_cap", {TELEMETRY + "throttle_reasons": ["sw_power_cap"]}),
    Case("power_cap", "ok", {TELEMETRY + "throttle_reasons": ["gpu_idle"]}),
    planted("foreign_process", {TELEMETRY + "foreign_processes": [{"pid": 7, "name": "other", "mib": 900}]}),
    *both("energy_mismatch", TELEMETRY + "energy_from_power_j", ok=1140.0, bad=1139.0),
    *both("energy_mismatch", TELEMETRY + "energy_from_power_j", ok=1260.0, bad=1261.0),
    # a block: host
    *both("host_steal", HOST + "steal_share", ok=0.0299, bad=0.03),
    *both("foreign_load", HOST + "foreign_cpu_share", ok=0.499, bad=0.50),
    *both("foreign_load", HOST + "foreign_cpu_share", ok=0.0999, bad=0.10, ready__devices=["cpu"]),
    Case("foreign_load", "warn", {HOST + "foreign_cpu_share": 0.50, "ready.devices": []}),
    *both("cpu_quota", HOST + "throttled_share", ok=0.0499, bad=0.05, context__host__quota_cores=4.0),
    # a block: client
    *both("client_cpu", CLIENT + "cpu_share", ok=0.799, bad=0.80),
    *both("client_loop_lag", CLIENT + "loop_lag_p50_ms", ok=4.0, bad=4.01),
    *both("client_loop_lag", CLIENT + "loop_lag_p50_ms", ok=2.0, bad=2.01, context__metrics__p50_ttft_ms=10.0),
    *both("client_loop_lag_tail", CLIENT + "loop_lag_p99_ms", ok=20.0, bad=20.1),
    *both("client_limit", "calibration.limit_tok_s", ok=80_000.0, bad=79_990.0),
    *both("client_error", "calibration.ttft_error_p50_ms", ok=4.0, bad=4.01),
    *both("client_error", "calibration.ttft_error_p50_ms", ok=-4.0, bad=-4.01),
    *both("coalesced_reads", CLIENT + "coalesced_share", ok=0.5, bad=0.501),
    *both("merged_chunks", METRICS + "chunks", ok=853_334, bad=853_333),
    # a server
    planted("not_quantized", {"ready.quantization.verified": False}),
    planted("quantization_not_proven", {"ready.quantization.verified": None}, ("not_quantized", "unknown")),
    planted("kernel_fallback", {"ready.quantization.kernel": "UnquantizedLinearMethod"}),
    Case("kernel_fallback", "ok", {"ready.quantization.claimed": "none", "ready.quantization.kernel": "Unquantized"}),
    planted("kernel_fallback", {"ready.quantization.claimed": "fp8", "ready.quantization.label": "W8A16"}),
    Case("kernel_fallback", "ok", {"ready.quantization.claimed": "fp8", "ready.quantization.label": "W8A8"}),
    *both("chat_template", "ready.tokenizer.chat_bos_count", ok=1, bad=2),
    planted("chat_template", {"ready.tokenizer.chat_is_plain": True}),
    planted("sampling_defaults", {"ready.settings.sampling_defaults_overridden": True}),
    # a comparison: what is declared, and nothing else
    planted("weights", {**declared("kv_cache"), SETTINGS + "kv_cache_dtype": "fp8"}),
    planted("weights", {
        **declared("kv_cache"), SETTINGS + "kv_cache_dtype": "fp8", "ready_b.quantization.claimed": "none",
        "ready_a.source_id": "files", "ready_b.source_id": "other files", "ready_b.memory.weights_gib": 3.0,
    }),
    Case("weights", "ok", {
        **declared("kv_cache"), SETTINGS + "kv_cache_dtype": "fp8", "ready_b.quantization.claimed": "none",
        "ready_a.source_id": "files", "ready_b.source_id": "files", "ready_b.memory.weights_gib": 3.0,
    }),
    Case("kv_cache_dtype", "ok", {**declared("weights", "kv_cache"), SETTINGS + "kv_cache_dtype": "fp8"}),
    Case("kv_cache_dtype", "ok", {
        **declared("weights", "kv_cache"), "blocks_b.server.after.cache_dtype": "fp8_e4m3",
    }),
    Case("kv_cache_dtype", "ok", {  # a variant stands in for the baseline, and has it of its own
        "arm_a.differs_in": ["weights", "kv_cache"], "ready_a.settings.kv_cache_dtype": "fp8",
    }),
    Case("max_model_len", "ok", {**declared("weights", "max_model_len"), SETTINGS + "max_model_len": 32768}),
    Case("versions", "ok", {**declared("weights", "engine"), "ready_b.versions.vllm": "0.33.0"}),
    Case("execution_mode", "ok", {
        **declared("weights", "engine"), "ready_b.versions.vllm": "0.33.0", SETTINGS + "cuda_graphs": "PIECEWISE",
    }),
    planted("execution_mode", {
        **declared("weights", "engine"), "ready_b.versions.vllm": "0.33.0", SETTINGS + "enforce_eager": True,
    }),
    Case("hardware", "ok", TWO_CARDS | declared("weights", "gpus")),
    planted("hardware", TWO_CARDS),
    planted("hardware", {
        **TWO_CARDS, **declared("weights", "gpus"), "ready_a.hardware.names": ["another GPU", "another GPU"],
    }),
    *(planted(guard, {**declared("weights", *others), **change}) for guard, change, others in (
        ("kv_cache_dtype", {SETTINGS + "kv_cache_dtype": "fp8", SETTINGS + "max_model_len": 9}, ["max_model_len"]),
        ("max_model_len", {SETTINGS + "kv_cache_dtype": "fp8", SETTINGS + "max_model_len": 9}, ["kv_cache"]),
        ("versions", {SETTINGS + "kv_cache_dtype": "fp8", "ready_b.versions.vllm": "0.33.0"}, ["kv_cache"]),
    )),
    *(planted("declared_absent", declared("weights", factor)) for factor in (
        "kv_cache", "speculative", "gpus", "engine", "max_model_len",
    )),
    planted("declared_absent", {
        "ready_b.quantization.claimed": "none", "ready_a.source_id": "files", "ready_b.source_id": "files",
        "ready_b.memory.weights_gib": 3.0,
    }),
    Case("declared_absent", "ok", {**declared("weights", "speculative"), SETTINGS + "speculative": True}),
    Case("declared_absent", "ok", {"arm_a.differs_in": ["weights", "kv_cache"], **declared("weights", "kv_cache")}),
    # a comparison: the rest
    planted("execution_mode", {SETTINGS + "enforce_eager": True}),
    planted("execution_mode", {SETTINGS + "cuda_graphs": "NONE", SETTINGS + "enforce_eager": None}),
    planted("kv_cache_dtype", {SETTINGS + "kv_cache_dtype": "fp8"}),
    planted("kv_cache_dtype", {"blocks_b.server.after.cache_dtype": "fp8_e4m3"}),
    planted("dtype", {SETTINGS + "dtype": "float16"}),
    planted("max_model_len", {SETTINGS + "max_model_len": 32768}),
    planted("prefix_caching", {SETTINGS + "prefix_caching": True}),
    planted("attention_backend", {SETTINGS + "attention_backend": "FLASHINFER"}),
    planted("tokenizer", {"ready_b.tokenizer.probe_sha256": "zz"}),
    planted("template_differs", {"ready_b.tokenizer.chat_probe_sha256": "zz"}),
    planted("versions", {"ready_b.versions.vllm": "0.33.0"}),
    planted("versions", {"ready_b.versions.torch": "2.14.0"}),
    planted("hardware", {"ready_b.hardware.names": ["another GPU"]}),
    planted("hardware", {"blocks_b.3.hardware.names": ["another GPU"], "ready_a.hardware": None}),
    *both("prompt_length", "blocks_b.metrics.tokens_in", ok=980_000, bad=979_999),
    *both("answer_length", "blocks_b.metrics.tokens_out", ok=1_267_201, bad=1_267_199),
    planted("fingerprint_drift", {"blocks_b.2.server.fingerprints": ["vllm-0.32.0-ffffffff"]}),
    planted("fingerprint_drift", {"blocks_a.2.server.source_id": "other files"}),
    planted("server_changed", {"blocks_b.2.server.process_start_time": 700.0}),
    planted("not_interleaved", {"blocks_b": at(*range(5000, 5200, 20))}),
    planted("not_interleaved", {"blocks_b.lane.lane": "gpu1"}),
    Case("not_interleaved", "ok", {"blocks_b.3.started_unix": 9e6, "blocks_b.3.valid": False}),
    *both("not_interleaved", "blocks_b", blocks_a=days(0), ok=days(900), bad=days(901)),
    *both("drift", "blocks_a", ok=trend(1.99), bad=trend(2.01)),
    *both("drift", "blocks_a", ok=trend(-1.99), bad=trend(-2.01)),
    *both("drift", "blocks_a", ok=ranks(2, 0, 1, 3, 4, 5), bad=ranks(9, 2, 0, 1, 3, 4, 5, 6, 7, 8)),  # p .056, .047
    *both("clocks_differ", "blocks_b.telemetry.sm_clock_mhz_mean", ok=1843.0, bad=1842.9),
    *both("memory_breakdown", "ready_b.memory.weights_gib", ok=2.849, bad=2.851),
    Case("memory_breakdown", "ok", {
        "ready_b.memory.weights_gib": 3.0, "ready_b.quantization.claimed": "none",
    }, frozenset({("declared_absent", "unknown")})),
    # of two cards each holds half of the baseline's
    *both("memory_breakdown", "ready_b.memory.weights_gib", ok=5.699, bad=5.701, **{
        key.replace(".", "__"): value for key, value in {**TWO_CARDS, **declared("weights", "gpus")}.items()
    }),
    # a run
    planted("memory_returned", {"sessions.awq": session(False)}),
    planted("memory_returned", {"sessions.awq": session(False), "sessions.bf16": session(None)}),
]  # fmt: skip

# guard: the fact that is taken away
UNKNOWN = {
    "other_configuration": "context.measured_with",
    "failed_requests": "context.metrics.failures", "resent_requests": "context.client.resent",
    "stalled": "context.silences", "hiccup": "context.silences", "client_stalled": "context.client.stalled_s",
    "suspended": "context.client.suspended_s", "clock_set": "context.client.clock_step_s",
    "short_block": "context.metrics.duration_s", "concurrency_not_held": "context.client.concurrency_held",
    "ramp_share": "context.metrics.duration_s", "output_length": "context.metrics.tokens_out",
    "prefix_cache": "context.server.delta.prefix_cache_hits", "jit_compilation": "ready.settings.jit_monitor",
    "nan_logits": "ready.logits.finite", "server_restart": "context.server.process_start_time",
    "config_drift": "ready.system_fingerprint", "token_count": "context.server.delta.generation_tokens",
    "preemption": "context.server.delta.preemptions", "queueing": "context.server.delta.queue_time_sum_s",
    "speculative": "ready.settings.speculative", "thermal_throttling": "context.telemetry.throttle_reasons",
    "power_cap": "context.telemetry.throttle_reasons", "foreign_process": "context.telemetry.foreign_processes",
    "host_steal": "context.host.steal_share", "foreign_load": "context.host.foreign_cpu_share",
    "cpu_quota": "context.host.throttled_share",
    "energy_mismatch": "context.telemetry.energy_j", "client_cpu": "context.client.cpu_share",
    "client_loop_lag": "context.client.loop_lag_p50_ms", "client_loop_lag_tail": "context.client.loop_lag_p99_ms",
    "client_limit": "calibration.limit_tok_s", "client_error": "calibration.ttft_error_p50_ms",
    "coalesced_reads": "context.client.coalesced_share", "merged_chunks": "context.metrics.chunks",
    "not_quantized": "ready.quantization.verified", "quantization_not_proven": "ready.log",
    "kernel_fallback": "ready.quantization.kernel", "chat_template": "ready.tokenizer.chat_bos_count",
    "sampling_defaults": "ready.settings.sampling_defaults_overridden",
    "execution_mode": "ready_b.settings.enforce_eager", "kv_cache_dtype": "ready_b.settings.kv_cache_dtype",
    "dtype": "ready_a.settings.dtype", "max_model_len": "ready_a.settings.max_model_len",
    "prefix_caching": "ready_a.settings.prefix_caching", "attention_backend": "ready_b.settings.attention_backend",
    "tokenizer": "ready_a.tokenizer.probe_sha256", "template_differs": "ready_a.tokenizer.chat_probe_sha256",
    "versions": "ready_b.versions.torch", "hardware": "ready_b.hardware", "prompt_length": "blocks_b.metrics.tokens_in",
    "answer_length": "blocks_a.metrics.tokens_out", "server_changed": "blocks_a.2.server.process_start_time",
    "clocks_differ": "blocks_a.2.telemetry.sm_clock_mhz_mean", "memory_breakdown": "ready_a.memory.weights_gib",
}  # fmt: skip


def names(case: Case) -> str:
    return f"{case.guard}-{case.status}-{'-'.join(case.changes)}"


@pytest.mark.parametrize("case", CASES, ids=names)
def test_a_guard_sees_what_is_beyond_its_limit_and_nothing_else(case: Case) -> None:
    results = evaluate(GUARD[case.guard].scope, case.changes)
    trouble = {(r.id, r.status) for r in results.values() if r.status != "ok"}
    assert trouble == case.also | ({(case.guard, case.status)} if case.status != "ok" else set())


@pytest.mark.parametrize("scope", SCOPES)
def test_clean_facts_pass_every_guard(scope: str) -> None:
    results = evaluate(scope, {})
    assert set(results) == {guard.id for guard in guards.GUARDS if guard.scope == scope}
    assert {result.status for result in results.values()} == {"ok"}


def notices(guard: str) -> bool:
    return any(evaluate(GUARD[guard].scope, c.changes)[guard].status != c.status for c in CASES if c.guard == guard)


@pytest.mark.parametrize(("guard", "limit"), [(g.id, name) for g in guards.GUARDS for name in g.limits])
@pytest.mark.parametrize("direction", [1, -1])
def test_no_limit_can_be_moved_unnoticed(
    monkeypatch: pytest.MonkeyPatch, guard: str, limit: str, direction: int
) -> None:
    step = 0.12 if limit == "alpha" else 0.02  # p-values of ranks are steps, too
    limits: Any = GUARD[guard].limits
    monkeypatch.setitem(limits, limit, limits[limit] * (1 + direction * step))
    assert notices(guard)


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_the_gap_between_the_blocks_of_a_pair_cannot_be_moved_unnoticed(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    monkeypatch.setattr(pairing, "MAX_PAIR_GAP_S", pairing.MAX_PAIR_GAP_S * factor)
    assert notices("not_interleaved")


@pytest.mark.parametrize("guard", UNKNOWN)
def test_a_guard_without_its_fact_is_unknown_and_says_which(guard: str) -> None:
    path = UNKNOWN[guard]
    result = evaluate(GUARD[guard].scope, {path: None})[guard]
    assert result.status == "unknown"
    assert re.sub(r"context\.|blocks_[ab]\.(\d\.)?", "", path) in result.detail


@pytest.mark.parametrize(("guard", "changes", "says"), [
    ("config_drift", {"context.server.fingerprints": []}, "server.fingerprints is empty"),
    ("merged_chunks", {METRICS + "tokens_out": 0}, "nothing came in chunks"),
    ("preemption", {"context.server.delta": {"restarted": True}}, "server.delta.preemptions is not known (the server"),
    ("fingerprint_drift", {"blocks_a.server.fingerprints": []}, "server.fingerprints"),
    ("answer_length", {"blocks_a.metrics.failures": 10_000}, "tokens_out of no request"),
    ("not_interleaved", {"blocks_b": []}, "blocks of both arms"),
    ("not_interleaved", {"blocks_b": lambda blocks: blocks[:1]}, "two pairs"),
    ("drift", {"blocks_a": lambda blocks: blocks[:4]}, "5 valid blocks"),
    ("drift", {"blocks_a.valid": False}, "5 valid blocks"),
    ("weights", declared("kv_cache") | {"ready_b.quantization.claimed": "none"}, "source_id is not known"),
    ("declared_absent", declared("weights", "speculative") | {SETTINGS + "speculative": None}, "settings.speculative"),
    ("memory_returned", {"sessions.awq": session(None)}, "awq"),
    ("memory_returned", {"sessions": {}}, "sessions are not known"),
    ("thermal_throttling", {
        TELEMETRY + "throttle_reasons": None, TELEMETRY + "missing": {"throttle_reasons": "no NVML"},
    }, "telemetry.throttle_reasons is not known (no NVML)"),
    ("foreign_load", {
        HOST + "foreign_cpu_share": None, HOST + "missing": {"foreign_cpu_share": "the server runs elsewhere"},
    }, "host.foreign_cpu_share is not known (the server runs elsewhere)"),
    ("jit_compilation", {
        "ready.settings.jit_monitor": None, "ready.settings.missing": {"jit_monitor": "not in the log"},
    }, "ready.settings.jit_monitor is not known (not in the log)"),
])  # fmt: skip
def test_what_is_unknown_says_why(guard: str, changes: Facts, says: str) -> None:
    result = evaluate(GUARD[guard].scope, changes)[guard]
    assert (result.status, says in result.detail) == ("unknown", True), result.detail


def test_every_guard_has_a_fault_a_missing_fact_and_all_its_words() -> None:
    assert {case.guard for case in CASES if case.status not in ("ok", "unknown")} == set(GUARD)
    no_more = {
        "fingerprint_drift",
        "not_interleaved",
        "drift",
        "memory_returned",
        "weights",
        "declared_absent",
    }  # their facts are many: see above
    always = {"server_error"}  # a log can always be read
    assert set(UNKNOWN) | no_more | always == set(GUARD)
    assert len(GUARD) == len(guards.GUARDS) == len(guards.meanings())
    for guard in guards.GUARDS:
        assert all((guard.title, guard.meaning, guard.detection, guard.remedy))
        assert "{" not in guard.detection


def test_different_devices_are_said_to_be_what_keeps_arms_apart() -> None:
    detail = evaluate("pair", {"blocks_b.lane.lane": "gpu1"})["not_interleaved"].detail
    assert detail == "on different devices in chat/c8_t128"
    detail = evaluate("pair", {"blocks_b": at(*range(5000, 5200, 20))})["not_interleaved"].detail
    assert detail == "arm by arm in chat/c8_t128"


def test_a_block_of_which_only_the_client_knows_is_unknown_to_the_other_guards() -> None:
    facts = block_facts()
    facts["context"] |= {"metrics": {}, "client": {}, "server": {}, "telemetry": {}, "host": {}}
    block = convert(facts["context"], BlockContext)
    known = {r.id for r in guards.evaluate_block(block, None, None) if r.status != "unknown"}
    assert known == {"server_error", "other_configuration"}, "a log can be read, and nothing is asked for"


def test_clean_facts_of_a_machine_without_gpu_fail_nothing() -> None:
    missing = dict.fromkeys(("throttle_reasons", "foreign_processes", "energy_j"), "no NVML")
    results = evaluate("block", {"context.telemetry": {"missing": missing}, "calibration": None})
    assert guards.failed(results.values()) == []
    assert {r.id for r in results.values() if r.status == "unknown"} == {
        "thermal_throttling", "power_cap", "foreign_process", "energy_mismatch", "client_limit", "client_error",
    }  # fmt: skip


def test_a_restart_seen_in_the_counters_fails_and_leaves_the_counters_unknown() -> None:
    results = {r.id: r.status for r in evaluate("block", {"context.server.delta": {"restarted": True}}).values()}
    assert results["server_restart"] == "fail"
    assert results["prefix_cache"] == results["token_count"] == results["preemption"] == "unknown"


def test_energy_per_token_is_blank_where_the_two_energies_disagree_and_stays_so() -> None:
    block, server, calibration, *_ = typed(block_facts())
    assert guards.judged(block, server, calibration).metrics["j_per_token"] == 0.001
    facts = block_facts()
    put(facts, "context.telemetry.energy_from_power_j", 1000.0)
    block = typed(facts)[0]
    judged = guards.judged(block, server, calibration)
    assert (judged.metrics["j_per_token"], judged.valid, judged.reasons) == (None, True, ())
    assert guards.judged(judged, server, calibration) == judged
    assert block.metrics["j_per_token"] == 0.001  # what was measured is left as it was


def test_a_block_that_a_guard_refuses_is_invalid_and_says_which() -> None:
    facts = block_facts()
    put(facts, "context.client.cpu_share", 0.9)
    judged = guards.judged(*typed(facts))
    assert (judged.valid, judged.reasons, judged.bottleneck.part) == (False, ("client_cpu",), "client")
    assert "90% of a core" in judged.bottleneck.sentence


def test_a_comparison_is_refused_for_its_servers_too() -> None:
    facts = pair_facts()
    assert guards.comparison_failures(*typed(facts)) == []
    put(facts, "ready_b.quantization.verified", False)
    put(facts, "ready_b.settings.dtype", "float16")
    assert guards.comparison_failures(*typed(facts)) == ["dtype", "not_quantized"]
