"""Guards of a whole run."""

from __future__ import annotations

from collections.abc import Mapping

from quantbench.judge.guards.base import Missing, Seen, guard
from quantbench.records.server import Session


@guard("run", "fail", title="Memory returned",
       detection="memory used after the stop is above that before the start (session.json)",
       remedy="Look for left processes of the server; reset is yours to decide.")  # fmt: skip
def memory_returned(sessions: Mapping[str, Session]) -> Seen:
    """A server left memory behind: the next model had less, or a process is still there."""
    if not sessions:
        raise Missing("sessions are not known")
    unknown = [model for model, session in sessions.items() if session.memory_returned is None]
    held = [model for model, session in sessions.items() if session.memory_returned is False]
    if unknown and not held:
        raise Missing(f"memory_returned is not known for {', '.join(unknown)}")
    return Seen(bool(held), f"memory not returned by {', '.join(held)}" if held else "all memory came back")
