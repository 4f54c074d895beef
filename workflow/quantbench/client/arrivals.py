"""Which read brought which tokens of a streamed reply, as far as the server tells.

Servers tell in three ways: token ids on every message with output; a running total (usage) on every such message;
or nothing but a total somewhere, and then every message with output gets an even share of it. A stream is of one
kind as a whole. A balance is never booked to the message that happens to name the total, nor to a message whose
"running" total does not run: either would give one arrival time to tokens that came at others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """One stream message with a choice: the index of its read, whether it has output, and what it tells of tokens."""

    read: int
    output: bool
    ids: int
    """How many token ids it carries."""
    total: int | None
    """usage.completion_tokens on this message."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Indices of the reads that brought tokens, in order, and what came in them.

    `chunks` are the messages with tokens, `first_tokens` all tokens of the first read. `problem` says in words how the
    server contradicts itself.
    """

    reads: tuple[int, ...] = ()
    chunks: int = 0
    first_tokens: int = 0
    problem: str = ""


def arrivals(messages: Sequence[Message], completion: int | None) -> Arrivals:
    """Where the `completion` tokens of a reply (usage; None if not told) arrived."""
    outputs = [m for m in messages if m.output]
    if any(m.ids for m in messages) and all(m.ids for m in outputs):
        ids = sum(m.ids for m in messages)
        # Parsers of reasoning and tool calls swallow messages, ids and all; the totals run on.
        if completion is not None and ids < completion and (told := _running(messages, outputs, completion)):
            return _credited(told)
        wrong = completion is not None and ids != completion
        problem = f"{ids} token ids came, usage says {completion} tokens" if wrong else ""
        return replace(_credited((m.read, m.ids) for m in messages), problem=problem)
    running = _running(messages, outputs, completion)
    if running is not None:
        return _credited(running)
    even = _credited((m.read, 1) for m in messages if m.output or m.ids)
    if not even.chunks or completion is None:
        return even
    problem = ""
    if completion < even.chunks and all(m.total is not None for m in outputs):
        problem = f"usage differs from message to message and ends at {completion} for {even.chunks} messages"
    share = max(1, round(even.first_tokens * completion / even.chunks))
    return replace(even, first_tokens=share, problem=problem)


def _running(
    messages: Sequence[Message], outputs: Sequence[Message], completion: int | None
) -> list[tuple[int, int]] | None:
    """(read, new tokens) per message by its running total; None if there is none.

    A running total stands on every message with output, begins above zero, never falls, and ends at `completion`.
    One message may bring text that was held back, without a new token; if more do, the total counts something else.
    """
    if any(m.total is None for m in outputs or messages):
        return None
    totals = [(m, m.total) for m in messages if m.total is not None]
    steps = [(m, b - a) for (_, a), (m, b) in pairwise([(None, 0), *totals]) if m is not None]
    flat = sum(m.output and not step for m, step in steps)
    if not totals or totals[-1][1] != completion or any(step < 0 for _, step in steps):
        return None
    if flat > 1 or 0 < len(outputs) <= 2 * flat or (outputs and not outputs[0].total):
        return None
    return [(m.read, step) for m, step in steps]


def _credited(tokens: Iterable[tuple[int, int]]) -> Arrivals:
    """Arrivals of (read, tokens) pairs in order; what carries no token is left out."""
    carried = [(read, count) for read, count in tokens if count > 0]
    if not carried:
        return Arrivals()
    reads = tuple(dict.fromkeys(read for read, _ in carried))
    return Arrivals(reads, len(carried), sum(count for read, count in carried if read == reads[0]))
