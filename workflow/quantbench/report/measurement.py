"""How a run was measured, from its block contexts: order, validity, guards, lane time, client. Pure.

The result is `results/{gpu}/measurement.json`; the notes and the report quote it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from quantbench.wording import is_number

Json = dict[str, Any]
Key = tuple[str, str, int, int]  # arm, workload, concurrency, max_tokens

TELEMETRY = (
    "power_w_mean",
    "sm_clock_mhz_mean",
    "sm_clock_mhz_min",
    "temperature_c_max",
    "utilisation_pct_mean",
    "memory_used_mib_max",
)
CLOCK_STEP_S = 1.0  # starts are of the wall clock, durations are not: they may disagree by what NTP corrects


def summarize(
    contexts: Sequence[Json],
    ready: Mapping[str, Json],
    sessions: Mapping[str, Json],
    calibrations: Sequence[Json],
) -> Json:
    """One description of the whole run.

    `contexts` are the `b{n}.json` of all arms, the A/A arm too; `ready` and `sessions` are by model;
    `calibrations` are the `calibration_c{c}.json`. What no file tells is None.
    """
    ordered = sorted(contexts, key=lambda c: c["started_unix"])
    gaps = _gaps(ordered)
    return {
        "gpu": ordered[0]["gpu"] if ordered else None,
        "first_block_at": ordered[0]["started_at"] if ordered else None,
        "last_block_at": ordered[-1]["started_at"] if ordered else None,
        "measured_s": sum(c["duration_s"] for c in ordered),
        "versions": {model: record.get("versions", {}) for model, record in ready.items()},
        "blocks": _blocks(ordered),
        "order": _order(ordered, list(ready)),
        "guards": _guards(ordered),
        "lane": _lane(ordered),
        "share": _share(sessions.values()),
        "wall": wall_time(ordered),
        "sessions": {model: _session(record) for model, record in sessions.items()},
        "client": _client(ordered),
        "calibration": sorted(calibrations, key=lambda c: c.get("concurrency", 0)),
        "calibration_age_s": _calibration_age(ordered, calibrations),
        "cells": _cells(ordered),
        "server": _server(ordered),
        "telemetry_missing": {name: gap["reason"] for name, gap in gaps.items() if gap["blocks"] == len(ordered)},
        "telemetry_gaps": {name: gap for name, gap in gaps.items() if gap["blocks"] < len(ordered)},
    }


def _calibration_age(ordered: Sequence[Json], calibrations: Sequence[Json]) -> float | None:
    """Seconds from the oldest calibration to the last block; None where a calibration does not tell its time."""
    times = [c.get("measured_unix") for c in calibrations]
    known = _numbers(times)
    if not ordered or not times or len(known) < len(times):
        return None
    return float(ordered[-1]["started_unix"]) - min(known)


def _key(context: Json) -> Key:
    return context["model"], context["workload"], context["concurrency"], context["max_tokens"]


def _named(key: Key) -> Json:
    return dict(zip(("model", "workload", "concurrency", "max_tokens"), key, strict=True))


def _by_key(contexts: Iterable[Json]) -> dict[Key, list[Json]]:
    groups: dict[Key, list[Json]] = defaultdict(list)
    for context in contexts:
        groups[_key(context)].append(context)
    return groups


def _blocks(contexts: Sequence[Json]) -> Json:
    counts = [len(group) for group in _by_key(contexts).values()]
    invalid = [
        _named(_key(c))
        | {
            "block": c["block"],
            "reasons": c["reasons"],
            "details": [g["detail"] for g in c["guards"] if g["status"] == "fail" and g.get("detail")],
        }
        for c in contexts
        if not c["valid"]
    ]
    return {
        "total": len(contexts),
        "valid": len(contexts) - len(invalid),
        "invalid": invalid,
        "cells": len(counts),
        "fewest_per_cell": min(counts, default=0),
        "most_per_cell": max(counts, default=0),
    }


def _order(contexts: Sequence[Json], models: Sequence[str]) -> Json:
    """How the arms followed each other in each cell: A is the first of `models`, arms that are not in it come last."""
    cells: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for context in contexts:
        cells[_key(context)[1:]].append(context["model"])
    sequences = {cell: arms for cell, arms in cells.items() if len(set(arms)) > 1}
    interleaved = [arms for arms in sequences.values() if _changes(arms) >= len(set(arms))]
    longest = max(sequences.values(), key=len, default=[])
    ranks = {model: i for i, model in enumerate(models)}
    arms = sorted(dict.fromkeys(longest), key=lambda arm: ranks.get(arm, len(ranks)))
    letters = {arm: chr(ord("A") + i) for i, arm in enumerate(arms)}
    return {
        "cells": len(sequences),
        "interleaved": len(interleaved),
        "example": " ".join(letters[arm] for arm in longest),
        "letters": {letter: arm for arm, letter in letters.items()},
    }


def _changes(arms: Sequence[str]) -> int:
    return sum(a != b for a, b in pairwise(arms))


def _guards(contexts: Sequence[Json]) -> list[Json]:
    """Per guard: how many blocks passed, failed, warned, could not tell; and up to three distinct details."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    details: dict[str, dict[str, None]] = defaultdict(dict)
    for context in contexts:
        for guard in context["guards"]:
            counts[guard["id"]][guard["status"]] += 1
            if guard["status"] in ("fail", "warn") and guard.get("detail"):
                details[guard["id"]][guard["detail"]] = None
    return [
        {"id": name}
        | {status: count.get(status, 0) for status in ("ok", "fail", "warn", "unknown")}
        | {"details": list(details[name])[:3]}
        for name, count in counts.items()
    ]


