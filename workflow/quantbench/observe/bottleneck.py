"""Which part limits a block: the engine, the server's front end, or our own client.

The front end is the API server that turns the engine's steps into HTTP chunks. Where it falls behind it merges tokens:
chunks carry several tokens although the client reads each chunk as it comes. The client is suspected first, as a slow
client makes the server look slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MERGED = 1.05  # tokens per chunk
COALESCED = 0.2  # share of reads that brought several chunks at once


def judge(context: Mapping[str, Any], client_limits: Sequence[str] = ()) -> dict[str, str]:
    """`{part: engine|front_end|client|unknown, sentence}` for a block's context (docs/architecture.md).

    `client_limits`: what the failed guards say of the client. They alone decide that it was the limit, so a block is
    invalid for its client if and only if its bottleneck is the client.
    """
    client, metrics = context.get("client") or {}, context.get("metrics") or {}
    if client_limits:
        return {"part": "client", "sentence": f"Our load client limits: {', '.join(client_limits)}."}
    if client.get("loop_lag_p99_ms") is None or client.get("cpu_share") is None:
        return {"part": "unknown", "sentence": "Not known: the client's loop lag and CPU share were not recorded."}
    tokens, chunks = metrics.get("tokens_out"), metrics.get("chunks")
    if not tokens or not chunks:
        return {"part": "unknown", "sentence": "Not known: no chunks were counted."}
    ratio = tokens / chunks
    if ratio <= MERGED:
        return {
            "part": "engine",
            "sentence": f"The engine limits: each token came in a chunk of its own ({ratio:.2f} tokens per chunk).",
        }
    return _merged(ratio, client)


def _merged(ratio: float, client: Mapping[str, Any]) -> dict[str, str]:
    coalesced = client.get("coalesced_share")
    if coalesced is None or coalesced > COALESCED:
        how = "not recorded" if coalesced is None else f"{coalesced:.0%} of reads"
        return {
            "part": "unknown",
            "sentence": (
                f"Not known: chunks carry {ratio:.1f} tokens, and the client read several chunks at once ({how})."
            ),
        }
    return {
        "part": "front_end",
        "sentence": (
            f"vLLM's front end limits streaming: its chunks carry {ratio:.1f} tokens each although the client keeps up "
            f"(loop lag p99 {client['loop_lag_p99_ms']:.1f} ms, {client['cpu_share']:.0%} of a core)."
        ),
    }
