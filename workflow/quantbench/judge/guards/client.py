"""Guards of a block: was it the load client that was measured?"""

from __future__ import annotations

from quantbench.judge.guards.base import BlockFacts, Missing, Seen, guard


@guard("block", "fail", title="Client short of CPU",
       detection="client.cpu_share of {limit:%} of a core or more",
       remedy="Run the client on free cores, or lower the concurrency.")  # fmt: skip
def client_cpu(facts: BlockFacts, *, limit: float = 0.80) -> Seen:
    """The load client was the limit, not the server."""
    share = facts.need(lambda b: b.client.cpu_share)
    return Seen(share >= limit, f"the client used {share:.0%} of a core (limit {limit:.0%})")


@guard("block", "fail", title="Client late",
       detection="median event-loop lag above {limit:%} of p50 TTFT (and above {least_ms} ms)",
       remedy="Free CPU cores for the client; stop other programs.")  # fmt: skip
def client_loop_lag(facts: BlockFacts, *, limit: float = 0.10, least_ms: float = 2.0) -> Seen:
    """The client read its sockets late, and the lateness is counted as the server's."""
    lag = facts.need(lambda b: b.client.loop_lag_p50_ms)
    most = max(least_ms, limit * facts.metric("p50_ttft_ms"))
    return Seen(lag > most, f"median loop lag {lag:.2f} ms (limit {most:.1f} ms)")


@guard("block", "warn", title="Client late at times",
       detection="p99 event-loop lag above {limit_ms} ms",
       remedy="Free CPU cores for the client; read p95 with caution.")  # fmt: skip
def client_loop_lag_tail(facts: BlockFacts, *, limit_ms: float = 20.0) -> Seen:
    """Single reads were late: tail percentiles contain the client's own pauses."""
    lag = facts.need(lambda b: b.client.loop_lag_p99_ms)
    return Seen(lag > limit_ms, f"p99 loop lag {lag:.1f} ms (limit {limit_ms:g} ms)")


@guard("block", "fail", title="Near the client's own limit",
       detection="throughput above {limit:%} of what the client reached against the known-truth server",
       remedy="Run the client on faster or more cores.")  # fmt: skip
def client_limit(facts: BlockFacts, *, limit: float = 0.80) -> Seen:
    """The measured rate is what the client can do at most."""
    reached, rate = facts.calibration.need(lambda c: c.limit_tok_s), facts.metric("throughput_tok_s")
    text = f"{rate:.0f} tok/s measured, the client alone reaches {reached:.0f}"
    return Seen(rate > limit * reached, text)


@guard("block", "warn", title="Client error visible in TTFT",
       detection="calibrated TTFT error above {limit:%} of p50 TTFT",
       remedy="Read differences of TTFT below that error as nothing.")  # fmt: skip
def client_error(facts: BlockFacts, *, limit: float = 0.10) -> Seen:
    """The client's own error is no longer small against what it measures."""
    error, ttft = facts.calibration.need(lambda c: c.ttft_error_p50_ms), facts.metric("p50_ttft_ms")
    return Seen(abs(error) > limit * ttft, f"the client's own TTFT error is {error:.2f} ms, p50 TTFT {ttft:.1f} ms")


@guard("block", "warn", title="Several messages per read",
       detection="more than {limit:%} of the reads brought several stream messages",
       remedy="Use TPOT, not the chunk gap; on small machines run the server in one process.")  # fmt: skip
def coalesced_reads(facts: BlockFacts, *, limit: float = 0.50) -> Seen:
    """Tokens arrived in bursts, so the time between chunks is not the time between tokens."""
    share = facts.need(lambda b: b.client.coalesced_share)
    return Seen(share > limit, f"{share:.0%} of the reads brought several messages")


@guard("block", "warn", title="Several tokens per chunk",
       detection="more than {limit} tokens per chunk",
       remedy="Read the bottleneck column; give the server's front end more CPU.")  # fmt: skip
def merged_chunks(facts: BlockFacts, *, limit: float = 1.5) -> Seen:
    """vLLM's front end merges tokens when it cannot keep up: TTFT may cover several tokens."""
    tokens, chunks = facts.metric("tokens_out"), facts.metric("chunks")
    if not tokens:
        raise Missing("metrics.tokens_out is 0: nothing came in chunks")
    per_chunk = tokens / chunks if chunks else float("inf")
    return Seen(per_chunk > limit, f"{tokens} tokens in {chunks} chunks")
