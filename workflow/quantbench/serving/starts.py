"""Which start of its server a job wants: blocks are divided over the starts, where there are several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from quantbench.records.serving import State
from quantbench.serving import registry

CHEAP_S: Final = 30.0
"""A start that takes less is worth a second one, where the configuration leaves that open."""


@dataclass(frozen=True)
class Start:
    """The start (1, 2, …) that a job wants of its server; if_cheap: a later one only if starts take little time."""

    number: int = 1
    if_cheap: bool = False


FIRST: Final = Start()
"""What all jobs want but blocks: any start will do."""


def is_due(wanted: Start, mine: State, others: Iterable[State]) -> bool:
    """Whether a server that runs is of an earlier start than is wanted, so that a new one has to take its place.

    others: the other servers of its lane. All are started again, or none, so that pairs share no start.
    """
    if mine.start >= wanted.number:
        return False
    return not wanted.if_cheap or all(_is_cheap(state) for state in (mine, *others))


def _is_cheap(state: State) -> bool:
    """By the quickest start on record, so that one slow start in mid-run does not divide the servers of a lane."""
    known = [event.seconds for event in registry.read_events(state.home) if event.event == "start" and event.seconds]
    return bool(known) and min(known) < CHEAP_S


def noted(state: State, start: Start) -> State:
    """The state of a server that was just started, which now tells of which start it is."""
    return registry.save(replace(state, start=start.number)) if state.start != start.number else state
