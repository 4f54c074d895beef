"""How a run was measured, from its blocks: order, validity, guards, lane time, client (`measurement.json`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, get_args

from quantbench.judge.guards import of_plan
from quantbench.judge.scatter import scatter
from quantbench.judge.siblings import far
from quantbench.observe import bound
from quantbench.records.base import Number
from quantbench.records.block import BlockContext, Calibration, HostLoad, Status, Telemetry
from quantbench.records.cell import Cell, served_model
from quantbench.records.measurement import (
    Blocks,
    CellUse,
    Check,
    ClientUse,
    Gap,
    GuardCount,
    HostUse,
    LaneUse,
    Measurement,
    Order,
    RefusedBlock,
    ServerUse,
    SessionUse,
    Share,
    Wall,
)
from quantbench.records.server import Ready, Session

CLOCK_STEP_S = 1.0
"""Starts are of the wall clock, durations are not: they may disagree by what NTP corrects."""
TELEMETRY = tuple(name for name in CellUse.__struct_fields__ if name in Telemetry.__struct_fields__)
"""Fields of a block's telemetry whose mean a cell has."""
HOST = tuple(name for name in CellUse.__struct_fields__ if name in HostLoad.__struct_fields__)
"""The same of its host."""


def summarize(
    contexts: Sequence[BlockContext],
    ready: Mapping[str, Ready],
    sessions: Mapping[str, Session],
    calibrations: Sequence[Calibration],
    *,
    gpu_name: str = "",
    checks: Iterable[Check] = (),
) -> Measurement:
    """One description of the whole run. contexts: judged blocks of all arms, the A/A arm too; the others by model.

    Blocks of another configuration are only counted among the refused ones.
    """
    everything = sorted(contexts, key=lambda block: block.started_unix)
    ordered = of_plan(everything)
    first, last = (ordered[0], ordered[-1]) if ordered else (None, None)
    gaps = _gaps(ordered)
    return Measurement(
        gpu=first.gpu if first else None,
        first_block_at=first.started_at if first else None,
        last_block_at=last.started_at if last else None,
        measured_s=sum(block.duration_s for block in ordered),
        versions={model: record.versions for model, record in ready.items()},
        blocks=_blocks(everything),
        order=_order(ordered, list(ready)),
        guards=_guards(everything),
        lane=_lane(ordered),
        share=_share(sessions.values()),
        wall=wall_time(ordered),
        sessions={model: _session(record) for model, record in sessions.items()},
        client=_client(ordered),
        calibration=tuple(sorted(calibrations, key=lambda entry: entry.concurrency)),
        calibration_age_s=_calibration_age(last, calibrations),
        cells=tuple(_cell(*arm, blocks, ready) for arm, blocks in _by_arm(ordered).items()),
        server=_server(ordered),
        telemetry_missing={name: gap.reason for name, gap in gaps.items() if gap.blocks == len(ordered)},
        telemetry_gaps={name: gap for name, gap in gaps.items() if gap.blocks < len(ordered)},
        gpu_name=gpu_name,
        checks=tuple(checks),
        far=tuple(one for arm in _by_arm(ordered).values() for one in far(arm)),
        host=_host(ordered),
        scatter=scatter(_by_arm(ordered).values()),
    )


def _calibration_age(last: BlockContext | None, calibrations: Sequence[Calibration]) -> float | None:
    """Seconds from the oldest calibration to the last block; None where a calibration does not tell its time."""
    times = _known(entry.measured_unix for entry in calibrations)
    if last is None or not times or len(times) < len(calibrations):
        return None
    return last.started_unix - min(times)


def _by_arm(blocks: Iterable[BlockContext]) -> dict[tuple[str, Cell], list[BlockContext]]:
    groups: dict[tuple[str, Cell], list[BlockContext]] = defaultdict(list)
    for block in blocks:
        groups[block.arm, block.cell].append(block)
    return groups


