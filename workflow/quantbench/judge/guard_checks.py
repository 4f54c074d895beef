"""The checks behind the guards of one block and of one server: facts → finding. Pure.

Roots of the facts: `context` (b{n}.json), `ready` (ready.json), `calibration`, `config`. See guard_table for what
each one means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantbench.judge.guard_facts import LIMITS, Facts, Finding, Missing, found, good

_THERMAL = ("thermal", "hwslowdown", "powerbrake")
_POWER_CAP = ("powercap",)
_FALLBACKS = ("unquantized", "emulat", "dequant", "fallback", "reference", "naive")
HELD = "concurrency_held"
PLAIN = ("", "none", "bf16", "bfloat16", "fp16", "float16")


def _delta(facts: Facts, name: str) -> float:
    """A server counter's difference over the block. Raises Missing; a restart has no differences."""
    if facts.get("context.server.delta.restarted"):
        raise Missing(f"context.server.delta.{name} is not known (the server restarted)")
    return float(facts.need(f"context.server.delta.{name}"))


def _incidents(facts: Facts, *kinds: str) -> list[str]:
    """Log lines of the block with one of these incident ids."""
    return [str(i["line"]) for i in facts.need("context.server.incidents") if i["id"] in kinds]


def _answered(facts: Facts) -> float:
    return float(facts.need("context.metrics.n")) - float(facts.need("context.metrics.failures"))


def failed_requests(facts: Facts) -> Finding:
    failures, n = facts.need("context.metrics.failures"), facts.need("context.metrics.n")
    why = ", ".join(f"{reason}: {count}" for reason, count in (facts.get("context.failure_reasons") or {}).items())
    return found(failures > 0 or n == 0, f"{failures} of {n} requests failed" + (f" ({why})" if why else ""))


def resent_requests(facts: Facts) -> Finding:
    resent, n = facts.need("context.client.resent"), facts.need("context.metrics.n")
    return found(resent > LIMITS["resent_share"] * n, f"{resent} of {n} requests were sent a second time")


def short_block(facts: Facts) -> Finding:
    seconds, n = facts.need("context.metrics.duration_s"), facts.need("context.metrics.n")
    slots = facts.need("context.concurrency")
    least_s = facts.get("config.min_seconds") or LIMITS["min_block_s"]
    bad = seconds < 0.99 * least_s or n < LIMITS["requests_per_slot"] * slots
    return found(bad, f"{seconds:.1f} s (at least {least_s:g}), {n} requests for {slots} slots")


def concurrency_not_held(facts: Facts) -> Finding:
    # without a steady window the share is over the whole block, ramp and drain included
    steady = facts.get("context.metrics.steady_s") is not None
    held, least = facts.need("context.client.concurrency_held"), LIMITS[HELD if steady else f"{HELD}_short"]
    over = "the steady window" if steady else "the whole block (no steady window)"
    return found(held < least, f"{held:.1%} of the asked concurrency was in flight over {over} (at least {least:.0%})")


def ramp_share(facts: Facts) -> Finding:
    metrics, least = facts.need("context.metrics"), LIMITS["steady_share"]
    if "steady_s" in metrics and metrics["steady_s"] is None:
        return found(True, "no steady window: ramp and drain only")
    steady = facts.need("context.metrics.steady_s") / facts.need("context.metrics.duration_s")
    return found(steady < least, f"the steady window is {steady:.0%} of the block (at least {least:.0%})")


def output_length(facts: Facts) -> Finding:
    if facts.get("config.ignore_eos") is False:
        return good("answers end by themselves, as configured (ignore_eos: false)")
    expected = _answered(facts) * facts.need("context.max_tokens")
    tokens = facts.need("context.metrics.tokens_out")
    # An answer of another length is a failed request, and tokens_out are those of the others.
    wrong = (facts.get("context.failure_reasons") or {}).get("token_count", 0)
    text = f"{tokens} output tokens, {expected:.0f} expected; {wrong} answers of another length"
    return found(tokens != expected or wrong > 0, text)


def prefix_cache(facts: Facts) -> Finding:
    hits, most = _delta(facts, "prefix_cache_hits"), LIMITS["prefix_cache_hit_share"]
    queries = facts.get("context.server.delta.prefix_cache_queries") or 0
    share = hits / queries if queries else float(hits > 0)
    return found(share > most, f"{hits:.0f} of {queries:.0f} prompt tokens came from the prefix cache")


