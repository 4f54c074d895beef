"""bottleneck: which part limits, from figures of real kinds of blocks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.judge import guards
from quantbench.observe import bottleneck


def context(tokens: int = 65536, chunks: int = 65536, rate: float = 5000.0, **client: Any) -> dict[str, Any]:
    calm = {"loop_lag_p99_ms": 1.5, "cpu_share": 0.2, "coalesced_share": 0.01}
    return {"metrics": {"tokens_out": tokens, "chunks": chunks, "throughput_tok_s": rate}, "client": {**calm, **client}}


@pytest.mark.parametrize(
    ("block", "limits", "part", "says"),
    [
        (context(), None, "engine", "1.00 tokens per chunk"),
        (context(chunks=2037), None, "front_end", "32.2 tokens each"),  # seen on an H100 at concurrency 64
        (context(chunks=2037, coalesced_share=0.6), None, "unknown", "60% of reads"),
        (context(chunks=2037, coalesced_share=None), None, "unknown", "not recorded"),
        (context(), ["the client used 97% of a core"], "client", "97% of a core"),
        (context(loop_lag_p99_ms=80.0), None, "engine", "engine limits"),
        (context(loop_lag_p99_ms=None), None, "unknown", "not recorded"),
        (context(tokens=0, chunks=0), None, "unknown", "no chunks"),
        ({}, None, "unknown", "not recorded"),
    ],
)
def test_parts(block: dict[str, Any], limits: list[str] | None, part: str, says: str) -> None:
    got = bottleneck.judge(block, limits or [])
    assert got["part"] == part
    assert says in got["sentence"]


LAGS = st.floats(0, 100)


@given(st.floats(0, 1.5), LAGS, LAGS, st.floats(1, 500), st.floats(1, 20_000), st.integers(1, 9000))
def test_a_block_is_invalid_for_its_client_exactly_if_the_client_is_its_bottleneck(
    cpu: float, lag: float, tail: float, ttft: float, limit: float, chunks: int
) -> None:
    block = context(9000, chunks, cpu_share=cpu, loop_lag_p50_ms=lag, loop_lag_p99_ms=tail)
    block["metrics"]["p50_ttft_ms"] = ttft
    found = guards.judged({**block, "min_seconds": 1.0}, {}, {"limit_tok_s": limit})
    assert (found["bottleneck"]["part"] == "client") == bool(set(guards.CLIENT) & set(found["reasons"]))
    assert found["bottleneck"]["sentence"].endswith(".")
