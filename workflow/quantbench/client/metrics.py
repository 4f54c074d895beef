"""Pure: the definition of every metric of a block, in one table, and their computation from request records.

Symbols, per request: sent = stamp right before the request is written to the socket; first, last = arrival of the
first and last read that brought output tokens; end = the end of the HTTP reply; tokens = completion_tokens of
the server's usage; first_tokens = tokens that had arrived by `first`. Only requests that are `ok` enter
percentiles and token sums; failures are counted, and enter the adjusted percentiles as +inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quantbench.client.concurrency import Window, spans, steady_window
from quantbench.client.records import RequestRecord
from quantbench.stats import Percentile, percentile

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a column means: unit, formula, and which direction is better."""

    name: str
    unit: str
    better: Better
    formula: str


_TTFT = "TTFT = first - sent"
_E2E = "E2E = last - sent (the last token, not the closing of the stream; so E2E = TTFT + decode time)"
_TPOT = (
    "TPOT = (last - first) / (tokens - first_tokens): the tokens that came in (first, last], over that time; "
    "dividing by tokens - 1 would be wrong when the first read brings more than one token"
)
_GAP = "chunk gap = (last - first) / (chunks - 1), one mean per request, as several chunks can share a read"
_MOST = "; null if fewer than 90 % of the ok requests have one, as a minority is not the block"
_ADJUSTED = "; a failed request counts as +inf, and a percentile that falls on one is null"


def _both(label: str, unit: str, formula: str, percents: tuple[int, ...] = (50, 95)) -> list[Metric]:
    return [Metric(f"p{q}_{label}_{unit}", unit, "lower", f"p{q} over requests of {formula}") for q in percents]


METRICS: tuple[Metric, ...] = (
    Metric("n", "requests", "neither", "all requests of the block, failed ones included"),
    Metric("failures", "requests", "lower", "requests that are not ok"),
    Metric("tokens_in", "tokens", "neither", "sum of usage.prompt_tokens over ok requests; null unless each has it"),
    Metric("tokens_out", "tokens", "neither", "sum of usage.completion_tokens over ok requests"),
    Metric("chunks", "chunks", "neither", "stream messages that carried tokens, over ok requests"),
    Metric("duration_s", "s", "neither", "max(end) - min(sent) over all requests"),
    Metric("throughput_tok_s", "tok/s", "higher", "tokens_out / duration_s: ramp and drain included"),
    Metric(
        "throughput_steady_tok_s",
        "tok/s",
        "higher",
        "output tokens that arrived in the steady window / steady_s; tokens between first and last are spread evenly",
    ),
    Metric(
        "steady_s",
        "s",
        "neither",
        "length of the steady window: first to last moment with >= 95 % of the asked concurrency in flight",
    ),
    Metric("request_rate_s", "requests/s", "higher", "ok requests / duration_s"),
    *_both("ttft", "ms", _TTFT),
    *_both("e2e", "ms", _E2E),
    *_both("tpot", "ms", _TPOT + _MOST),
    *_both("chunk_gap", "ms", _GAP + _MOST, (50,)),
    *(
        Metric(f"adj_p{q}_{label}_ms", "ms", "lower", f"p{q} over requests of {formula}{_ADJUSTED}")
        for label, formula in (("ttft", _TTFT), ("e2e", _E2E))
        for q in (50, 95)
    ),
    Metric("j_per_token", "J/token", "lower", "energy of the GPUs during the block / tokens_out"),
)
NAMES: tuple[str, ...] = tuple(metric.name for metric in METRICS)


def ttft_ms(record: RequestRecord) -> float | None:
    """Time to first token in ms; None without tokens."""
    return _ms(record.sent_ns, record.first_ns)


def e2e_ms(record: RequestRecord) -> float | None:
    """Time from sending to the last token in ms; None without tokens."""
    return _ms(record.sent_ns, record.last_ns)


def tpot_ms(record: RequestRecord) -> float | None:
    """Time per output token after the first read in ms; None if all tokens came in one read."""
    later = (record.completion_tokens or 0) - record.first_chunk_tokens
    span = _ms(record.first_ns, record.last_ns)
    return span / later if span and later > 0 else None


def chunk_gap_ms(record: RequestRecord) -> float | None:
    """Mean time between token-carrying messages in ms; None below two of them, or if all came in one read."""
    span = _ms(record.first_ns, record.last_ns)
    return span / (record.chunks - 1) if span and record.chunks > 1 else None


