"""The section "How it was measured": versions, order, validity, lane time, client, guards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from quantbench.config import command_line
from quantbench.judge import doubts
from quantbench.judge.guards import meanings
from quantbench.records.block import Calibration
from quantbench.records.cell import Cell
from quantbench.records.finding import Finding, finding
from quantbench.records.layout import Results
from quantbench.records.measurement import Wall
from quantbench.records.run import Run
from quantbench.report.document import Code, Details, Part, Section, Table, bullets, table, text
from quantbench.report.say import Speech
from quantbench.wording import integer, number, sentence

MODES: Final = {
    "sleep": "method.mode_sleep",
    "resident": "method.mode_resident",
    "restart": "method.mode_restart",
    "endpoint": "method.mode_endpoint",
}
CALIBRATION: Final = {
    # a figure of a calibration: how it is called
    "ttft_error_p50_ms": "TTFT error p50 (ms)",
    "ttft_error_p95_ms": "TTFT error p95 (ms)",
    "e2e_error_p50_ms": "E2E error p50 (ms)",
    "cpu_share": "CPU share",
    "loop_lag_p99_ms": "loop lag p99 (ms)",
    "concurrency_held": "concurrency held",
}
ERRORS: Final = {"ttft_error_p50_ms": "TTFT p50", "ttft_error_p95_ms": "TTFT p95"}


def section(run: Run, say: Speech) -> Section:
    """A list of short sentences, the guards that found something, the blocks that were refused."""
    control = run.verdict.aa.words if run.verdict.aa.present else ""
    return Section(
        "How it was measured",
        (
            *bullets([say.all(_where(run)), *map(say, _blocks(run)), sentence(control), *map(say, _lane(run))]),
            *_guards(run, say),
            *_refused(run, say),
        ),
    )


def guard_details(run: Run, say: Speech) -> Details:
    """Every guard on blocks with its counts and what it saw, and the client's calibration, to be folded away."""
    guards, calibration = run.measurement.guards, calibration_table(run)
    summary = say("method.all_guards", n=len(guards))
    return Details(summary, (guard_table(run, say), *([calibration] if calibration.rows else [])))


def _where(run: Run) -> Iterator[Finding]:
    """Machine, versions and date; settings that only one model has."""
    kinds: dict[str, dict[str, None]] = {}
    for versions in run.measurement.versions.values():
        for name, version in versions.as_dict().items():
            if version:
                kinds.setdefault(name, {})[str(version)] = None
    named = [f"{name} {', '.join(found)}" for name, found in kinds.items()]
    first, last = run.measurement.first_block_at, run.measurement.last_block_at
    yield finding(
        "method.machine",
        gpu=run.plan.gpu_name,
        versions=finding("method.versions", versions=", ".join(named)) if named else "",
        when=finding("method.when", first=_minute(first), last=_minute(last, of=first)) if first and last else "",
    )
    for model, own in run.plan.server_differences.items():
        yield finding("method.own_settings", model=model, settings=[f"{key}: {value}" for key, value in own.items()])


def _minute(iso: str, of: str = "") -> str:
    """ "2026-11-27 13:04", the hour alone on the day `of`."""
    return iso[11:16] if iso[:10] == of[:10] else iso[:16].replace("T", " ")


def _blocks(run: Run) -> Iterator[Finding]:
    """How many blocks, in which order."""
    blocks, order = run.measurement.blocks, run.measurement.order
    per_cell = finding("method.per_cell", most=blocks.most_per_cell)
    if blocks.fewest_per_cell < blocks.most_per_cell:
        per_cell = finding("method.per_cell_range", fewest=blocks.fewest_per_cell, most=blocks.most_per_cell)
    counts = {"valid": blocks.valid, "total": blocks.total, "measured": run.measurement.measured_s}
    yield finding("method.blocks", per_cell=per_cell, **counts)
    if not order.cells or not run.variants:
        yield finding("method.one_model")
        return
    example = order.example.replace(" ", "")
    ordered, tellable = doubts.interleaved(run.verdict)
    if not tellable:
        yield finding("method.order_unknown", order=example)
    elif ordered == tellable:
        yield finding("method.interleaved", order=example)
    elif ordered:
        yield finding("method.partly_interleaved", interleaved=ordered, n=tellable, order=example)
    else:
        yield finding("method.not_interleaved", order=example)


