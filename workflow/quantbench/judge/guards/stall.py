"""Guards of a block: did all stand still for a while, and was it client, machine, or server and network?

The limits are from simulated blocks (tests/unit/judge/test_stalls.py; docs/measurement.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

from quantbench.judge.guards.base import BlockFacts, Missing, Seen, guard
from quantbench.records.block import Silence

RANK = 4
"""Which of the other silences of a block says what is usual: three freezes cannot make each other look so."""


def _lost(facts: BlockFacts, times: float, least_s: float) -> tuple[float, str]:
    """Seconds that unusual silences took beyond usual ones, and the longest in words. Raises Missing."""
    seen = facts.need(lambda b: b.silences)
    long = [(silence, _usual(silence, seen)) for silence in seen if silence.s >= least_s]
    unusual = [(silence, usual) for silence, usual in long if usual is not None and silence.s > times * usual]
    if unusual:
        longest, usually = unusual[0]
        lost = sum(silence.s - usual for silence, usual in unusual)
        return lost, f"no token for {_where(longest)}, where {usually:.2f} s is usual"
    if alone := [silence for silence, usual in long if usual is None]:
        raise Missing(f"whether {_where(alone[0])} is usual is not known: nothing else in the block is like it")
    return 0.0, "no unusual silence" + (f"; the longest {_where(seen[0])}" if seen else "")


def _usual(silence: Silence, seen: Sequence[Silence]) -> float | None:
    """How long such a silence usually is in its block; None where nothing is like it.

    Between tokens: the fourth longest of the others. While first tokens are waited for, silences are few (at
    concurrency 1 one per request, in lockstep one per wave): the median of the other long ones. A first wave is taken
    in by one prompt and then the rest, so what a step takes in counts beside what waits.
    """
    others = [other for other in seen if other is not silence]
    steps = [other.s for other in others if not other.prompt_tokens]
    step = _ranked(steps if len(steps) >= RANK else [other.s for other in others], RANK)
    if not silence.prompt_tokens:
        return step
    least = step or 0.0
    # First tokens of one step come one after the other: what lies between them is no wait.
    waiting = [other for other in others if other.prompt_tokens and other.s > least / 2]
    waits = [_wait(other, silence.prompt_tokens) for other in waiting]
    work = [_work(other, silence.taken_in, least) for other in waiting if other.taken_in and silence.taken_in]
    return max(least, *(_ranked(kind, max(1, len(kind) // 2)) or 0.0 for kind in (waits, work))) if waits else None


def _ranked(values: Sequence[float], rank: int) -> float | None:
    return sorted(values, reverse=True)[rank - 1] if len(values) >= rank else None


def _wait(other: Silence, prompt_tokens: int) -> float:
    """How long another wait for first tokens would be with so many prompt tokens: in proportion, if it had fewer."""
    return other.s * max(1.0, prompt_tokens / other.prompt_tokens)


def _work(other: Silence, taken_in: int, step_s: float) -> float:
    """How long another step would be that took in so many prompt tokens: a step, and the rest in proportion.

    Where that rest is lost in the scatter of steps, all of it is.
    """
    assert other.taken_in
    rest = other.s - step_s
    return step_s + (rest if rest > step_s / 2 else other.s) * taken_in / other.taken_in


def _where(silence: Silence) -> str:
    return f"{silence.s:.2f} s from second {silence.at_s:.1f} on"


@guard("block", "fail", title="Stood still",
       detection="silences (no token on any connection) of at least {least_s} s and {times} times what is usual in the "
                 "block took {limit:%} of it or more",
       remedy="Find what stopped the server or its network for that long (another program, swap, a paused container); "
              "measure the block again.")  # fmt: skip
def stalled(facts: BlockFacts, *, limit: float = 0.05, least_s: float = 0.25, times: float = 4.0) -> Seen:
    """The server or its network froze for a while: the block's throughput is lower by that share of it."""
    lost, text = _lost(facts, times, least_s)
    share = lost / facts.metric("duration_s")
    return Seen(share >= limit, f"{text}; {share:.1%} of the block lost" if lost else text)


@guard("block", "warn", title="Stood still for a moment",
       detection="the same silences took {limit:%} of the block or more",
       remedy="None needed for throughput; read p95 with caution.")  # fmt: skip
def hiccup(facts: BlockFacts, *, limit: float = 0.01) -> Seen:
    """A stop too short to matter for throughput delays every request in flight, and so the tails."""
    return stalled.check(facts, **{**stalled.limits, "limit": limit})


@guard("block", "fail", title="Client stood still",
       detection="the client's event loop was stopped for {limit:%} of the block or more, and at least {least_s} s",
       remedy="Find what stopped the client (a stop signal, swap, a paused container or machine); "
              "measure the block again.")  # fmt: skip
def client_stalled(facts: BlockFacts, *, limit: float = 0.05, least_s: float = 0.25) -> Seen:
    """The load client, not the server, froze: it sent and read nothing, and no time of that stretch is the server's."""
    stalled_s = facts.need(lambda b: b.client.stalled_s)
    share = stalled_s / facts.metric("duration_s")
    text = f"the client stood still for {stalled_s:.2f} s, {share:.1%} of the block"
    longest, at = facts.block.client.longest_stall_s, facts.block.client.longest_stall_at_s
    if longest and at is not None:
        text += f"; the longest time for {longest:.2f} s from second {at:.1f} on"
    return Seen(stalled_s >= least_s and share >= limit, text)


@guard("block", "fail", title="Machine asleep",
       detection="the clock that counts sleep ran more than {limit_s} s ahead of the one that does not",
       remedy="Keep the machine from suspending (systemd-inhibit, a desktop's power settings); "
              "measure the block again.")  # fmt: skip
def suspended(facts: BlockFacts, *, limit_s: float = 0.1) -> Seen:
    """The machine was suspended within the block: no time shows it, but clocks, caches and temperatures began anew."""
    asleep = facts.need(lambda b: b.client.suspended_s)
    return Seen(asleep > limit_s, f"asleep for {asleep:.2f} s")


@guard("block", "warn", title="Clock set",
       detection="the wall clock moved {limit_s} s more or less than the machine's own clock",
       remedy="None needed if NTP or a person set it. A paused virtual machine looks the same: then measure the block "
              "again.")  # fmt: skip
def clock_set(facts: BlockFacts, *, limit_s: float = 1.0) -> Seen:
    """Times are not of the wall clock, but a machine that was paused has its clock set as well."""
    step = facts.need(lambda b: b.client.clock_step_s)
    return Seen(abs(step) > limit_s, f"the wall clock was set by {step:+.2f} s")
