"""The load client measured against the known-truth server: its own error, its cost, and its limit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from quantbench.client.concurrency import concurrency_held
from quantbench.client.load import run_block
from quantbench.client.load_spec import LoadSpec, Transport
from quantbench.client.prompts import requests_for
from quantbench.client.records import BlockResult
from quantbench.client.truth_server import TruthServer
from quantbench.client.truth_stream import MODEL, Schedule
from quantbench.errors import QuantbenchError
from quantbench.records.block import Calibration
from quantbench.records.metric import e2e_ms, ttft_ms
from quantbench.stats import percentile

# A core this busy still answers at once most of the time; above, reads begin to wait for one another.
SUSTAINABLE_SHARE = 0.8
_PROMPTS: tuple[dict[str, Any], ...] = tuple(
    {"id": f"calibration-{i}", "prompt": "Count the tokens of this stream. " * (i + 1)} for i in range(8)
)
_SEED = "calibration"


def calibrate(
    concurrency: int,
    *,
    seconds: float = 2.0,
    max_tokens: int = 64,
    itl_ms: float = 5.0,
    ttft_ms_range: tuple[float, float] = (20.0, 70.0),
    transport: Transport = "auto",
) -> Calibration:
    """Measure the client at one concurrency in about `seconds` + 1.

    Errors are (client - server) of the same request; p95 is None below 72 requests. CPU per token includes the parsing
    after the block. concurrency_held is the server's view. limit_tok_s is the rate at which receiving would fill
    80 % of a core, by the CPU time per token seen here. Raises QuantbenchError if a request fails.
    """
    low, high = ttft_ms_range
    schedule = Schedule(ttft_ms=low, jitter_ms=high - low, itl_ms=itl_ms)
    with TruthServer(schedule) as server:
        spec = LoadSpec(
            url=server.url,
            model=MODEL,
            prompts=_PROMPTS,
            concurrency=concurrency,
            max_tokens=max_tokens,
            min_seconds=seconds,
            seed=_SEED,
            transport=transport,
            timeout_s=60,
        )
        result = run_block(spec)
        truth = {row["key"]: row for row in server.log()}
    _need_success(result)
    return _compared(result, _matched(result, truth), concurrency)


def _need_success(result: BlockResult) -> None:
    failed = [r for r in result.records if not r.ok]
    if failed:
        raise QuantbenchError(
            f"{len(failed)} requests to the known-truth server failed: {failed[0].reason} {failed[0].detail or ''}",
            remedy="the client cannot be trusted on this machine; raise the limit of open files if that is named",
        )


def _matched(result: BlockResult, truth: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The server's row for each record: the server knows a request by its leading text."""
    by_nonce = {key[1:11]: row for key, row in truth.items()}
    prompts = islice(requests_for(_PROMPTS, seed=_SEED), len(result.records))
    return [by_nonce[prompt.nonce] for prompt in prompts]


def _compared(result: BlockResult, truth: Sequence[dict[str, Any]], concurrency: int) -> Calibration:
    """Client minus server, request by request; and what the client cost."""
    pairs = list(zip(result.records, truth, strict=True))
    ttft = [(ttft_ms(r) or 0.0) - (t["first_ns"] - t["received_ns"]) / 1e6 for r, t in pairs]
    e2e = [(e2e_ms(r) or 0.0) - (t["last_ns"] - t["received_ns"]) / 1e6 for r, t in pairs]
    client, tokens = result.client, sum(r.completion_tokens or 0 for r in result.records)
    cpu_s = client.cpu_s or 0.0
    return Calibration(
        measured_unix=result.started.timestamp(),
        concurrency=concurrency,
        n=len(pairs),
        ttft_error_p50_ms=percentile(ttft, 50).value,
        ttft_error_p95_ms=percentile(ttft, 95).value,
        e2e_error_p50_ms=percentile(e2e, 50).value,
        cpu_share=client.cpu_share,
        cpu_s_per_1k_tokens=(cpu_s + (client.parse_cpu_s or 0.0)) / tokens * 1000,
        loop_lag_p50_ms=client.loop_lag_p50_ms,
        loop_lag_p99_ms=client.loop_lag_p99_ms,
        concurrency_held=concurrency_held([(t["received_ns"], t["last_ns"]) for t in truth], concurrency),
        tokens_per_s=tokens / result.duration_s,
        limit_tok_s=SUSTAINABLE_SHARE * tokens / cpu_s if cpu_s else None,
    )