def _ms(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else (end - start) / 1e6


TIMES: dict[str, Callable[[RequestRecord], float | None]] = {
    "ttft": ttft_ms,
    "e2e": e2e_ms,
    "tpot": tpot_ms,
    "chunk_gap": chunk_gap_ms,
}


DEFINED_SHARE = 0.9
"""Of the ok requests: a time that fewer of them have (TPOT, where most replies come in one read) has no percentile."""


def time_percentile(records: Sequence[RequestRecord], time: str, q: int, *, adjusted: bool = False) -> Percentile:
    """The q-th percentile (with order-statistic CI) of "ttft", "e2e", "tpot" or "chunk_gap", in ms.

    `adjusted`: failures count as +inf. Its `reason` says why a value is None.
    """
    of = TIMES[time]
    answered = [r for r in records if r.ok]
    values = [value for r in answered if (value := of(r)) is not None]
    if len(values) < DEFINED_SHARE * len(answered):
        return Percentile(None, None, None, len(values), f"{time.upper()}_OF_TOO_FEW")
    if adjusted:
        values += [math.inf] * sum(not r.ok for r in records)
    result = percentile(values, q)
    if result.value is None and result.reason == "FALLS_ON_FAILURE":
        return Percentile(None, None, None, result.n, f"FAILURES_AT_P{q}")
    return result


def tokens_within(record: RequestRecord, window: Window) -> float:
    """Output tokens of one request that arrived in the window.

    Those of the first read arrived at `first`; the others are spread evenly over (first, last].
    """
    first, last, tokens = record.first_ns, record.last_ns, record.completion_tokens or 0
    if first is None or last is None:
        return 0.0
    at_first = min(record.first_chunk_tokens, tokens) if last > first else tokens
    credited = float(at_first) if window.start <= first <= window.end else 0.0
    if last > first:
        overlap = min(last, window.end) - max(first, window.start)
        credited += (tokens - at_first) * max(0, overlap) / (last - first)
    return credited


def block_metrics(
    records: Sequence[RequestRecord], concurrency: int, *, energy_j: float | None = None
) -> dict[str, Any]:
    """All metrics of one block, by the names of `METRICS`; what the data cannot support is None."""
    ok = [r for r in records if r.ok]
    sent_end = spans(records)
    duration = (max(e for _, e in sent_end) - min(s for s, _ in sent_end)) / 1e9 if sent_end else None
    tokens_out = sum(r.completion_tokens or 0 for r in ok)
    window = steady_window(sent_end, concurrency)
    steady_s = (window.end - window.start) / 1e9 if window else None
    prompts = [r.prompt_tokens for r in ok]
    values: dict[str, Any] = {
        "n": len(records),
        "failures": len(records) - len(ok),
        "tokens_in": None if None in prompts else sum(p or 0 for p in prompts),
        "tokens_out": tokens_out,
        "chunks": sum(r.chunks for r in ok),
        "duration_s": duration,
        "throughput_tok_s": _ratio(tokens_out, duration),
        "throughput_steady_tok_s": (_ratio(sum(tokens_within(r, window) for r in ok), steady_s) if window else None),
        "steady_s": steady_s,
        "request_rate_s": _ratio(len(ok), duration),
        "j_per_token": _ratio(energy_j, tokens_out),
    }
    for name in NAMES:
        if name not in values:
            values[name] = _percentile_by_name(records, name).value
    return {name: values[name] for name in NAMES}


def percentile_table(records: Sequence[RequestRecord]) -> dict[str, dict[str, Any]]:
    """{"p50_ttft_ms": {value, low, high, n, reason}, …} of one block: TTFT, E2E and TPOT, p50 and p95, in ms.

    low, high: the 95 % order-statistic CI, over the requests of this block. n: the requests that have the time.
    """
    return {
        f"p{q}_{time}_ms": asdict(time_percentile(records, time, q))
        for time in ("ttft", "e2e", "tpot")
        for q in (50, 95)
    }


def missing_reasons(records: Sequence[RequestRecord], concurrency: int) -> list[str]:
    """Why metrics of `block_metrics` are None: P95_NEEDS_N72, FAILURES_AT_P95, STEADY_TOO_SHORT, ..."""
    reasons = [] if steady_window(spans(records), concurrency) else ["STEADY_TOO_SHORT"]
    for name in NAMES:
        if name.startswith(("p50_", "p95_", "adj_")):
            reason = _percentile_by_name(records, name).reason
            if reason:
                reasons.append(reason)
    return list(dict.fromkeys(reasons))


def _percentile_by_name(records: Sequence[RequestRecord], name: str) -> Percentile:
    """`adj_p95_ttft_ms` and its like."""
    plain = name.removeprefix("adj_")
    q, _, time = plain.removesuffix("_ms").partition("_")
    return time_percentile(records, time, int(q[1:]), adjusted=plain != name)


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    """A quotient, or None where there is nothing to divide by."""
    return numerator / denominator if numerator is not None and denominator else None
