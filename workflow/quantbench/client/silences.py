"""When no token came on any connection: the longest such stretches of a block, and what they can be excused by.

Free of numpy, as the load client needs it and has to start fast.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from quantbench.records.block import Silence
from quantbench.records.request import RequestRecord, Span

KEPT = 6
"""Of each kind (with and without a request that waits for its first token): enough to tell what is usual in a block."""
LOOKED_AT = 64
"""The longest stretches, among which the kept ones are sought."""
TOGETHER = 0.25
"""First tokens of one engine step come one after the other: for so much of a silence, and at most so many seconds."""


def silences(requests: Sequence[RequestRecord], stalls: Sequence[Span] = ()) -> tuple[Silence, ...] | None:
    """The longest silences of each kind from the first sending to the last end, longest first; None without gaps.

    At any concurrency some token should always be arriving, so this is about all connections together. stalls: when the
    client itself stood still, in ns of the requests' clock; that time is no silence of the server.
    """
    answered = [r for r in requests if r.first_ns is not None]
    sent = [r.sent_ns for r in requests if r.sent_ns is not None]
    if not sent or any(r.gaps_us is None for r in answered):
        return None
    last = max((r.end_ns for r in requests if r.end_ns is not None), default=min(sent))
    between = pairwise(sorted([min(sent), *(time for r in answered for time in _arrivals(r)), last]))
    longest = heapq.nlargest(LOOKED_AT + len(stalls), between, key=lambda edge: edge[1] - edge[0])
    begun = sorted((r.first_ns, r.prompt_tokens or 1) for r in answered if r.first_ns is not None)
    times, taken_in = [time for time, _ in begun], [0, *accumulate(tokens for _, tokens in begun)]

    def until(time: int) -> int:
        """Prompt tokens of the requests that had a first token by then."""
        return taken_in[bisect_right(times, time)]

    seen = [
        _silence(start, end, requests, stalls, until(end + _burst(end - start)) - until(start))
        for start, end in longest
    ]
    seen.sort(key=lambda silence: silence.s, reverse=True)
    waits, steps = ([some for some in seen if bool(some.prompt_tokens) is waiting][:KEPT] for waiting in (True, False))
    return tuple(sorted([*waits, *steps], key=lambda silence: silence.s, reverse=True))


def _arrivals(request: RequestRecord) -> accumulate[int]:
    """When its reads with tokens came."""
    return accumulate((gap * 1000 for gap in request.gaps_us or ()), initial=request.first_ns or 0)


def _burst(silence_ns: int) -> int:
    return int(min(TOGETHER * silence_ns, TOGETHER * 1e9))


def _silence(start: int, end: int, requests: Sequence[RequestRecord], stalls: Sequence[Span], taken_in: int) -> Silence:
    client = sum(max(0, min(end, over) - max(start, since)) for since, over in stalls)
    waited_for = sum(r.prompt_tokens or 1 for r in requests if _waits(r, start, end))
    return Silence(s=(end - start - client) / 1e9, at_s=start / 1e9, prompt_tokens=waited_for, taken_in=taken_in)


def _waits(request: RequestRecord, start: int, end: int) -> bool:
    """Whether it had been sent by the end of a silence, and had no token at the start of it."""
    begun = request.first_ns if request.first_ns is not None else request.end_ns
    return request.sent_ns is not None and request.sent_ns < end and (begun is None or begun > start)
