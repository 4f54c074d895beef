"""bottleneck: which part limits, from figures of real kinds of blocks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.judge import guards
from quantbench.observe import bottleneck
from quantbench.records.base import convert
from quantbench.records.block import BlockContext, Calibration


def context(tokens: int = 65536, chunks: int = 65536, ttft: float = 50.0, **client: Any) -> BlockContext:
    calm = {"loop_lag_p99_ms": 1.5, "cpu_share": 0.2, "coalesced_share": 0.01}
    facts = {
        "gpu": "gpu", "model": "bf16", "workload": "chat", "style": "interactive", "concurrency": 64,
        "max_tokens": 128, "block": 1, "min_seconds": 1.0, "started_at": "", "started_unix": 0.0, "duration_s": 20.0,
        "metrics": {"tokens_out": tokens, "chunks": chunks, "throughput_tok_s": 5000.0, "p50_ttft_ms": ttft},
        "client": {**calm, **client}, "telemetry": {}, "server": {}, "lane": {},
    }  # fmt: skip
    return convert(facts, BlockContext)


@pytest.mark.parametrize(
    ("block", "limits", "part", "says"),
    [
        (context(), [], "engine", "1.00 tokens per chunk"),
        (context(10_500, 10_000), [], "engine", "1.05 tokens per chunk"),
        (context(10_501, 10_000), [], "front_end", "1.1 tokens each"),
        (context(chunks=2037), [], "front_end", "32.2 tokens each"),  # seen on an H100 at concurrency 64
        (context(chunks=2037, coalesced_share=0.2), [], "front_end", "32.2 tokens each"),
        (context(chunks=2037, coalesced_share=0.201), [], "unknown", "20% of reads"),
        (context(chunks=2037, coalesced_share=None), [], "unknown", "not recorded"),
        (context(), ["the client used 97% of a core"], "client", "97% of a core"),
        (context(loop_lag_p99_ms=80.0), [], "engine", "engine limits"),
        (context(loop_lag_p99_ms=None), [], "unknown", "not recorded"),
        (context(cpu_share=None), [], "unknown", "not recorded"),
        (context(tokens=0, chunks=0), [], "unknown", "no chunks"),
    ],
)
def test_parts(block: BlockContext, limits: list[str], part: str, says: str) -> None:
    judged = bottleneck.judge(block, limits)
    assert judged.part == part
    assert says in judged.sentence


LAGS = st.floats(0, 100)


@given(st.floats(0, 1.5), LAGS, LAGS, st.floats(1, 500), st.floats(1, 20_000), st.integers(1, 9000))
def test_a_block_is_invalid_for_its_client_exactly_if_the_client_is_its_bottleneck(
    cpu: float, lag: float, tail: float, ttft: float, limit: float, chunks: int
) -> None:
    block = context(9000, chunks, ttft, cpu_share=cpu, loop_lag_p50_ms=lag, loop_lag_p99_ms=tail)
    judged = guards.judged(block, None, Calibration(concurrency=64, ttft_error_p50_ms=None, limit_tok_s=limit))
    assert (judged.bottleneck.part == "client") == bool(set(guards.CLIENT) & set(judged.reasons))
    assert judged.bottleneck.sentence.endswith(".")
