"""Each guard is proven by planting its fault in clean facts, and by taking its fact away."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from quantbench.judge import guards
from quantbench.judge.guard_table import BLOCK, PAIR, RUN, SERVER

SEVERITY = {guard.id: guard.severity for guard in guards.GUARDS}
DOCS = Path(__file__).parents[3] / "docs" / "measurement.md"
DELTA = {
    "prefix_cache_queries": 4000, "prefix_cache_hits": 0, "preemptions": 0, "generation_tokens": 5120,
    "prompt_tokens": 4000, "queue_time_sum_s": 0.04, "queue_time_count": 40, "prefill_time_sum_s": 1.0,
    "decode_time_sum_s": 20.0, "requests_succeeded": 40, "corrupted_requests": None, "spec_decode_drafts": None,
}  # fmt: skip
TELEMETRY = {
    "power_w_mean": 60.0, "energy_j": 1200.0, "energy_from_power_j": 1190.0, "sm_clock_mhz_mean": 1900.0,
    "sm_clock_mhz_min": 1890.0, "temperature_c_max": 60.0, "throttle_reasons": [], "foreign_processes": [],
    "samples": 40, "missing": {},
}  # fmt: skip
NO_GPU = {"throttle_reasons": "no NVML", "foreign_processes": "no NVML", "energy_j": "no NVML"}
CALIBRATION = {"concurrency": 8, "limit_tok_s": 20_000.0, "ttft_error_p50_ms": 0.3}


def context(n=1, t=1000.0, throughput=256.0):
    return {
        "model": "bf16", "workload": "chat", "concurrency": 8, "max_tokens": 128, "block": n, "started_unix": t,
        "duration_s": 20.0, "hardware": {"names": ["GPU"]},
        "metrics": {
            "n": 40, "failures": 0, "tokens_in": 4000, "tokens_out": 5120, "chunks": 5000, "duration_s": 20.0,
            "steady_s": 18.0, "throughput_tok_s": throughput, "p50_ttft_ms": 40.0,
        },
        "client": {
            "cpu_s": 0.4, "cpu_share": 0.02, "loop_lag_p50_ms": 0.1, "loop_lag_p99_ms": 1.0, "coalesced_share": 0.05,
            "concurrency_held": 0.99, "resent": 0,
        },
        "server": {
            "process_start_time": 500.0, "fingerprints": ["vllm-0.32.0-1234abcd"],
            "before": {"process_start_time": 500.0, "cache_dtype": "auto"},
            "after": {"process_start_time": 500.0, "cache_dtype": "auto"},
            "delta": dict(DELTA), "peak": {"running": 8, "waiting": 0, "kv_usage": 0.1}, "incidents": [],
        },
        "telemetry": copy.deepcopy(TELEMETRY),
    }  # fmt: skip


def ready(claimed="none", weights=3.0):
    return {
        "gpu_name": "GPU", "hardware": {"names": ["GPU"]}, "system_fingerprint": "vllm-0.32.0-1234abcd",
        "versions": {"vllm": "0.32.0", "torch": "2.13.0", "driver": "590", "python": "3.11"},
        "quantization": {
            "claimed": claimed, "label": "W4A16", "kernel": "MarlinLinearKernel", "verified": True,
            "evidence": ["seen."],
        },
        "memory": {"weights_gib": weights, "kv_cache_gib": 8.0, "missing": {}},
        "settings": {
            "max_model_len": 4096, "dtype": "bfloat16", "kv_cache_dtype": "auto", "enforce_eager": False,
            "prefix_caching": False, "attention_backend": "FLASH_ATTN", "cuda_graphs": "FULL_AND_PIECEWISE",
            "speculative": False, "sampling_defaults_overridden": False, "jit_monitor": True,
        },
        "logits": {"finite": True, "seen": "logprobs of 4 tokens: -0.1, -0.2, -0.1, -0.3", "missing": {}},
        "tokenizer": {"probe_sha256": "aa", "chat_probe_sha256": "bb", "chat_bos_count": 0, "chat_is_plain": False},
    }  # fmt: skip


def clean_block():
    return {"context": context(), "ready": ready(), "calibration": dict(CALIBRATION), "config": {"min_seconds": 20}}


def clean_pair():
    places = [(1, 2), (4, 3), (5, 6), (8, 7), (9, 10), (12, 11)]
    return {
        "ready_a": ready(),
        "ready_b": ready("awq", 1.1),
        "contexts_a": [context(n, 20.0 * a, 256 + (n * 7) % 3) for n, (a, _) in enumerate(places, 1)],
        "contexts_b": [context(n, 20.0 * b, 300 + n % 3) for n, (_, b) in enumerate(places, 1)],
    }


def put(facts, path, value):
    """Set (or with `...` remove) the fact at a dotted path; a list is changed in every element."""
    head, _, rest = path.partition(".")
    if isinstance(facts, list):
        for item in facts:
            put(item, path, value)
    elif rest:
        put(facts[head], rest, value)
    elif value is ...:
        facts.pop(head, None)
    else:
        facts[head] = value(facts.get(head)) if callable(value) else value


def troubled(results):
    return [(r.id, r.status) for r in results if r.status != "ok"]


# guard id: (path of the fact, faulty value)
BLOCK_FAULTS = [
    ("failed_requests", "context.metrics.failures", 1),
    ("short_block", "context.metrics.duration_s", 12.0),
    ("concurrency_not_held", "context.client.concurrency_held", 0.7),
    ("ramp_share", "context.metrics.steady_s", 5.0),
    ("output_length", "context.max_tokens", 129),
    ("output_length", "context.failure_reasons", {"token_count": 1}),
    ("prefix_cache", "context.server.delta.prefix_cache_hits", 16),
    ("jit_compilation", "context.server.incidents", [{"id": "jit", "line": "… during inference …"}]),
    ("jit_compilation", "context.server.incidents", [{"id": "graph_capture", "line": "Capturing …"}]),
    ("nan_logits", "context.server.delta.corrupted_requests", 2),
    ("nan_logits", "context.server.incidents", [{"id": "nan", "line": "NaN in logits"}]),
    ("nan_logits", "ready.logits.finite", False),
    ("server_error", "context.server.incidents", [{"id": "oom", "line": "CUDA out of memory"}]),
    ("server_restart", "context.server.before.process_start_time", 400.0),
    ("config_drift", "context.server.fingerprints", ["vllm-0.32.0-1234abcd", "vllm-0.32.0-ffffffff"]),
    ("config_drift", "ready.system_fingerprint", "vllm-0.32.0-ffffffff"),
    ("token_count", "context.server.delta.generation_tokens", 6000),
    ("preemption", "context.server.delta.preemptions", 3),
    ("queueing", "context.server.delta.queue_time_sum_s", 4.0),
    ("speculative", "ready.settings.speculative", True),
    ("speculative", "context.server.delta.spec_decode_drafts", 10),
    ("thermal_throttling", "context.telemetry.throttle_reasons", ["sw_thermal_slowdown"]),
    ("thermal_throttling", "context.telemetry.throttle_reasons", ["hw_slowdown"]),
    ("power_cap", "context.telemetry.throttle_reasons", ["sw_power_cap"]),
    ("foreign_process", "context.telemetry.foreign_processes", [{"pid": 7, "name": "other", "mib": 900}]),
    ("energy_mismatch", "context.telemetry.energy_from_power_j", 1000.0),
    ("client_cpu", "context.client.cpu_share", 0.9),
    ("client_loop_lag", "context.client.loop_lag_p50_ms", 9.0),
    ("client_loop_lag_tail", "context.client.loop_lag_p99_ms", 50.0),
    ("client_limit", "calibration.limit_tok_s", 300.0),
    ("resent_requests", "context.client.resent", 5),
    ("client_error", "calibration.ttft_error_p50_ms", 9.0),
    ("coalesced_reads", "context.client.coalesced_share", 0.9),
    ("merged_chunks", "context.metrics.chunks", 1300),
]  # fmt: skip
BLOCK_MISSING = {
    "failed_requests": "context.metrics.failures", "resent_requests": "context.client.resent",
    "short_block": "context.concurrency",
    "concurrency_not_held": "context.client.concurrency_held", "ramp_share": "context.metrics.steady_s",
    "output_length": "context.max_tokens", "prefix_cache": "context.server.delta.prefix_cache_hits",
    "jit_compilation": "context.server.incidents", "nan_logits": "ready.logits.finite",
    "server_error": "context.server.incidents", "server_restart": "context.server.process_start_time",
    "config_drift": "ready.system_fingerprint", "token_count": "context.server.delta.generation_tokens",
    "preemption": "context.server.delta.preemptions", "queueing": "context.server.delta.queue_time_sum_s",
    "speculative": "ready.settings.speculative", "thermal_throttling": "context.telemetry.throttle_reasons",
    "power_cap": "context.telemetry.throttle_reasons", "foreign_process": "context.telemetry.foreign_processes",
    "energy_mismatch": "context.telemetry.energy_j", "client_cpu": "context.client.cpu_share",
    "client_loop_lag": "context.client.loop_lag_p50_ms", "client_loop_lag_tail": "context.client.loop_lag_p99_ms",
    "client_limit": "calibration.limit_tok_s", "client_error": "calibration.ttft_error_p50_ms",
    "coalesced_reads": "context.client.coalesced_share", "merged_chunks": "context.metrics.chunks",
}  # fmt: skip


def test_clean_facts_pass_every_guard():
    assert troubled(guards.evaluate_block(**clean_block())) == []
    assert troubled(guards.evaluate_server(ready())) == []
    assert troubled(guards.evaluate_server(ready("awq"))) == []
    assert troubled(guards.evaluate_pair(**clean_pair())) == []
    assert troubled(guards.evaluate_run({"bf16": {"memory_returned": True}})) == []


@pytest.mark.parametrize(("guard", "path", "value"), BLOCK_FAULTS, ids=[f"{g}-{p}" for g, p, _ in BLOCK_FAULTS])
def test_a_planted_fault_is_found_by_exactly_its_block_guard(guard, path, value):
    facts = clean_block()
    put(facts, path, value)
    if guard == "failed_requests":  # one answer fewer, its tokens too
        put(facts, "context.metrics.tokens_out", 5120 - 128)
        put(facts, "context.server.delta.generation_tokens", 5120 - 128)
    if guard == "short_block":
        put(facts, "context.metrics.steady_s", 11.0)
    assert troubled(guards.evaluate_block(**facts)) == [(guard, SEVERITY[guard])]


@pytest.mark.parametrize("guard", [g.id for g in BLOCK])
def test_a_block_guard_without_its_fact_is_unknown_and_says_which(guard):
    facts, path = clean_block(), BLOCK_MISSING[guard]
    put(facts, path, ...)
    result = next(r for r in guards.evaluate_block(**facts) if r.id == guard)
    assert result.status == "unknown"
    assert path in result.detail


def test_no_facts_at_all_are_unknown_everywhere():
    assert {r.status for r in guards.evaluate_block({}, {})} == {"unknown"}
    assert {r.status for r in guards.evaluate_server({})} == {"unknown"}
    assert {r.status for r in guards.evaluate_pair({}, {}, [], [])} == {"unknown"}
    assert {r.status for r in guards.evaluate_run({})} == {"unknown"}


def test_clean_facts_of_a_machine_without_gpu_fail_nothing():
    facts = clean_block()
    facts["context"]["telemetry"] = {**dict.fromkeys(TELEMETRY), "missing": NO_GPU}
    facts["calibration"] = None
    results = guards.evaluate_block(**facts)
    unknown = {r.id: r.detail for r in results if r.status == "unknown"}
    assert guards.failed(results) == []
    assert set(unknown) == {
        "thermal_throttling", "power_cap", "foreign_process", "energy_mismatch", "client_limit", "client_error",
    }  # fmt: skip
    assert "no NVML" in unknown["thermal_throttling"]


def test_a_restart_seen_in_the_counters_fails_and_leaves_the_counters_unknown():
    facts = clean_block()
    facts["context"]["server"]["delta"] = {"restarted": True}
    results = {r.id: r.status for r in guards.evaluate_block(**facts)}
    assert results["server_restart"] == "fail"
    assert results["prefix_cache"] == results["token_count"] == results["preemption"] == "unknown"
    facts["context"]["server"]["delta"] = {**DELTA, "preemptions": -3}
    assert "server_restart" in guards.failed(guards.evaluate_block(**facts))


def test_a_block_without_a_steady_window_is_a_warning_unless_the_load_was_never_there():
    facts = clean_block()
    put(facts, "context.metrics.steady_s", None)
    put(facts, "context.client.concurrency_held", 0.75)
    assert troubled(guards.evaluate_block(**facts)) == [("ramp_share", "warn")]
    put(facts, "context.client.concurrency_held", 0.4)
    assert guards.failed(guards.evaluate_block(**facts)) == ["concurrency_not_held"]


def test_a_silent_log_says_nothing_of_compilation_where_vllm_does_not_watch_it():
    facts = clean_block()
    facts["ready"]["settings"] |= {"jit_monitor": None, "missing": {"jit_monitor": "not found: looked for …"}}
    assert troubled(guards.evaluate_block(**facts)) == [("jit_compilation", "unknown")]
    put(facts, "context.server.incidents", [{"id": "graph_capture", "line": "Capturing …"}])
    assert guards.failed(guards.evaluate_block(**facts)) == ["jit_compilation"]


def test_a_counter_of_corrupted_requests_is_enough_without_logprobs():
    facts = clean_block()
    facts["ready"]["logits"] = {"finite": None, "seen": "no logprobs", "missing": {"finite": "no logprobs"}}
    assert troubled(guards.evaluate_block(**facts)) == [("nan_logits", "unknown")]
    put(facts, "context.server.delta.corrupted_requests", 0)
    assert troubled(guards.evaluate_block(**facts)) == []


def test_energy_per_token_is_blank_where_the_two_energies_disagree_and_stays_so():
    facts = clean_block()
    context, ready = facts["context"] | {"min_seconds": 20}, facts["ready"]
    context["metrics"]["j_per_token"] = 1200.0 / 5120
    assert guards.judged(context, ready, CALIBRATION)["metrics"]["j_per_token"] == 1200.0 / 5120
    put(context, "telemetry.energy_from_power_j", 1000.0)
    found = guards.judged(context, ready, CALIBRATION)
    assert (found["metrics"]["j_per_token"], found["valid"]) == (None, True)
    assert guards.judged(found, ready, CALIBRATION) == found
    assert context["metrics"]["j_per_token"] is not None  # what was measured is left as it was


def test_free_answer_lengths_are_right_where_they_are_asked_for():
    facts = clean_block()
    put(facts, "context.metrics.tokens_out", 5100)
    facts["config"]["ignore_eos"] = False
    assert guards.failed(guards.evaluate_block(**facts)) == []


SERVER_FAULTS = [
    ("not_quantized", "quantization.verified", False),
    ("kernel_fallback", "quantization.kernel", "UnquantizedLinearMethod"),
    ("chat_template", "tokenizer.chat_bos_count", 2),
    ("chat_template", "tokenizer.chat_is_plain", True),
    ("chat_template", "tokenizer.chat_served_sha256", "zz"),
    ("sampling_defaults", "settings.sampling_defaults_overridden", True),
]
SERVER_MISSING = {
    "not_quantized": "quantization.verified", "kernel_fallback": "quantization.kernel",
    "chat_template": "tokenizer.chat_bos_count", "sampling_defaults": "settings.sampling_defaults_overridden",
}  # fmt: skip


@pytest.mark.parametrize(("guard", "path", "value"), SERVER_FAULTS)
def test_a_planted_fault_is_found_by_exactly_its_server_guard(guard, path, value):
    facts = ready("awq")
    put(facts, path, value)
    assert troubled(guards.evaluate_server(facts)) == [(guard, SEVERITY[guard])]


@pytest.mark.parametrize("guard", [g.id for g in SERVER])
def test_a_server_guard_without_its_fact_is_unknown(guard):
    facts = ready("awq")
    put(facts, SERVER_MISSING[guard], ...)
    result = next(r for r in guards.evaluate_server(facts) if r.id == guard)
    assert (result.status, SERVER_MISSING[guard] in result.detail) == ("unknown", True)


def test_fp8_that_runs_weight_only_is_a_fallback():
    facts = ready("fp8")
    facts["quantization"] |= {"label": "W8A16", "kernel": "MarlinFP8LinearKernel"}
    assert troubled(guards.evaluate_server(facts)) == [("kernel_fallback", "warn")]


PAIR_FAULTS = [
    ("execution_mode", "ready_b.settings.enforce_eager", True),
    ("execution_mode", "ready_b.settings.cuda_graphs", "NONE"),
    ("kv_cache_dtype", "ready_b.settings.kv_cache_dtype", "fp8"),
    ("kv_cache_dtype", "contexts_b.server.after.cache_dtype", "fp8_e4m3"),
    ("dtype", "ready_b.settings.dtype", "float16"),
    ("max_model_len", "ready_b.settings.max_model_len", 32768),
    ("prefix_caching", "ready_b.settings.prefix_caching", True),
    ("attention_backend", "ready_b.settings.attention_backend", "FLASHINFER"),
    ("tokenizer", "ready_b.tokenizer.probe_sha256", "zz"),
    ("template_differs", "ready_b.tokenizer.chat_probe_sha256", "zz"),
    ("versions", "ready_b.versions.vllm", "0.33.0"),
    ("hardware", "ready_b.hardware.names", ["another GPU"]),
    ("hardware", "contexts_b.hardware.names", ["another GPU"]),
    ("prompt_length", "contexts_b.metrics.tokens_in", 4400),
    ("answer_length", "contexts_b.metrics.tokens_out", 4900),
    ("clocks_differ", "contexts_b.telemetry.sm_clock_mhz_mean", 1500.0),
    ("memory_breakdown", "ready_b.memory.weights_gib", 2.98),
]
PAIR_MISSING = {
    "execution_mode": "ready_b.settings.enforce_eager", "kv_cache_dtype": "ready_b.settings.kv_cache_dtype",
    "dtype": "ready_a.settings.dtype", "max_model_len": "ready_a.settings.max_model_len",
    "prefix_caching": "ready_a.settings.prefix_caching", "attention_backend": "ready_b.settings.attention_backend",
    "tokenizer": "ready_a.tokenizer.probe_sha256", "template_differs": "ready_a.tokenizer.chat_probe_sha256",
    "versions": "ready_b.versions.torch", "hardware": "ready_b.hardware.names",
    "prompt_length": "contexts_b.metrics.tokens_in", "answer_length": "contexts_a.metrics.tokens_out",
    "fingerprint_drift": "contexts_a.server.fingerprints", "server_changed": "contexts_a.server.process_start_time",
    "not_interleaved": "contexts_b", "drift": "contexts_a.metrics.throughput_tok_s",
    "clocks_differ": "contexts_a.telemetry.sm_clock_mhz_mean", "memory_breakdown": "ready_a.memory.weights_gib",
}  # fmt: skip


@pytest.mark.parametrize(("guard", "path", "value"), PAIR_FAULTS, ids=[f"{g}-{p}" for g, p, _ in PAIR_FAULTS])
def test_a_planted_fault_is_found_by_exactly_its_pair_guard(guard, path, value):
    facts = clean_pair()
    put(facts, path, value)
    assert troubled(guards.evaluate_pair(**facts)) == [(guard, SEVERITY[guard])]


@pytest.mark.parametrize("guard", [g.id for g in PAIR])
def test_a_pair_guard_without_its_fact_is_unknown(guard):
    facts = clean_pair()
    put(facts, PAIR_MISSING[guard], ... if PAIR_MISSING[guard] != "contexts_b" else [])
    result = next(r for r in guards.evaluate_pair(**facts) if r.id == guard)
    assert result.status == "unknown"


def test_one_block_from_another_server_is_found_in_the_pair():
    facts = clean_pair()
    put(facts["contexts_b"][2], "server.fingerprints", ["vllm-0.32.0-ffffffff"])
    assert troubled(guards.evaluate_pair(**facts)) == [("fingerprint_drift", "fail")]
    facts = clean_pair()
    put(facts["contexts_b"][2], "server.process_start_time", 700.0)
    assert troubled(guards.evaluate_pair(**facts)) == [("server_changed", "warn")]


def test_arm_by_arm_and_drift_are_found_in_the_times():
    facts = clean_pair()
    for n, block in enumerate(facts["contexts_b"]):
        block["started_unix"] = 5000.0 + 20 * n
    assert troubled(guards.evaluate_pair(**facts)) == [("not_interleaved", "warn")]
    facts = clean_pair()
    for n, block in enumerate(facts["contexts_a"]):
        block["metrics"]["throughput_tok_s"] = 256 * (1 + 0.01 * n)
    assert troubled(guards.evaluate_pair(**facts)) == [("drift", "warn")]


def test_a_comparison_is_refused_for_its_servers_too():
    facts = clean_pair()
    assert guards.comparison_failures(*facts.values()) == []
    facts["ready_b"]["quantization"]["verified"] = False
    facts["ready_b"]["settings"]["dtype"] = "float16"
    assert guards.comparison_failures(*facts.values()) == ["dtype", "not_quantized"]


def test_memory_that_did_not_come_back_fails_the_run():
    results = guards.evaluate_run({"bf16": {"memory_returned": True}, "w8": {"memory_returned": False}})
    assert [(r.id, r.status) for r in results] == [("memory_returned", "fail")]
    assert "w8" in results[0].detail
    assert [r.status for r in guards.evaluate_run({"bf16": {"memory_returned": None}})] == ["unknown"]


def test_every_guard_has_a_planted_fault_a_missing_fact_and_all_its_words():
    planted = {g for faults in (BLOCK_FAULTS, SERVER_FAULTS, PAIR_FAULTS) for g, _, _ in faults}
    planted |= {"fingerprint_drift", "server_changed", "not_interleaved", "drift", "memory_returned"}
    assert planted == {g.id for g in guards.GUARDS}
    assert {*BLOCK_MISSING, *SERVER_MISSING, *PAIR_MISSING, *(g.id for g in RUN)} == planted
    assert len({g.id for g in guards.GUARDS}) == len(guards.GUARDS)
    for guard in guards.GUARDS:
        assert all((guard.title, guard.meaning, guard.detection, guard.remedy))


@pytest.mark.parametrize("guard", guards.GUARDS, ids=lambda g: g.id)
def test_the_documentation_tells_each_guard_as_the_table_does(guard):
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{guard.id}` |")]
    assert lines == [
        f"| `{guard.id}` | {guard.severity} | {guard.meaning} | {guard.detection} | {guard.remedy} |",
    ]
