"""The life of one model's server, from its events: the content of session.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantbench.serving import owner, registry
from quantbench.serving.vllm_server import mode_of

Json = dict[str, Any]


def record(spec: Mapping[str, Any]) -> Json:
    """session.json of a spec's server, over all runs that its folder has seen."""
    events = registry.read_events(owner.server_home(spec["model"]))
    mode = mode_of(spec)
    return summarize(spec["model"], mode, events)


def summarize(model: str, mode: str, events: Sequence[Mapping[str, Any]]) -> Json:
    """Memory as of the last stop; seconds of the lane. Pure.

    held_s is what leases held of the lane with the servers up, measured_s what of it lies inside blocks; starting_s is
    the rest, the leases that had to start a server first.
    """
    stops = [e for e in events if e["event"] == "stop" and "memory_returned" in e]
    leases = [e for e in events if e["event"] == "lease"]
    last = stops[-1] if stops else {}
    starting = [float(e["seconds"]) for e in leases if e["action"] == "started"]
    up = [e for e in leases if e["action"] != "started"]
    holding = [float(e["seconds"]) for e in up]
    measured = [float(e["measured_s"]) for e in up if e.get("measured_s") is not None]
    return {
        "model": model,
        "mode": mode,
        "events": [dict(e) for e in events],
        "memory_before_mib": last.get("memory_before_mib"),
        "memory_after_stop_mib": last.get("memory_after_stop_mib"),
        "memory_returned": last.get("memory_returned"),
        "measured_s": round(sum(measured), 3) if measured else None,
        "held_s": round(sum(holding), 3) if holding else None,
        "starting_s": round(sum(starting), 3) if starting else None,
    }
