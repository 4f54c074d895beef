"""The checks behind the guards of a comparison: do the two arms differ in the quantization only? Pure.

Roots of the facts: `a`, `b` (ready.json of baseline and variant), `blocks_a`, `blocks_b` (lists of block contexts).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from quantbench.judge.guard_facts import LIMITS, Facts, Finding, Missing, found
from quantbench.judge.pairing import interleaved
from quantbench.stats import drift

Json = Mapping[str, Any]


def _equal(*paths: str) -> Callable[[Facts], Finding]:
    """A check that facts are known and equal in both arms. One that differs decides, whether or not all are known."""

    def check(facts: Facts) -> Finding:
        pairs = [(path, facts.get(f"a.{path}"), facts.get(f"b.{path}")) for path in paths]
        unequal = [f"{path}: {x} against {y}" for path, x, y in pairs if None not in (x, y) and x != y]
        for path in () if unequal else paths:
            facts.need(f"a.{path}")
            facts.need(f"b.{path}")
        return found(bool(unequal), "; ".join(unequal) or ", ".join(f"{path}: {x}" for path, x, _ in pairs))

    return check


execution_mode = _equal("settings.enforce_eager", "settings.cuda_graphs")
dtype = _equal("settings.dtype")
max_model_len = _equal("settings.max_model_len")
prefix_caching = _equal("settings.prefix_caching")
attention_backend = _equal("settings.attention_backend")
tokenizer = _equal("tokenizer.probe_sha256")
template_differs = _equal("tokenizer.chat_probe_sha256")
versions = _equal("versions.vllm", "versions.torch")


def hardware(facts: Facts) -> Finding:
    """All servers and all blocks of both arms on devices of the same names."""
    seen: dict[str, str] = {}
    records = [("ready_a", facts.get("a") or {}), ("ready_b", facts.get("b") or {})]
    for arm in ("blocks_a", "blocks_b"):
        blocks: list[Json] = facts.get(arm) or []
        records += [(f"{_name(_cell(c))} block {c.get('block')} of {c.get('model')}", c) for c in blocks]
    for where, record in records:
        names = (record.get("hardware") or {}).get("names")
        if names:
            seen.setdefault(", ".join(names), where)
    if len(seen) < 2:  # two names decide, whether or not all are known
        facts.need("a.hardware.names")
        facts.need("b.hardware.names")
    return found(len(seen) > 1, "; ".join(f"{names} ({where})" for names, where in seen.items()))


def _blocks(facts: Facts) -> tuple[list[Json], list[Json]]:
    a, b = facts.need("blocks_a"), facts.need("blocks_b")
    if not a or not b:
        raise Missing("blocks of both arms are not known")
    return a, b


def _cell(context: Json) -> tuple[Any, ...]:
    return context["workload"], context["concurrency"], context["max_tokens"]


def _by_cell(contexts: list[Json]) -> dict[tuple[Any, ...], list[Json]]:
    groups: dict[tuple[Any, ...], list[Json]] = defaultdict(list)
    for context in contexts:
        groups[_cell(context)].append(context)
    return groups


def _name(cell: tuple[Any, ...]) -> str:
    return f"{cell[0]}/c{cell[1]}_t{cell[2]}"


def _per_request(contexts: list[Json], name: str) -> float:
    """Mean tokens per successful request. Raises Missing."""
    tokens = [c["metrics"].get(name) for c in contexts]
    answered = sum((c["metrics"].get("n") or 0) - (c["metrics"].get("failures") or 0) for c in contexts)
    if any(t is None for t in tokens) or answered <= 0:
        raise Missing(f"metrics.{name} is not known for every block")
    return float(sum(tokens)) / answered


def _lengths(facts: Facts, name: str, most: float) -> Finding:
    a, b = (_by_cell(contexts) for contexts in _blocks(facts))
    worst, text = 0.0, "no cell in common"
    for cell in a.keys() & b.keys():
        x, y = _per_request(a[cell], name), _per_request(b[cell], name)
        off = abs(x - y) / max(x, y, 1e-9)
        if off >= worst:
            worst, text = off, f"{_name(cell)}: {x:.1f} against {y:.1f} {name} per request"
    return found(worst > most, text)


def kv_cache_dtype(facts: Facts) -> Finding:
    a, b = facts.need("a.settings.kv_cache_dtype"), facts.need("b.settings.kv_cache_dtype")
    # "auto" may still mean two things: what the running engines say of their cache decides
    pages = [[c["server"].get("after") or {} for c in arm] for arm in _blocks(facts)]
    seen = [{str(page["cache_dtype"]) for page in arm if page.get("cache_dtype")} for arm in pages]
    text = f"{a} against {b}" + (f", engines say {sorted(seen[0])} and {sorted(seen[1])}" if all(seen) else "")
    return found(a != b or (all(seen) and seen[0] != seen[1]), text)


def prompt_length(facts: Facts) -> Finding:
    return _lengths(facts, "tokens_in", LIMITS["prompt_length_share"])


def answer_length(facts: Facts) -> Finding:
    return _lengths(facts, "tokens_out", LIMITS["answer_length_share"])


def fingerprint_drift(facts: Facts) -> Finding:
    arms = _blocks(facts)
    weights = [sorted({c["server"]["source_id"] for c in arm if c["server"].get("source_id")}) for arm in arms]
    if any(len(ids) > 1 for ids in weights):
        return found(True, f"blocks with different model files: {' against '.join(map(', '.join, weights))}")
    seen = [{f for c in arm for f in c["server"].get("fingerprints") or []} for arm in arms]
    if not all(seen):
        raise Missing("server.fingerprints are not known for both arms")
    return found(any(len(s) > 1 for s in seen), " against ".join(", ".join(sorted(s)) for s in seen))


def server_changed(facts: Facts) -> Finding:
    starts = [{c["server"].get("process_start_time") for c in arm} for arm in _blocks(facts)]
    if any(None in s for s in starts):
        raise Missing("server.process_start_time is not known for every block")
    return found(any(len(s) > 1 for s in starts), f"{len(starts[0])} and {len(starts[1])} starts of the servers")


def not_interleaved(facts: Facts) -> Finding:
    a, b = (_by_cell(contexts) for contexts in _blocks(facts))
    apart, judged = [], 0
    for cell in a.keys() & b.keys():
        x, y = ({c["block"]: c["started_unix"] for c in arm[cell]} for arm in (a, b))
        both = sorted(x.keys() & y.keys())
        if len(both) > 1:
            judged += 1
            apart += [] if interleaved([x[n] for n in both], [y[n] for n in both]) else [_name(cell)]
    if not judged:
        raise Missing("no cell has two pairs of blocks, so no order can be seen")
    return found(bool(apart), f"arm by arm in {', '.join(sorted(apart))}" if apart else "side by side in all cells")


def baseline_drift(facts: Facts) -> Finding:
    trends = []
    for cell, contexts in _by_cell(_blocks(facts)[0]).items():
        told = [c for c in contexts if c["metrics"].get("throughput_tok_s")]
        trend = drift([c["started_unix"] for c in told], [c["metrics"]["throughput_tok_s"] for c in told])
        if trend.p_value is not None and trend.percent is not None:
            trends.append((_name(cell), trend.percent, trend.p_value))
    if not trends:
        raise Missing("no cell has 5 blocks of the baseline, so no trend can be tested")
    flagged = [t for t in trends if abs(t[1]) > LIMITS["drift_pct"] and t[2] < 0.05]
    worst = max(flagged or trends, key=lambda t: abs(t[1]))
    return found(bool(flagged), f"{worst[0]}: {worst[1]:+.1f} % over the session (p = {worst[2]:.3f})")


def clocks_differ(facts: Facts) -> Finding:
    means = []
    for arm in _blocks(facts):
        told = [(c.get("telemetry") or {}).get("sm_clock_mhz_mean") for c in arm]
        clocks = [float(clock) for clock in told if clock is not None]
        if len(clocks) < len(told):
            raise Missing("telemetry.sm_clock_mhz_mean is not known for every block")
        means.append(sum(clocks) / len(clocks))
    off = abs(means[0] - means[1]) / max(means)
    return found(off > LIMITS["clock_share"], f"mean SM clock {means[0]:.0f} against {means[1]:.0f} MHz")


def memory_breakdown(facts: Facts) -> Finding:
    base, variant = facts.need("a.memory.weights_gib"), facts.need("b.memory.weights_gib")
    caches = facts.need("a.memory.kv_cache_gib"), facts.need("b.memory.kv_cache_gib")
    same_model = facts.get("b.quantization.claimed") == facts.get("a.quantization.claimed")
    text = f"weights {base:.2f} against {variant:.2f} GiB, KV cache {caches[0]:.2f} against {caches[1]:.2f} GiB"
    return found(variant > 0.95 * base and not same_model, text)