def _blocks(blocks: Sequence[BlockContext]) -> Blocks:
    counts = [len(group) for group in _by_arm(blocks).values()]
    invalid = tuple(
        RefusedBlock(
            model=block.arm,
            **block.cell.columns,
            block=block.block,
            reasons=block.reasons,
            details=tuple(guard.detail for guard in block.guards if guard.status == "fail" and guard.detail),
        )
        for block in blocks
        if not block.valid
    )
    return Blocks(
        total=len(blocks),
        valid=len(blocks) - len(invalid),
        invalid=invalid,
        cells=len(counts),
        fewest_per_cell=min(counts, default=0),
        most_per_cell=max(counts, default=0),
    )


def _order(blocks: Sequence[BlockContext], models: Sequence[str]) -> Order:
    """How the arms followed each other; A is the first of `models`, arms that are not in it come last."""
    cells: dict[Cell, list[str]] = defaultdict(list)
    for block in blocks:
        cells[block.cell].append(block.arm)
    sequences = [arms for arms in cells.values() if len(set(arms)) > 1]
    longest = max(sequences, key=len, default=[])
    ranks = {model: i for i, model in enumerate(models)}
    arms = sorted(dict.fromkeys(longest), key=lambda arm: ranks.get(arm, len(ranks)))
    letters = {arm: chr(ord("A") + i) for i, arm in enumerate(arms)}
    return Order(
        cells=len(sequences),
        example=" ".join(letters[arm] for arm in longest),
        letters={letter: arm for arm, letter in letters.items()},
    )


def _guards(blocks: Sequence[BlockContext]) -> tuple[GuardCount, ...]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    details: dict[str, dict[str, None]] = defaultdict(dict)
    for guard in (guard for block in blocks for guard in block.guards):
        counts[guard.id][guard.status] += 1
        if guard.status in ("fail", "warn") and guard.detail:
            details[guard.id][guard.detail] = None
    return tuple(
        GuardCount(id=name, details=tuple(details[name])[:3], **{status: count[status] for status in get_args(Status)})
        for name, count in counts.items()
    )


def _lane(blocks: Sequence[BlockContext]) -> LaneUse:
    lanes = [block.lane for block in blocks]
    switches = _known(lane.switch_s for lane in lanes if lane.action == "woken")
    return LaneUse(
        modes=dict(Counter(lane.mode for lane in lanes if lane.mode)),
        switches=len(switches),
        switch_s_median=median(switches) if switches else None,
        switch_s_max=max(switches, default=None),
        notes=tuple(dict.fromkeys(lane.note for lane in lanes if lane.note)),
    )


def _share(sessions: Iterable[Session]) -> Share:
    times = [(s.measured_s, s.held_s) for s in sessions if s.measured_s is not None and s.held_s is not None]
    if not times:
        return Share(measured_s=None, held_s=None, share=None)
    measured, held = (sum(side) for side in zip(*times, strict=True))
    return Share(measured_s=measured, held_s=held, share=measured / held if held > 0 else None)


def wall_time(blocks: Iterable[BlockContext]) -> tuple[Wall, ...]:
    """Per lane, how much of the wall time from its first block's start to its last block's end lies inside blocks.

    Unlike `share`, which knows the leases only, this counts the time between jobs too; a long pause tells of a run that
    was interrupted or extended later. Blocks whose lane is not told are left out.
    """
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for block in blocks:
        if block.lane.lane:
            spans[block.lane.lane].append((block.started_unix, block.duration_s))
    return tuple(
        _wall(name, sorted(times), [span for other, some in spans.items() if other != name for span in some])
        for name, times in sorted(spans.items())
    )