def _lane(run: Run) -> Iterator[Finding]:
    """Change of model, time used, client, limits, counters, precision."""
    lane = run.measurement.lane
    if lane.modes:
        modes = [finding(MODES[mode]) if mode in MODES else mode for mode in lane.modes]
        times = {"n": lane.switches, "median": lane.switch_s_median, "longest": lane.switch_s_max}
        yield finding("method.lane", modes=modes, switches=finding("method.switches", **times) if lane.switches else "")
    yield from (finding("method.lane_note", note=note) for note in lane.notes)
    yield from _shares(run)
    if gone := [m for m, session in run.measurement.sessions.items() if session.memory_returned is False]:
        yield finding("method.memory_gone", models=gone)
    yield from _client(run)
    yield from _limits(run)
    yield from _server(run)
    yield from _precision(run)


def _shares(run: Run) -> Iterator[Finding]:
    """How much of the time was measured: of the leases, and of the wall time, which has the gaps between jobs too."""
    share = run.measurement.share.share
    shares = [] if share is None else [finding("method.held", share=share)]
    shares += [_wall(wall) for wall in run.measurement.wall if wall.share is not None]
    if share is None:
        yield finding("method.held_unknown")
    if shares:
        yield finding("method.inside", shares=shares)


def _wall(wall: Wall) -> Finding:
    pause = "" if wall.longest_pause_s is None else finding("method.pause", pause=wall.longest_pause_s)
    return finding("method.wall", share=wall.share, lane=wall.lane, pause=pause)


def _client(run: Run) -> Iterator[Finding]:
    """The load client at its worst, in the run and against a server of known timing."""
    client, limits = run.measurement.client, []
    if client.cpu_share_max is not None:
        limits.append(finding("method.client_cpu", share=client.cpu_share_max))
    if client.loop_lag_p99_ms_max is not None:
        limits.append(finding("method.client_lag", lag=client.loop_lag_p99_ms_max))
    if client.concurrency_held_min is not None:
        limits.append(finding("method.client_held", share=client.concurrency_held_min))
    if limits:
        yield finding("method.client", limits=limits)
    errors = [
        finding("method.calibration_error", error=max(map(abs, known)), of=words)
        for name, words in ERRORS.items()
        if (known := _known(run.measurement.calibration, name))
    ]
    if errors:
        yield finding("method.calibration", errors=errors)


def _known(calibrations: Iterable[Calibration], name: str) -> list[float]:
    return [value for calibration in calibrations if (value := getattr(calibration, name)) is not None]


def _limits(run: Run) -> Iterator[Finding]:
    """Why cells were not limited by the engine, each reason once; the sections on capacity say what limited which."""
    cells: dict[str, list[Finding]] = {}
    for use in run.measurement.cells:
        if use.bottleneck != "engine" and use.bottleneck_sentence:
            where = finding("method.limited_cell", arm=use.model, workload=use.workload, cell=use.cell)
            cells.setdefault(use.bottleneck_sentence, []).append(where)
    yield from (finding("method.limited", sentence=said, cells=where) for said, where in cells.items())


def _server(run: Run) -> Iterator[Finding]:
    server = run.measurement.server
    counters = []
    if server.prefix_cache_hits is not None:
        counters.append(finding("method.hits", n=round(server.prefix_cache_hits)))
    if server.preemptions is not None:
        counters.append(finding("method.preemptions", n=round(server.preemptions)))
    if not counters:
        yield finding("method.no_counters")
        return
    both = {"server": server.generation_tokens, "client": server.client_tokens}
    if server.generation_tokens is not None:
        counters.append(finding("method.tokens", **both))
    yield finding("method.counters", counters=counters)


def _precision(run: Run) -> Iterator[Finding]:
    """How many comparisons are as precise as wanted, and what would bring the others there."""
    plan = run.verdict.precision
    if not plan.target or not run.verdict.rows:
        return
    counts = [finding("method.reached", n=len(plan.reached))]
    others = (
        ("method.missing", plan.missing),
        ("method.out_of_reach", plan.out_of_reach),
        ("method.untested", plan.untested),
        ("method.refused_precision", plan.refused),
    )
    counts += [finding(id_, n=len(entries)) for id_, entries in others if entries]
    next_: Finding | str = ""
    if plan.extra_blocks:
        command = command_line.text(command_line.with_value(run.command, "extra_blocks", plan.extra_blocks))
        open_ = [entry for entry in (*plan.missing, *plan.refused) if entry.blocks_more]
        known = all(entry.half_width is not None for entry in open_)
        next_ = finding("method.next" if known else "method.next_begins", command=command)
    yield finding("method.precision", target=plan.target, counts=counts, next=next_)