def jit_compilation(facts: Facts) -> Finding:
    lines = _incidents(facts, "jit", "graph_capture")
    if not lines:
        facts.need("ready.settings.jit_monitor")  # a silent log proves something only where vLLM would have spoken
    return found(bool(lines), lines[0] if lines else "no compilation in the log of the block")


def nan_logits(facts: Facts) -> Finding:
    lines = _incidents(facts, "nan")
    corrupted = facts.get("context.server.delta.corrupted_requests")
    if lines or corrupted:
        return found(True, lines[0] if lines else f"{corrupted} corrupted requests")
    if corrupted is None:
        facts.need("ready.logits.finite")
    seen = facts.get("ready.logits.seen") or "not asked"
    return found(facts.get("ready.logits.finite") is False, f"at the server's start: {seen}")


def server_error(facts: Facts) -> Finding:
    lines = _incidents(facts, "error", "oom", "engine_dead")
    return found(bool(lines), lines[0] if lines else "no error in the log of the block")


def server_restart(facts: Facts) -> Finding:
    delta = facts.need("context.server.delta")
    fallen = [name for name, value in delta.items() if isinstance(value, int | float) and value < 0]
    if delta.get("restarted") or fallen:
        return found(True, f"counters went down ({', '.join(fallen)})" if fallen else "the server restarted")
    start = facts.need("context.server.process_start_time")
    before, after = (facts.get(f"context.server.{when}.process_start_time") for when in ("before", "after"))
    other = [t for t in (before, after) if t is not None and t != start]
    return found(bool(other), f"process start time {other[0] if other else start}, block measured {start}")


def config_drift(facts: Facts) -> Finding:
    prints = facts.need("context.server.fingerprints")
    if not prints:
        raise Missing("context.server.fingerprints is empty")
    expected = facts.need("ready.system_fingerprint")
    return found(set(prints) != {expected}, f"replies carry {', '.join(prints)}; the server started as {expected}")


def token_count(facts: Facts) -> Finding:
    server, client = _delta(facts, "generation_tokens"), facts.need("context.metrics.tokens_out")
    off = abs(server - client) / max(client, 1)
    text = f"the server generated {server:.0f} tokens, the client received {client}"
    return found(off > LIMITS["token_count_share"], text)


def preemption(facts: Facts) -> Finding:
    count = _delta(facts, "preemptions")
    return found(count > 0, f"{count:.0f} preemptions")


def queueing(facts: Facts) -> Finding:
    count, total = _delta(facts, "queue_time_count"), _delta(facts, "queue_time_sum_s")
    mean_ms = 1000 * total / count if count else 0.0
    ttft, share = facts.need("context.metrics.p50_ttft_ms"), LIMITS["queue_share"]
    waiting = facts.get("context.server.peak.waiting")
    text = f"mean queue time {mean_ms:.1f} ms, p50 TTFT {ttft:.1f} ms, at most {waiting} requests waiting"
    return found(mean_ms > share * ttft, text)


def speculative(facts: Facts) -> Finding:
    drafts = facts.get("context.server.delta.spec_decode_drafts") or 0
    asked = facts.need("ready.settings.speculative")
    return found(bool(asked) or drafts > 0, f"speculative decoding {'on' if asked else 'off'}, {drafts} drafts")


def _throttled(facts: Facts, words: tuple[str, ...]) -> Finding:
    reasons = [str(r) for r in facts.need("context.telemetry.throttle_reasons")]
    hit = [r for r in reasons if any(w in r.lower().replace("_", "").replace(" ", "") for w in words)]
    return found(bool(hit), f"clock-event reasons: {', '.join(reasons) or 'none'}")


def thermal_throttling(facts: Facts) -> Finding:
    return _throttled(facts, _THERMAL)


def power_cap(facts: Facts) -> Finding:
    return _throttled(facts, _POWER_CAP)


def foreign_process(facts: Facts) -> Finding:
    others = facts.need("context.telemetry.foreign_processes")
    text = ", ".join(f"{p.get('name', '?')} (pid {p.get('pid', '?')}, {p.get('mib', '?')} MiB)" for p in others)
    return found(bool(others), text or "none on the card")


def energy_mismatch(facts: Facts) -> Finding:
    counter = facts.need("context.telemetry.energy_j")
    power = facts.need("context.telemetry.energy_from_power_j")
    off = abs(counter - power) / counter if counter else 1.0
    text = f"energy counter {counter:.0f} J, mean power × time {power:.0f} J"
    return found(off > LIMITS["energy_share"], text)


def client_cpu(facts: Facts) -> Finding:
    share, most = facts.need("context.client.cpu_share"), LIMITS["client_cpu_share"]
    return found(share >= most, f"the client used {share:.0%} of a core (limit {most:.0%})")


