"""Guards of a block: what the server's counters, its log and its replies say of the block."""

from __future__ import annotations

from msgspec.structs import asdict

from quantbench.judge.guards.base import BlockFacts, Missing, Seen, guard


@guard("block", "fail", title="Prefix cache hits",
       detection="vLLM's prefix_cache_hits grew during the block; of a server without that counter, more than "
                 "{limit:%} of the prompt tokens were cached, as the usage of its replies says",
       remedy="Serve with --no-enable-prefix-caching, or give enough distinct prompts.")  # fmt: skip
def prefix_cache(facts: BlockFacts, *, limit: float = 0.50) -> Seen:
    """Repeated prompt text is served from memory: TTFT and throughput are those of another workload."""
    told = facts.block.server.cached_tokens
    if facts.block.server.delta.prefix_cache_hits is None and told is not None:
        # Other servers have no salt: the head of a chat template, up to half of a short prompt, is always cached there.
        prompts = facts.metric("tokens_in")
        return Seen(told > limit * prompts, f"{told} of {prompts} prompt tokens were cached, the replies say")
    hits, queries = facts.counter(lambda d: d.prefix_cache_hits), facts.block.server.delta.prefix_cache_queries or 0
    return Seen(hits > 0, f"{hits:.0f} of {queries:.0f} prompt tokens came from the prefix cache")


@guard("block", "fail", title="Compilation while measuring",
       detection="incidents jit or graph_capture in the block's log; "
                 "unknown where vLLM does not watch (CPU, eager mode)",
       remedy="Raise block.warmup_requests_per_slot, so that every shape is seen before the clock starts.")  # fmt: skip
def jit_compilation(facts: BlockFacts) -> Seen:
    """A kernel was compiled or a graph captured inside the block: a cost that no later request pays."""
    lines = facts.incidents("jit", "graph_capture")
    if not lines:  # a silent log proves something only where vLLM would have spoken
        facts.ready.need(lambda r: r.settings.jit_monitor)
    return Seen(bool(lines), lines[0] if lines else "no compilation in the log of the block")


@guard("block", "fail", title="NaN in the logits",
       detection="a completion with logprobs, asked when the server has started, has a value that is not a number; "
                 "or, where vLLM counts them, corrupted_requests grew; or its log says so",
       remedy="Check the checkpoint, the dtype and the kernel; look at the quality part first.")  # fmt: skip
def nan_logits(facts: BlockFacts) -> Seen:
    """The model computes garbage; its speed means nothing."""
    lines, corrupted = facts.incidents("nan"), facts.block.server.delta.corrupted_requests
    if lines or corrupted:
        return Seen(True, lines[0] if lines else f"{corrupted} corrupted requests")
    if corrupted is None:
        facts.ready.need(lambda r: r.logits.finite)
    logprobs = facts.ready.get(lambda r: r.logits.seen) or "not asked"
    return Seen(facts.ready.get(lambda r: r.logits.finite) is False, f"at the server's start: {logprobs}")


@guard("block", "fail", title="Server error in the log",
       detection="incidents error, oom or engine_dead in the server log of the block",
       remedy="Read the server log at the quoted line.")  # fmt: skip
def server_error(facts: BlockFacts) -> Seen:
    """An exception, a lack of memory or a dead engine inside the block."""
    lines = facts.incidents("error", "oom", "engine_dead")
    return Seen(bool(lines), lines[0] if lines else "no error in the log of the block")


@guard("block", "fail", title="Server restarted within the block",
       detection="process_start_time changed, or a counter went down",
       remedy="Find out why the server stopped (its log, the kernel's log for memory).")  # fmt: skip
