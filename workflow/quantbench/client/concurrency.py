"""How many requests were in flight when, from their (sent, end) spans; the steady window of a block.

Free of numpy and scipy, as the load client needs it and has to start fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quantbench.records.request import Span, Window

STEADY_SHARE = 0.95


def in_flight(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """The step function of concurrency: [(time, requests in flight from then on), ...], by sweep line."""
    events = sorted(edge for sent, end in spans for edge in ((sent, 1), (end, -1)))
    steps: list[tuple[int, int]] = []
    level = 0
    for when, change in events:
        level += change
        if steps and steps[-1][0] == when:
            steps[-1] = (when, level)
        else:
            steps.append((when, level))
    return steps


def steady_window(spans: Sequence[Span], concurrency: int) -> Window | None:
    """From the first to the last moment with at least 95 % of `concurrency` in flight: ramp and drain are cut.

    Dips inside stay in, as they are part of what was measured; `concurrency_held` shows them. None if the
    window holds fewer ends than one wave of requests: it would be a ramp and a drain and nothing between.
    """
    steps = in_flight(spans)
    full = [i for i, (_, level) in enumerate(steps) if level >= STEADY_SHARE * concurrency]
    if not full:
        return None
    window = Window(steps[full[0]][0], steps[full[-1] + 1][0])
    ended = sum(window.start <= end <= window.end for _, end in spans)
    return window if ended > concurrency else None


def concurrency_held(spans: Sequence[Span], concurrency: int) -> float | None:
    """Mean requests in flight over the steady window, as a share of the asked `concurrency`.

    Without a steady window it is over the whole block, so that a block that never got there looks it.
    """
    if not spans:
        return None
    window = steady_window(spans, concurrency)
    if window is None:
        window = Window(min(sent for sent, _ in spans), max(end for _, end in spans))
    length = window.end - window.start
    if length <= 0:
        return None
    busy = sum(max(0, min(end, window.end) - max(sent, window.start)) for sent, end in spans)
    return busy / (concurrency * length)
