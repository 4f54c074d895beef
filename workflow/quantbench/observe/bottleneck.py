"""Which part limits a block: the engine, the server's front end, or our own client.

The front end is the API server that turns the engine's steps into HTTP chunks. Where it falls behind it merges tokens:
chunks carry several tokens although the client reads each chunk as it comes. The client is suspected first, as a slow
client makes the server look slow.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantbench.records.block import BlockContext, Bottleneck, ClientFacts

MERGED = 1.05  # tokens per chunk
COALESCED = 0.2  # share of reads that brought several chunks at once


def judge(context: BlockContext, client_limits: Sequence[str] = ()) -> Bottleneck:
    """The part that limits a block, and how that is known.

    `client_limits`: what the failed guards say of the client. They alone decide that it was the limit, so a block is
    invalid for its client if and only if its bottleneck is the client.
    """
    client, tokens, chunks = context.client, context.metrics.get("tokens_out"), context.metrics.get("chunks")
    if client_limits:
        return Bottleneck(part="client", sentence=f"Our load client limits: {', '.join(client_limits)}.")
    if client.loop_lag_p99_ms is None or client.cpu_share is None:
        return Bottleneck(sentence="Not known: the client's loop lag and CPU share were not recorded.")
    if not tokens or not chunks:
        return Bottleneck(sentence="Not known: no chunks were counted.")
    ratio = tokens / chunks
    if ratio > MERGED:
        return _merged(ratio, client)
    return Bottleneck(
        part="engine",
        sentence=f"The engine limits: each token came in a chunk of its own ({ratio:.2f} tokens per chunk).",
    )


def _merged(ratio: float, client: ClientFacts) -> Bottleneck:
    if client.coalesced_share is None or client.coalesced_share > COALESCED:
        how = "not recorded" if client.coalesced_share is None else f"{client.coalesced_share:.0%} of reads"
        return Bottleneck(
            sentence=f"Not known: chunks carry {ratio:.1f} tokens, and the client read several chunks at once ({how})."
        )
    return Bottleneck(
        part="front_end",
        sentence=(
            f"vLLM's front end limits streaming: its chunks carry {ratio:.1f} tokens each although the client keeps up "
            f"(loop lag p99 {client.loop_lag_p99_ms:.1f} ms, {client.cpu_share:.0%} of a core)."
        ),
    )
