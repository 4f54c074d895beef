"""Pure: the blocks of one tuple become the row of its CSV.

Percentiles pool the requests of the valid blocks. Throughput is all their tokens over all their seconds, which is the
token-weighted harmonic mean of the blocks': cost is linear in seconds per token, so this is the mean that a bill
follows. The scatter between blocks is `throughput_cv`. If no block is valid, all are pooled and the row says
valid = false. A row is valid only if every block is: leaving out the blocks that failed and calling the rest
sound would be survivorship bias.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from quantbench.client.metrics import block_metrics, missing_reasons, time_percentile
from quantbench.client.records import RequestRecord
from quantbench.judge.guards import energy_doubted

Block = tuple[Sequence[RequestRecord], Mapping[str, Any]]

_COUNTERS = (
    *("prefix_cache_queries", "prefix_cache_hits", "preemptions", "generation_tokens", "prompt_tokens"),
    *("queue_time_sum_s", "requests_succeeded", "corrupted_requests", "spec_decode_drafts"),
)
_INTERVALS = tuple((q, time) for time in ("ttft", "e2e") for q in (50, 95))


def tuple_row(
    identity: Mapping[str, Any], blocks: Sequence[Block], calibration: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The one row of a tuple CSV, columns in order.

    identity: gpu_name, model, workload, concurrency, max_tokens, and style ("batch" adds latency columns).
    blocks: (records, context) each; a context's `valid` and `reasons` are honoured, its absence means valid.
    calibration: what `calibration.calibrate` returned at this concurrency.
    """
    good = [block for block in blocks if block[1].get("valid", True)]
    used = good or list(blocks)
    pooled = [record for records, _ in used for record in records]
    concurrency = int(identity["concurrency"])
    each = [block_metrics(records, concurrency, energy_j=_energy_j(context)) for records, context in used]
    notes = list(dict.fromkeys(_percentile_notes(pooled) + _steady_notes(used, concurrency) + _energy_notes(used)))
    return {
        **{k: identity.get(k) for k in ("gpu_name", "model", "workload", "concurrency", "max_tokens")},
        **_headline(pooled, each, str(identity.get("style", "interactive"))),
        **_volume(blocks, good, pooled, each),
        **_tails(pooled),
        **_client(used, calibration or {}),
        **_server(used),
        "valid": bool(blocks) and len(good) == len(blocks),
        "reasons": ";".join(dict.fromkeys([*_block_reasons(blocks), *notes])),
        "failure_reasons": ";".join(f"{reason}:{count}" for reason, count in _failures(blocks)),
    }


def _headline(pooled: Sequence[RequestRecord], each: Sequence[Mapping[str, Any]], style: str) -> dict[str, Any]:
    """The specification's columns, under its names."""
    row = {f"p{q}_{time}_ms": time_percentile(pooled, time, q).value for time in ("ttft", "e2e") for q in (50, 95)}
    row["throughput_tok_s"] = _over(each, "tokens_out", "duration_s")
    if style == "batch":
        row |= {"p50_latency_ms": row["p50_e2e_ms"], "p95_latency_ms": row["p95_e2e_ms"]}
    return row


