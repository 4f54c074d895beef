"""bottleneck: which part limits, from figures of real kinds of blocks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.observe import bottleneck


def context(tokens: int = 65536, chunks: int = 65536, rate: float = 5000.0, **client: Any) -> dict[str, Any]:
    calm = {"loop_lag_p99_ms": 1.5, "cpu_share": 0.2, "coalesced_share": 0.01}
    return {"metrics": {"tokens_out": tokens, "chunks": chunks, "throughput_tok_s": rate}, "client": {**calm, **client}}


@pytest.mark.parametrize(
    ("block", "limit", "part", "says"),
    [
        (context(), None, "engine", "1.00 tokens per chunk"),
        (context(chunks=2037), 90_000, "front_end", "32.2 tokens each"),  # seen on an H100 at concurrency 64
        (context(chunks=2037, coalesced_share=0.6), None, "unknown", "60% of reads"),
        (context(chunks=2037, coalesced_share=None), None, "unknown", "not recorded"),
        (context(loop_lag_p99_ms=80.0), None, "client", "lags 80 ms"),
        (context(cpu_share=0.97), None, "client", "97% of a core"),
        (context(rate=9_500), 10_000, "client", "near the 10000 tok/s"),
        (context(rate=5_000), 10_000, "engine", "engine limits"),
        (context(loop_lag_p99_ms=None), None, "unknown", "not recorded"),
        (context(tokens=0, chunks=0), None, "unknown", "no chunks"),
        ({}, None, "unknown", "not recorded"),
    ],
)
def test_parts(block: dict[str, Any], limit: float | None, part: str, says: str) -> None:
    got = bottleneck.judge(block, None if limit is None else {"limit_tok_s": limit})
    assert got["part"] == part
    assert says in got["sentence"]


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 100), st.floats(0, 1.5))
def test_a_strained_client_is_never_overlooked(tokens: int, chunks: int, merged: float, lag: float, cpu: float) -> None:
    got = bottleneck.judge(context(tokens, chunks, loop_lag_p99_ms=lag, cpu_share=cpu, coalesced_share=merged), {})
    strained = lag > bottleneck.LOOP_LAG_MS or cpu > bottleneck.CPU_SHARE
    assert (got["part"] == "client") == strained
    assert got["sentence"].endswith(".")