def calibration_table(run: Run) -> Table:
    """The client against the server of known timing, a row per concurrency."""
    entries = run.measurement.calibration
    columns = [name for name in CALIBRATION if _known(entries, name)]
    rows = [[integer(entry.concurrency), *(number(getattr(entry, name)) for name in columns)] for entry in entries]
    caption = "The client measured against a server whose timing is known"
    head = ["concurrency", *(CALIBRATION[name] for name in columns)]
    return table(head, rows if columns else [], caption=caption, words=())


def _guards(run: Run, say: Speech) -> tuple[Part, ...]:
    """Guards that failed or warned in a block, the others counted; checks beyond blocks that did not pass."""
    guards, checks, said = run.measurement.guards, run.measurement.checks, []
    if guards:
        loud = sum(bool(guard.fail or guard.warn) for guard in guards)
        silent = sum(bool(guard.unknown and not guard.ok + guard.fail + guard.warn) for guard in guards)
        failed = [finding("method.guard", guard=guard.id, n=guard.fail) for guard in guards if guard.fail]
        warned = [finding("method.guard", guard=guard.id, n=guard.warn) for guard in guards if guard.warn]
        named = {
            "silent": finding("method.guards_silent", unknown=silent) if silent else "",
            "failed": finding("method.guards_failed", guards=failed) if failed else "",
            "warned": finding("method.guards_warned", guards=warned) if warned else "",
        }
        counts = {"n": len(guards), "passed": len(guards) - loud - silent}
        said.append(say("method.guards", **counts, **named))
    lines = _checks(run)
    if checks:
        passed, unknown = (sum(check.status == status for check in checks) for status in ("ok", "unknown"))
        others = finding("method.others") if lines else finding("method.no_others")
        quiet = finding("method.checks_silent", unknown=unknown) if unknown else ""
        said.append(say("method.checks", n=len(checks), passed=passed, silent=quiet, others=others))
    return (text(*said), *bullets([say(line) for line in lines])) if said else ()


def guard_table(run: Run, say: Speech) -> Table:
    """What every guard on blocks said: in how many it passed, failed, warned, could not tell."""
    titles, rows, notes = meanings(), [], []
    for guard in run.measurement.guards:
        counts = [integer(count) for count in (guard.ok, guard.fail, guard.warn, guard.unknown)]
        rows.append([f"`{guard.id}`", *counts, titles.get(guard.id, "")])
        if guard.details:
            notes.append(say("method.guard_details", guard=guard.id, details="; ".join(guard.details)))
    columns = ["guard", "ok", "fail", "warn", "unknown", "what it finds"]
    caption = "Guards: in how many blocks each check passed, failed, warned or could not tell"
    return table(columns, rows, caption=caption, notes=notes, words=(0, 5))


def _checks(run: Run) -> list[Finding]:
    """Guards of servers, comparisons and the run that failed or warn."""
    ids = {"fail": "method.check_failed", "warn": "method.check_warned"}
    return [
        finding(
            ids[check.status],
            of=finding("method.whole_run") if check.of == "run" else run.label(check.of),
            guard=check.id,
            detail=check.detail.rstrip("."),
        )
        for check in run.measurement.checks
        if check.status in ids
    ]


def _refused(run: Run, say: Speech) -> tuple[Part, ...]:
    """One line per arm, cell and reason with refused blocks, and the lines that measure them again."""
    groups: dict[tuple[str, Cell, tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for refused in run.measurement.blocks.invalid:
        groups.setdefault((refused.model, refused.cell, refused.reasons, refused.details), []).append(refused.block)
    if not groups:
        return ()
    lines = [
        finding(
            "method.refused_blocks",
            n=len(blocks),
            arm=arm,
            workload=cell.workload,
            cell=cell,
            blocks=blocks,
            guards=guards,
            details=finding("method.details", details="; ".join(details)) if details else "",
        )
        for (arm, cell, guards, details), blocks in groups.items()
    ]
    return text(say("method.refused")), *bullets([say(line) for line in lines]), _again(run, say)


def _again(run: Run, say: Speech) -> Part:
    """The files to delete, of one block of all arms per line, and the command."""
    results = Results(run.plan.gpu)
    lines = []
    for again in doubts.measure_again(run):
        files = (results.path("block", again.cell, arm=arm, block=again.block) for arm in again.arms)
        lines.append(f"rm {' '.join(file.removesuffix('json') + '*' for file in files)}")
    return Code("\n".join([*lines, command_line.text(run.command)]), caption=say("method.again"))