def _lane(contexts: Sequence[Json]) -> Json:
    lanes = [c["lane"] for c in contexts if c.get("lane")]
    switches = [
        entry["switch_s"] for entry in lanes if entry.get("action") == "woken" and is_number(entry.get("switch_s"))
    ]
    return {
        "lanes": sorted({entry["lane"] for entry in lanes if entry.get("lane")}),
        "modes": dict(Counter(entry["mode"] for entry in lanes if entry.get("mode"))),
        "actions": dict(Counter(entry["action"] for entry in lanes if entry.get("action"))),
        "switches": len(switches),
        "switch_s_median": median(switches) if switches else None,
        "switch_s_max": max(switches, default=None),
        "notes": list(dict.fromkeys(entry["note"] for entry in lanes if entry.get("note"))),
    }


def _share(sessions: Iterable[Json]) -> Json:
    """Share of the time that lanes were held (servers up) which lies inside measured blocks."""
    told = [s for s in sessions if is_number(s.get("measured_s")) and is_number(s.get("held_s"))]
    measured, held = sum(s["measured_s"] for s in told), sum(s["held_s"] for s in told)
    return {
        "measured_s": measured if told else None,
        "held_s": held if told else None,
        "share": measured / held if held > 0 else None,
    }


def wall_time(contexts: Iterable[Json]) -> list[Json]:
    """Per lane, how much of the wall time from its first block's start to its last block's end lies inside blocks.

    Unlike `share`, which knows the leases only, this counts the time between jobs too. Returns
    [{lane, measured_s, wall_s, share, longest_pause_s}], in seconds; a long pause tells of a run that was interrupted
    or extended later. Blocks whose lane is not told are left out.
    """
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for context in contexts:
        if name := (context.get("lane") or {}).get("lane"):
            spans[name].append((context["started_unix"], context["duration_s"]))
    return [{"lane": name} | _wall(sorted(blocks)) for name, blocks in sorted(spans.items())]