def client_loop_lag(facts: Facts) -> Finding:
    lag, ttft = facts.need("context.client.loop_lag_p50_ms"), facts.need("context.metrics.p50_ttft_ms")
    most = max(LIMITS["loop_lag_p50_ms"], LIMITS["loop_lag_p50_share"] * ttft)
    return found(lag > most, f"median loop lag {lag:.2f} ms (limit {most:.1f} ms)")


def client_loop_lag_tail(facts: Facts) -> Finding:
    lag, most = facts.need("context.client.loop_lag_p99_ms"), LIMITS["loop_lag_p99_ms"]
    return found(lag > most, f"p99 loop lag {lag:.1f} ms (limit {most:g} ms)")


def client_limit(facts: Facts) -> Finding:
    limit, rate = facts.need("calibration.limit_tok_s"), facts.need("context.metrics.throughput_tok_s")
    share = LIMITS["client_limit_share"]
    text = f"{rate:.0f} tok/s measured, the client alone reaches {limit:.0f}"
    return found(rate > share * limit, text)


def client_error(facts: Facts) -> Finding:
    error, ttft = facts.need("calibration.ttft_error_p50_ms"), facts.need("context.metrics.p50_ttft_ms")
    bad = abs(error) > LIMITS["client_error_share"] * ttft
    return found(bad, f"the client's own TTFT error is {error:.2f} ms, p50 TTFT {ttft:.1f} ms")


def coalesced_reads(facts: Facts) -> Finding:
    share, most = facts.need("context.client.coalesced_share"), LIMITS["coalesced_share"]
    return found(share > most, f"{share:.0%} of the reads brought several messages")


def merged_chunks(facts: Facts) -> Finding:
    tokens, chunks = facts.need("context.metrics.tokens_out"), facts.need("context.metrics.chunks")
    if not tokens:
        raise Missing("context.metrics.tokens_out is 0: nothing came in chunks")
    per, most = (tokens / chunks if chunks else float("inf")), LIMITS["tokens_per_chunk"]
    return found(per > most, f"{tokens} tokens in {chunks} chunks")


def not_quantized(facts: Facts) -> Finding:
    verified, claimed = facts.need("ready.quantization.verified"), facts.get("ready.quantization.claimed")
    evidence = facts.get("ready.quantization.evidence") or []
    return found(verified is not True, f"claimed {claimed}; {' '.join(map(str, evidence)) or 'no evidence recorded'}")


def kernel_fallback(facts: Facts) -> Finding:
    claimed = str(facts.need("ready.quantization.claimed"))
    if claimed.lower() in PLAIN:
        return good("not quantized, so no quantized kernel is expected")
    kernel, label = str(facts.need("ready.quantization.kernel")), str(facts.get("ready.quantization.label") or "")
    weight_only = "fp8" in claimed.lower() and label.upper().endswith("A16")
    bad = weight_only or any(word in kernel.lower() for word in _FALLBACKS)
    return found(bad, f"claimed {claimed}, runs as {label or 'unknown'} with {kernel}")


def chat_template(facts: Facts) -> Finding:
    count = facts.need("ready.tokenizer.chat_bos_count")
    chat, plain = facts.need("ready.tokenizer.chat_probe_sha256"), facts.need("ready.tokenizer.chat_is_plain")
    served = facts.get("ready.tokenizer.chat_served_sha256")
    if count > 1:
        return found(True, f"a chat prompt begins with {count} begin-of-text tokens: a template was applied twice")
    if plain:
        return found(True, "a chat prompt has the ids of the plain text: no template was applied")
    if served is not None and served != chat:
        return found(True, "the ids that the server used for a chat differ from those of its template")
    return good(f"{count} begin-of-text tokens, ids differ from the plain text's")


def sampling_defaults(facts: Facts) -> Finding:
    overridden = facts.need("ready.settings.sampling_defaults_overridden")
    return found(bool(overridden), "the repository's generation_config is in force" if overridden else "vLLM's own")


def memory_returned(facts: Facts) -> Finding:
    sessions: Mapping[str, Any] = facts.need("sessions")
    if not sessions:
        raise Missing("sessions are not known")
    untold = [m for m, s in sessions.items() if s.get("memory_returned") is None]
    kept = [m for m, s in sessions.items() if s.get("memory_returned") is False]
    if untold and not kept:
        raise Missing(f"memory_returned is not known for {', '.join(untold)}")
    return found(bool(kept), f"memory not returned by {', '.join(kept)}" if kept else "all memory came back")
