"""Pure: the blocks of one tuple become the row of its CSV.

Percentiles pool the requests of the valid blocks; their intervals come from the scatter between these blocks, as
requests of one block share its luck. `n`, `failures` and the adjusted percentiles (a failure counts as +inf) are over
all blocks: one failed request makes its block invalid, so over valid blocks there would be nothing to adjust.

Throughput is all their tokens over all their seconds, which is the token-weighted harmonic mean of the blocks': cost is
linear in seconds per token, so this is the mean that a bill follows. The scatter between blocks is `throughput_cv`. If
no block is valid, all are pooled and the row says valid = false. A row is valid only if every block is: leaving out
the blocks that failed and calling the rest sound would be survivorship bias.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from quantbench.client.metrics import block_metrics, missing_reasons, time_percentile
from quantbench.client.records import RequestRecord
from quantbench.judge.guards import energy_doubted
from quantbench.stats import MIN_PAIRS, PERCENTILE_NEEDS, ratio_from_logs, spread

Block = tuple[Sequence[RequestRecord], Mapping[str, Any]]

_COUNTERS = (
    *("prefix_cache_queries", "prefix_cache_hits", "preemptions", "generation_tokens", "prompt_tokens"),
    *("queue_time_sum_s", "requests_succeeded", "corrupted_requests", "spec_decode_drafts"),
)
_INTERVALS = tuple((q, time) for time in ("ttft", "e2e", "tpot") for q in (50, 95))
_ADJUSTED = tuple((q, time) for time in ("ttft", "e2e") for q in (50, 95))


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
    tails, notes = _tails(blocks, good, pooled)
    notes += [*_steady_notes(used, concurrency), *_energy_notes(used)]
    return {
        **{k: identity.get(k) for k in ("gpu_name", "model", "workload", "concurrency", "max_tokens")},
        **_headline(pooled, each, str(identity.get("style", "interactive"))),
        **_volume(blocks, good, pooled, each),
        **tails,
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
        "n": sum(len(records) for records, _ in blocks),
        "failures": sum(not r.ok for records, _ in blocks for r in records),
        "n_used": sum(r.ok for r in pooled),
        "blocks": len(good),
        "blocks_invalid": len(blocks) - len(good),
        "p50_tpot_ms": time_percentile(pooled, "tpot", 50).value,
        "p95_tpot_ms": time_percentile(pooled, "tpot", 95).value,
        "p50_chunk_gap_ms": time_percentile(pooled, "chunk_gap", 50).value,
        "request_rate_s": _quotient(ok, _sum(each, "duration_s")),
        "tokens_in": None if any(m["tokens_in"] is None for m in each) else _sum(each, "tokens_in"),
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


def _tails(
    blocks: Sequence[Block], good: Sequence[Block], pooled: Sequence[RequestRecord]
) -> tuple[dict[str, Any], list[str]]:
    """Confidence limits (95 %, over blocks), failure-adjusted percentiles, p99; and why some are empty."""
    everyone = [record for records, _ in blocks for record in records]
    row: dict[str, Any] = {}
    reasons: list[str | None] = []
    for q, time in _INTERVALS:
        pool = time_percentile(pooled, time, q)
        low, high, reason = _interval([records for records, _ in good], time, q)
        row |= {f"p{q}_{time}_ms_lo": low, f"p{q}_{time}_ms_hi": high}
        reasons.append(pool.reason if pool.value is None else reason)
    for q, time in _ADJUSTED:
        adjusted = time_percentile(everyone, time, q, adjusted=True)
        row[f"adj_p{q}_{time}_ms"] = adjusted.value
        reasons.append(adjusted.reason if adjusted.value is None else None)
    row |= {f"p99_{time}_ms": time_percentile(pooled, time, 99).value for time in ("ttft", "e2e")}
    return row, [reason for reason in reasons if reason]


def _interval(
    valid: Sequence[Sequence[RequestRecord]], time: str, q: int
) -> tuple[float | None, float | None, str | None]:
    """(low, high, reason) in ms: sectioning, the t interval of the blocks' own percentiles around the pooled one."""
    if len(valid) < MIN_PAIRS:
        return None, None, f"CI_NEEDS_{MIN_PAIRS}_BLOCKS"
    sections = [time_percentile(records, time, q).value for records in valid]
    pooled = time_percentile([record for records in valid for record in records], time, q).value
    if pooled is None or None in sections:
        return None, None, f"P{q}_CI_NEEDS_N{PERCENTILE_NEEDS[q]}_PER_BLOCK"
    if min(pooled, *(x for x in sections if x is not None)) <= 0:
        return None, None, "NOT_POSITIVE"
    centre = math.log(pooled)
    sd, df = spread([math.log(x) for x in sections if x is not None], None, centre)
    found = ratio_from_logs(centre, sd, len(sections), df=df)
    return found.low, found.high, found.reason


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