def server_restart(facts: BlockFacts) -> Seen:
    """Part of the block was a start-up, and counters began anew."""
    server = facts.block.server
    fallen = [name for name, value in asdict(server.delta).items() if value is not None and value < 0]
    if server.delta.restarted or fallen:
        return Seen(True, f"counters went down ({', '.join(fallen)})" if fallen else "the server restarted")
    start = facts.need(lambda b: b.server.process_start_time)
    others = [p.process_start_time for p in (server.before, server.after) if p.process_start_time not in (None, start)]
    return Seen(bool(others), f"process start time {others[0] if others else start}, block measured {start}")


@guard("block", "fail", title="Another configuration answered",
       detection="system_fingerprint of any reply differs from that of ready.json",
       remedy="Stop other servers on the port; let quantbench start the server.")  # fmt: skip
def config_drift(facts: BlockFacts) -> Seen:
    """The replies come from a server that is set up differently from the one that was described."""
    prints = facts.block.server.fingerprints
    if not prints:
        raise Missing("server.fingerprints is empty")
    expected = facts.ready.need(lambda r: r.system_fingerprint)
    return Seen(set(prints) != {expected}, f"replies carry {', '.join(prints)}; the server started as {expected}")


@guard("block", "fail", title="Token counts disagree",
       detection="generation_tokens of the server and tokens_out of the client differ by more than {limit:%}",
       remedy="Make sure that nothing else sends requests to the server.")  # fmt: skip
def token_count(facts: BlockFacts, *, limit: float = 0.01) -> Seen:
    """Somebody else used the server, or one of the two counts is wrong."""
    server, client = facts.counter(lambda d: d.generation_tokens), facts.metric("tokens_out")
    off = abs(server - client) / max(client, 1)
    return Seen(off > limit, f"the server generated {server:.0f} tokens, the client received {client}")


@guard("block", "warn", title="Preemption",
       detection="vLLM's num_preemptions grew during the block",
       remedy="Lower the concurrency or the lengths, or give the KV cache more memory.")  # fmt: skip
def preemption(facts: BlockFacts) -> Seen:
    """The KV cache was too small: requests were thrown out and computed again. True, but it measures the cache."""
    count = facts.counter(lambda d: d.preemptions)
    return Seen(count > 0, f"{count:.0f} preemptions")


@guard("block", "warn", title="Queueing in the server",
       detection="mean request_queue_time above {limit:%} of p50 TTFT",
       remedy="Raise max_num_seqs above the concurrency, or lower the concurrency.")  # fmt: skip
def queueing(facts: BlockFacts, *, limit: float = 0.10) -> Seen:
    """Requests waited before the engine took them, so TTFT is mostly waiting."""
    count, total = facts.counter(lambda d: d.queue_time_count), facts.counter(lambda d: d.queue_time_sum_s)
    mean_ms = 1000 * total / count if count else 0.0
    ttft, waiting = facts.metric("p50_ttft_ms"), facts.block.server.peak.waiting
    text = f"mean queue time {mean_ms:.1f} ms, p50 TTFT {ttft:.1f} ms, at most {waiting} requests waiting"
    return Seen(mean_ms > limit * ttft, text)


@guard("block", "fail", title="Speculative decoding",
       detection="speculative_config is set, or spec_decode_num_drafts grew, without `speculative` in differs_in",
       remedy="Remove the speculative settings from the server's arguments, or declare `speculative` in the model's "
              "differs_in.")  # fmt: skip
def speculative(facts: BlockFacts) -> Seen:
    """Draft tokens change speed and numerics for reasons other than quantization."""
    delta = facts.block.server.delta
    drafts = delta.spec_decode_drafts or 0
    configured = facts.ready.need(lambda r: r.settings.speculative)
    text = f"speculative decoding {'on' if configured else 'off'}, {drafts} drafts"
    if delta.spec_decode_draft_tokens and delta.spec_decode_accepted_tokens is not None:
        share = delta.spec_decode_accepted_tokens / delta.spec_decode_draft_tokens
        text += f", {share:.0%} of the drafted tokens accepted"
    return Seen((configured or drafts > 0) and "speculative" not in facts.arm.differs_in, text)