def _wall(lane: str, times: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> Wall:
    """Of the (start, duration) of one lane's blocks, in order; they do not overlap, as a lane serves one at a time.

    Where they seem to, the machine's clock was set during the run, and nothing can be said.
    """
    ends = [start + duration for start, duration in times]
    measured, wall = sum(duration for _, duration in times), ends[-1] - times[0][0]
    pauses = [start - end for end, (start, _) in zip(ends, times[1:], strict=False)]
    sound = wall > 0 and all(pause > -CLOCK_STEP_S for pause in pauses)
    return Wall(
        lane=lane,
        measured_s=round(measured, 3),
        wall_s=round(wall, 3),
        share=measured / wall if sound else None,
        longest_pause_s=round(max(pauses), 3) if pauses and sound else None,
        beside=_overlap(times, others) / measured if others and measured and sound else None,
    )


def _overlap(times: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> float:
    """How many seconds of `times`, (start, duration) each, lie within any of `others`."""
    total = 0.0
    for start, duration in times:
        reached = start
        for begin, length in sorted(others):
            low, high = max(begin, reached), min(begin + length, start + duration)
            if high > low:
                total, reached = total + high - low, high
    return total


def _session(record: Session) -> SessionUse:
    same: dict[str, Any] = {name: getattr(record, name) for name in SessionUse.__struct_fields__ if name != "events"}
    return SessionUse(**same, events=dict(Counter(event.event for event in record.events)))


def _client(blocks: Sequence[BlockContext]) -> ClientUse:
    clients = [block.client for block in blocks]
    return ClientUse(
        cpu_share_max=max(_known(client.cpu_share for client in clients), default=None),
        loop_lag_p99_ms_max=max(_known(client.loop_lag_p99_ms for client in clients), default=None),
        concurrency_held_min=min(_known(client.concurrency_held for client in clients), default=None),
    )


def _cell(arm: str, cell: Cell, blocks: Sequence[BlockContext], ready: Mapping[str, Ready]) -> CellUse:
    """Validity, what limited it (the part that most blocks name), telemetry means, what bounds its valid blocks."""
    limits = [block.bottleneck for block in blocks]
    telemetry: dict[str, Any] = {name: _mean(getattr(b.telemetry, name) for b in blocks) for name in TELEMETRY}
    host: dict[str, Any] = {name: _mean(getattr(b.host, name) for b in blocks) for name in HOST}
    [(part, count)] = Counter(limit.part for limit in limits).most_common(1)
    found = bound.of_cell([block for block in blocks if block.valid] or blocks, ready.get(served_model(arm)))
    return CellUse(
        model=arm,
        **cell.columns,
        blocks=len(blocks),
        valid=sum(block.valid for block in blocks),
        bottleneck=part,
        bottleneck_blocks=count,
        bottleneck_sentence=next((limit.sentence for limit in limits if limit.part == part and limit.sentence), None),
        preemptions=_sum(block.server.delta.preemptions for block in blocks),
        kv_usage_peak=max(_known(block.server.peak.kv_usage for block in blocks), default=None),
        **telemetry,
        bound=found.bound,
        bandwidth_share=found.bandwidth_share,
        compute_share=found.compute_share,
        step_ms=found.step_ms,
        floor_ms=found.floor_ms,
        bound_reason=found.reason,
        **host,
    )


def _host(blocks: Sequence[BlockContext]) -> HostUse:
    hosts = [block.host for block in blocks]
    foreign = [host.foreign_cpu_cores for host in hosts]
    return HostUse(
        cpus=max((host.cpus for host in hosts if host.cpus is not None), default=None),
        foreign_cpu_cores=_mean(foreign),
        foreign_cpu_cores_max=max(_known(foreign), default=None),
        steal_share_max=max(_known(host.steal_share for host in hosts), default=None),
        throttled_share_max=max(_known(host.throttled_share for host in hosts), default=None),
        elsewhere=any(host.server_here is False for host in hosts),
    )


def _server(blocks: Sequence[BlockContext]) -> ServerUse:
    deltas = [block.server.delta for block in blocks]
    return ServerUse(
        prefix_cache_hits=_sum(delta.prefix_cache_hits for delta in deltas),
        preemptions=_sum(delta.preemptions for delta in deltas),
        generation_tokens=_sum(delta.generation_tokens for delta in deltas),
        client_tokens=sum(_known(block.metrics.get("tokens_out") for block in blocks)),
        incidents=dict(Counter(incident.id for block in blocks for incident in block.server.incidents)),
    )


def _gaps(blocks: Sequence[BlockContext]) -> dict[str, Gap]:
    counts: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for block in blocks:
        counts.update(block.telemetry.missing.keys())
        reasons = {**block.telemetry.missing, **reasons}
    return {name: Gap(blocks=count, reason=reasons[name]) for name, count in counts.items()}


def _known(values: Iterable[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def _sum(values: Iterable[Number | None]) -> Number | None:
    """None where no block tells it."""
    known = _known(values)
    return sum(known) if known else None


def _mean(values: Iterable[Number | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None