def _wall(blocks: Sequence[tuple[float, float]]) -> Json:
    """Of the (start, duration) of one lane's blocks, in order; they do not overlap, as a lane serves one at a time.

    Where they seem to, the machine's clock was set during the run, and nothing can be said.
    """
    ends = [start + duration for start, duration in blocks]
    measured, wall = sum(duration for _, duration in blocks), ends[-1] - blocks[0][0]
    pauses = [start - end for end, (start, _) in zip(ends, blocks[1:], strict=False)]
    sound = wall > 0 and all(pause > -CLOCK_STEP_S for pause in pauses)
    return {
        "measured_s": round(measured, 3),
        "wall_s": round(wall, 3),
        "share": measured / wall if sound else None,
        "longest_pause_s": round(max(pauses), 3) if pauses and sound else None,
    }


def _session(record: Json) -> Json:
    keys = ("mode", "memory_before_mib", "memory_after_stop_mib", "memory_returned", "measured_s", "held_s")
    events = Counter(event["event"] for event in record.get("events", []))
    return {key: record.get(key) for key in keys} | {"events": dict(events)}


def _client(contexts: Sequence[Json]) -> Json:
    def values(name: str) -> list[float]:
        return _numbers((c.get("client") or {}).get(name) for c in contexts)

    return {
        "cpu_share_max": max(values("cpu_share"), default=None),
        "loop_lag_p99_ms_max": max(values("loop_lag_p99_ms"), default=None),
        "coalesced_share_max": max(values("coalesced_share"), default=None),
        "concurrency_held_min": min(values("concurrency_held"), default=None),
    }


def _cells(contexts: Sequence[Json]) -> list[Json]:
    """Per arm and cell: validity, what limited it (the part that most blocks name), telemetry means."""
    rows = []
    for key, group in _by_key(contexts).items():
        parts = Counter(str((c.get("bottleneck") or {}).get("part") or "unknown") for c in group)
        part = parts.most_common(1)[0][0]
        sentences = [c["bottleneck"].get("sentence") for c in group if (c.get("bottleneck") or {}).get("part") == part]
        telemetry = [c.get("telemetry") or {} for c in group]
        rows.append(
            _named(key)
            | {
                "blocks": len(group),
                "valid": sum(bool(c["valid"]) for c in group),
                "bottleneck": part,
                "bottleneck_blocks": parts[part],
                "bottleneck_sentence": next((s for s in sentences if s), None),
                "preemptions": _delta(group, "preemptions"),
                "kv_usage_peak": max((v for c in group if is_number(v := _peak(c, "kv_usage"))), default=None),
            }
            | {name: _mean(entry.get(name) for entry in telemetry) for name in TELEMETRY}
        )
    return rows


def _peak(context: Json, name: str) -> Any:
    return ((context.get("server") or {}).get("peak") or {}).get(name)


def _delta(contexts: Iterable[Json], name: str) -> float | None:
    """Sum over blocks of one server counter's difference; None where no block tells it."""
    told = [((c.get("server") or {}).get("delta") or {}).get(name) for c in contexts]
    numbers = _numbers(told)
    return sum(numbers) if numbers else None


def _numbers(values: Iterable[Any]) -> list[float]:
    return [value for value in values if is_number(value)]


def _mean(values: Iterable[Any]) -> float | None:
    numbers = _numbers(values)
    return sum(numbers) / len(numbers) if numbers else None


def _server(contexts: Sequence[Json]) -> Json:
    incidents = [i for c in contexts for i in ((c.get("server") or {}).get("incidents") or [])]
    return {
        "prefix_cache_hits": _delta(contexts, "prefix_cache_hits"),
        "preemptions": _delta(contexts, "preemptions"),
        "generation_tokens": _delta(contexts, "generation_tokens"),
        "client_tokens": sum(_numbers(c["metrics"].get("tokens_out") for c in contexts)),
        "incidents": dict(Counter(i["id"] for i in incidents)),
    }


def _gaps(contexts: Sequence[Json]) -> Json:
    """{telemetry field: {blocks that miss it, the first reason given}}."""
    gaps: Json = {}
    for context in contexts:
        for name, reason in ((context.get("telemetry") or {}).get("missing") or {}).items():
            gaps.setdefault(name, {"blocks": 0, "reason": reason})["blocks"] += 1
    return gaps