def _volume(
    blocks: Sequence[Block],
    good: Sequence[Block],
    pooled: Sequence[RequestRecord],
    each: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """How much was measured, and rates."""
    rates = [m["throughput_tok_s"] for m in each if m["throughput_tok_s"]]
    steady = [m for m in each if m["steady_s"]]
    steady_tokens = sum(m["throughput_steady_tok_s"] * m["steady_s"] for m in steady)
    ok = sum(m["n"] - m["failures"] for m in each)
    return {
        "n": len(pooled),
        "failures": sum(not r.ok for records, _ in blocks for r in records),
        "blocks": len(good),
        "blocks_invalid": len(blocks) - len(good),
        "p50_tpot_ms": time_percentile(pooled, "tpot", 50).value,
        "p95_tpot_ms": time_percentile(pooled, "tpot", 95).value,
        "p50_chunk_gap_ms": time_percentile(pooled, "chunk_gap", 50).value,
        "request_rate_s": _quotient(ok, _sum(each, "duration_s")),
        "tokens_in": _sum(each, "tokens_in"),
        "tokens_out": _sum(each, "tokens_out"),
        "chunks": _sum(each, "chunks"),
        "duration_s": _sum(each, "duration_s"),
        "throughput_steady_tok_s": _quotient(steady_tokens, _sum(steady, "steady_s")),
        "steady_s": _sum(steady, "steady_s"),
        "throughput_cv": stdev(rates) / fmean(rates) if len(rates) > 1 else None,
        "j_per_token": _energy(each),
    }


def _energy(each: Sequence[Mapping[str, Any]]) -> float | None:
    """Energy over tokens of all blocks; None unless every block has it."""
    if not each or any(m["j_per_token"] is None for m in each):
        return None
    return _quotient(sum(m["j_per_token"] * m["tokens_out"] for m in each), _sum(each, "tokens_out"))


def _energy_j(context: Mapping[str, Any]) -> float | None:
    """A block's energy in J; None where it is not known or not to be trusted."""
    return None if energy_doubted(context) else _dig(context, "telemetry", "energy_j")


def _tails(pooled: Sequence[RequestRecord]) -> dict[str, Any]:
    """Confidence limits (95 %, order statistics), failure-adjusted percentiles, p99."""
    row: dict[str, Any] = {}
    for q, time in _INTERVALS:
        found = time_percentile(pooled, time, q)
        row |= {f"p{q}_{time}_ms_lo": found.low, f"p{q}_{time}_ms_hi": found.high}
    for q, time in _INTERVALS:
        row[f"adj_p{q}_{time}_ms"] = time_percentile(pooled, time, q, adjusted=True).value
    return row | {f"p99_{time}_ms": time_percentile(pooled, time, 99).value for time in ("ttft", "e2e")}


def _client(used: Sequence[Block], calibration: Mapping[str, Any]) -> dict[str, Any]:
    """The client's own error and load: its worst block counts."""

    def worst(name: str, pick: Any = max) -> Any:
        values = [v for _, context in used if (v := _dig(context, "client", name)) is not None]
        return pick(values) if values else None

    parts = Counter(_dig(context, "bottleneck", "part") or "unknown" for _, context in used)
    return {
        "client_ttft_error_ms": calibration.get("ttft_error_p50_ms"),
        "client_e2e_error_ms": calibration.get("e2e_error_p50_ms"),
        "client_limit_tok_s": calibration.get("limit_tok_s"),
        "client_cpu_share": worst("cpu_share"),
        "client_loop_lag_p99_ms": worst("loop_lag_p99_ms"),
        "client_coalesced_share": worst("coalesced_share"),
        "client_concurrency_held": worst("concurrency_held", min),
        "bottleneck": parts.most_common(1)[0][0] if parts else "unknown",
    }


def _server(used: Sequence[Block]) -> dict[str, Any]:
    """The server's counters over the blocks; None unless every block has one."""
    row: dict[str, Any] = {}
    for name in _COUNTERS:
        values = [_dig(context, "server", "delta", name) for _, context in used]
        row[f"server_{name}"] = sum(values) if values and None not in values else None
    return row


def _percentile_notes(pooled: Sequence[RequestRecord]) -> list[str]:
    """Why a percentile is empty."""
    found = [time_percentile(pooled, t, q, adjusted=a) for q, t in _INTERVALS for a in (False, True)]
    return [p.reason for p in found if p.reason]


def _steady_notes(used: Iterable[Block], concurrency: int) -> list[str]:
    """STEADY_TOO_SHORT if a block had no steady window."""
    short = any("STEADY_TOO_SHORT" in missing_reasons(records, concurrency) for records, _ in used)
    return ["STEADY_TOO_SHORT"] if short else []


def _energy_notes(used: Iterable[Block]) -> list[str]:
    """The guard's id if a block's energy is not to be trusted, so that j_per_token is empty."""
    return ["energy_mismatch"] if any(energy_doubted(context) for _, context in used) else []


def _block_reasons(blocks: Iterable[Block]) -> list[str]:
    return [str(reason) for _, context in blocks for reason in context.get("reasons") or ()]


def _failures(blocks: Iterable[Block]) -> list[tuple[str, int]]:
    """Reason codes of failed requests, the most frequent first."""
    return Counter(r.reason or "unknown" for records, _ in blocks for r in records if not r.ok).most_common()


def _dig(tree: Mapping[str, Any], *path: str) -> Any:
    """A value down a path of keys, or None."""
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _sum(each: Iterable[Mapping[str, Any]], name: str) -> Any:
    return sum(m[name] or 0 for m in each)


def _over(each: Sequence[Mapping[str, Any]], numerator: str, denominator: str) -> float | None:
    return _quotient(_sum(each, numerator), _sum(each, denominator))


def _quotient(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
