"""Guards of a block: was the load there that its row says, and was it answered in full?"""

from __future__ import annotations

from collections.abc import Iterator

from quantbench.judge.guards.base import BlockFacts, Seen, guard
from quantbench.records.block import BlockContext


@guard("block", "fail", title="Failed requests",
       detection="metrics.failures > 0, or no request at all",
       remedy="Remove the cause and measure again; the server's log, and the reason codes of all requests in the "
              "block's parquet file, may say more.")  # fmt: skip
def failed_requests(facts: BlockFacts) -> Seen:
    """A failed request has no time and frees its slot early, so what is left looks fast."""
    failures, n = facts.metric("failures"), facts.metric("n")
    why = ", ".join(_why(facts.block))
    return Seen(failures > 0 or n == 0, f"{failures} of {n} requests failed" + (f" ({why})" if why else ""))


def _why(block: BlockContext) -> Iterator[str]:
    for reason, count in block.failure_reasons.items():
        words = block.failure_words.get(reason)
        yield f"{reason}: {count}" + (f", the first “{words}”" if words else "")


@guard("block", "warn", title="Requests sent twice",
       detection="more than {limit:%} of the requests met a closed connection and were sent again",
       remedy="Raise the server's keep-alive; look for a proxy or a limit of connections before it.")  # fmt: skip
def resent_requests(facts: BlockFacts, *, limit: float = 0.01) -> Seen:
    """The server closes kept connections under load; what it costs until the second sending is in no figure."""
    resent, n = facts.need(lambda b: b.client.resent), facts.metric("n")
    return Seen(resent > limit * n, f"{resent} of {n} requests were sent a second time")


@guard("block", "warn", title="Block too short",
       detection="duration_s below {of_asked:%} of block.min_seconds, or fewer than {per_slot} requests per slot",
       remedy="Raise block.min_seconds or block.min_requests_per_slot.")  # fmt: skip
def short_block(facts: BlockFacts, *, of_asked: float = 0.99, per_slot: float = 2.0) -> Seen:
    """Ramp, drain and chance dominate a short block."""
    seconds, n = facts.metric("duration_s"), facts.metric("n")
    least, slots = facts.block.min_seconds, facts.block.concurrency
    bad = seconds < of_asked * least or n < per_slot * slots
    return Seen(bad, f"{seconds:.1f} s (at least {least:g}), {n} requests for {slots} slots")


@guard("block", "fail", title="Concurrency not held",
       detection="client.concurrency_held below {limit:%} over the steady window "
                 "({short_limit:%} of the block where there is none)",
       remedy="Use longer blocks; look at client_cpu and client_loop_lag.")  # fmt: skip
def concurrency_not_held(facts: BlockFacts, *, limit: float = 0.95, short_limit: float = 0.60) -> Seen:
    """The server saw less load than the row says."""
    held = facts.need(lambda b: b.client.concurrency_held)
    # without a steady window the share is over the whole block, ramp and drain included
    steady = facts.block.metrics.get("steady_s") is not None
    least = limit if steady else short_limit
    over = "the steady window" if steady else "the whole block (no steady window)"
    return Seen(held < least, f"{held:.1%} of the asked concurrency was in flight over {over} (at least {least:.0%})")


@guard("block", "warn", title="Mostly ramp and drain",
       detection="steady_s below {limit:%} of duration_s, or no steady window at all",
       remedy="Use longer blocks; read throughput_steady_tok_s.")  # fmt: skip
def ramp_share(facts: BlockFacts, *, limit: float = 0.5) -> Seen:
    """Throughput over the whole block counts the time in which slots were still filling or already empty."""
    if facts.block.metrics.get("steady_s", 0) is None:  # not the same as a client that looks for no window
        return Seen(True, "no steady window: ramp and drain only")
    steady = facts.metric("steady_s") / facts.metric("duration_s")
    return Seen(steady < limit, f"the steady window is {steady:.0%} of the block (at least {limit:.0%})")


@guard("block", "fail", title="Output length",
       detection="tokens_out differs from answered requests × max_tokens (ignore_eos is set for capacity)",
       remedy="Check max_model_len against prompt plus max_tokens, "
              "and that the server honours ignore_eos.")  # fmt: skip
def output_length(facts: BlockFacts) -> Seen:
    """Answers of different length are different work."""
    expected = (facts.metric("n") - facts.metric("failures")) * facts.block.max_tokens
    tokens = facts.metric("tokens_out")
    # An answer of another length is a failed request, and tokens_out are those of the others.
    wrong = facts.block.failure_reasons.get("token_count", 0)
    text = f"{tokens} output tokens, {expected:.0f} expected; {wrong} answers of another length"
    return Seen(tokens != expected or wrong > 0, text)
