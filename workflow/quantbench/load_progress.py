"""How far the blocks of a run are, and how long the rest will take. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def line(ended: Sequence[float], planned: int, kept: int) -> str:
    """One line for a person.

    `ended`: Unix times at which the blocks of this run ended, in order; `planned`: blocks that the configuration asks
    for, `kept`: those on disk. The estimate is the pace of this run; without two blocks there is none.
    """
    left = max(0, planned - kept)
    told = f"{kept} of {max(planned, kept)} blocks"
    if not left or len(ended) < 2:
        return told
    seconds = left * (ended[-1] - ended[0]) / (len(ended) - 1)
    return f"{told}, about {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
