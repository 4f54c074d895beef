"""The sections on trust: "How it was measured", "What could still be wrong" and "Provenance"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quantbench.config import command_line
from quantbench.judge import doubts, starts
from quantbench.judge.guards import meanings
from quantbench.judge.scatter import SCATTERED
from quantbench.records.layout import Results
from quantbench.records.measurement import GuardCount
from quantbench.records.run import Run
from quantbench.report.document import (
    Code,
    Details,
    Part,
    Section,
    bullets,
    grouped,
    table,
    text,
    without_empty_columns,
)
from quantbench.report.marks import code
from quantbench.report.say import Speech
from quantbench.wording import integer, sentence


def section(run: Run, say: Speech) -> Section:
    """A list of short sentences, the guards that found something, the blocks that were refused."""
    facts = (_machine, _blocks, _further, _starts, _lane, _shares, _client, _host, _limits, _counters, _precision)
    lines = [line for fact in facts for line in fact(run, say)]
    return Section("How it was measured", (*bullets(lines), *_guards(run, say), *_refused(run, say)))


def doubts_section(run: Run, say: Speech) -> Section:
    """What could still be wrong, from what is absent or flagged in this run (judge/doubts.py)."""
    return Section("What could still be wrong", bullets([*map(say, run.decision.doubts if run.decision else ())]))


def provenance(run: Run, say: Speech) -> Section:
    """What exactly was served, and the command that makes it again."""
    rows = []
    for model, ready in run.ready.items():
        seen = ready.quantization
        commit = f" @ {ready.revision.commit[:12]}" if ready.revision else ""
        cells = [ready.source + commit, seen.method, seen.label, seen.kernel, ready.system_fingerprint, ready.spec_hash]
        rows.append([say.label(model), *(cell or "" for cell in cells)])
    columns = ["model", "source", "method", "label", "kernel", "fingerprint", "settings hash"]
    served = without_empty_columns(table(columns, rows))
    return Section("Provenance", (served, Code(command_line.text(run.command), caption="Reproduce")))


def guard_details(run: Run, say: Speech) -> Details:
    """Every guard on blocks with its counts and what it saw, to be folded away."""
    titles, rows, notes = meanings(), [], []
    for guard in run.measurement.guards:
        counts = [integer(count) for count in (guard.ok, guard.fail, guard.warn, guard.unknown)]
        rows.append([code(guard.id), *counts, titles.get(guard.id, "")])
        if guard.details:
            notes.append(say("method.guard_details", guard=guard.id, details=guard.details))
    columns = ["guard", "ok", "fail", "warn", "unknown", "what it finds"]
    caption = "Guards: in how many blocks each check passed, failed, warned or could not tell"
    return Details(say("method.all_guards", n=len(rows)), (table(columns, rows, caption=caption, notes=notes),))


def _machine(run: Run, say: Speech) -> Iterator[str]:
    """Machine, versions and date; settings that only one model has."""
    kinds: dict[str, dict[str, None]] = {}
    for versions in run.measurement.versions.values():
        for name, version in versions.as_dict().items():
            if version:
                kinds.setdefault(name, {})[str(version)] = None
    named = ", ".join(f"{name} {', '.join(versions)}" for name, versions in kinds.items())
    first, last = run.measurement.first_block_at or "", run.measurement.last_block_at or ""
    when = {"first": _minute(first), "last": _minute(last, of=first)}
    own = [
        say("method.own_settings", model=model, settings=[f"{key}: {value}" for key, value in settings.items()])
        for model, settings in run.plan.server_differences.items()
    ]
    yield " ".join([say("method.machine", gpu=run.plan.gpu_name, versions=named, **when), *own])


def _minute(iso: str, of: str = "") -> str:
    """ "2026-11-27 13:04", the hour alone on the day `of`."""
    return iso[11:16] if iso[:10] == of[:10] else iso[:16].replace("T", " ")


def _blocks(run: Run, say: Speech) -> Iterator[str]:
    """How many blocks, in which order; what the A/A control shows."""
    blocks, order = run.measurement.blocks, run.measurement.order
    fewest = blocks.fewest_per_cell if blocks.fewest_per_cell < blocks.most_per_cell else None
    counts = {"fewest": fewest, "most": blocks.most_per_cell, "valid": blocks.valid, "total": blocks.total}
    yield say("method.blocks", **counts, measured=run.measurement.measured_s)
    if not order.cells or not run.variants:
        yield say("method.one_model")
    else:
        ordered, n = doubts.interleaved(run.verdict)
        form = "unknown" if not n else "all" if ordered == n else "some" if ordered else "none"
        yield say("method.interleaved", form=form, order=order.example.replace(" ", ""), interleaved=ordered, n=n)
    yield sentence(run.verdict.aa.words if run.verdict.aa.present else "")


def _starts(run: Run, say: Speech) -> Iterator[str]:
    """Where servers were started several times: the scatter between starts and within one, what intervals are of."""
    parts = [
        say("method.of_starts", variant=variant, between=between, within=within)
        for variant, between, within in starts.scatter(run.verdict)
    ]
    if parts:
        counts = [row.starts for row in run.verdict.starts]
        fewest, most = min(counts), max(counts)
        form = "start" if any(row.by_start for row in run.verdict.rows) else "block"
        yield say("method.starts", form=form, fewest=fewest if fewest < most else None, most=most, parts=parts)


def _lane(run: Run, say: Speech) -> Iterator[str]:
    """Change of model; what the lanes remarked, and memory that a stop did not give back."""
    lane = run.measurement.lane
    if lane.modes:
        modes = [say("method.mode", form=mode) for mode in lane.modes]
        times = {"n": lane.switches, "median": lane.switch_s_median, "longest": lane.switch_s_max}
        yield say("method.lane", modes=modes, **(times if lane.switches else {}))
    yield from (say("method.lane_note", note=note) for note in lane.notes)
    if gone := [m for m, session in run.measurement.sessions.items() if session.memory_returned is False]:
        yield say("method.memory_gone", models=gone)


def _further(run: Run, say: Speech) -> Iterator[str]:
    """What the budget for open answers did."""
    if (further := run.measurement.further) is None:
        return
    places = [(cell.split("/")[0], cell, n) for cell, n in further.blocks.items()]
    cells = [say("method.further_cell", n=n, workload=workload, cell=cell) for workload, cell, n in places]
    counts = {"decided": further.decided, "answers": further.answers, "budget": further.budget_s}
    yield say("method.further", form="done" if cells else "none", cells=cells, spent=further.spent_s, **counts)


def _shares(run: Run, say: Speech) -> Iterator[str]:
    """How much of the time was measured: of the leases, and of the wall time, which has the gaps between jobs too."""
    share = run.measurement.share.share
    shares = [] if share is None else [say("method.held", share=share)]
    shares += [
        say("method.wall", share=wall.share, lane=wall.lane, pause=wall.longest_pause_s, beside=wall.beside)
        for wall in run.measurement.wall
        if wall.share is not None
    ]
    if share is None:
        yield say("method.held_unknown")
    if shares:
        yield say("method.inside", shares=shares)


def _client(run: Run, say: Speech) -> Iterator[str]:
    """The load client at its worst, in the run and against a server of known timing."""
    limits = [
        say("method.client_limit", form=name, value=value)
        for name in ("cpu_share_max", "loop_lag_p99_ms_max", "concurrency_held_min")
        if (value := getattr(run.measurement.client, name)) is not None
    ]
    if limits:
        yield say("method.client", limits=limits)
    errors = [
        say("method.calibration_error", form=name, error=max(map(abs, known)))
        for name in ("ttft_error_p50_ms", "ttft_error_p95_ms")
        if (known := [e for entry in run.measurement.calibration if (e := getattr(entry, name)) is not None])
    ]
    if errors:
        yield say("method.calibration", errors=errors)


def _host(run: Run, say: Speech) -> Iterator[str]:
    """What the host did beside the run, and whether blocks that scatter do so with it."""
    host, found = run.measurement.host, run.measurement.scatter
    stolen, stopped = host.steal_share_max, host.throttled_share_max
    if host.foreign_cpu_cores is not None:
        mean, peak = f"{host.foreign_cpu_cores:.1f}", f"{host.foreign_cpu_cores_max:.1f}"
        cores = {"mean": mean, "most": peak if peak != mean else None}
        yield say("method.host", cpus=host.cpus, **cores, stolen=stolen or None, stopped=stopped or None)
    if host.elsewhere:
        yield say("method.host_elsewhere")
    if found.cells:
        facts = [
            say("method.goes_with", fact=say("method.fact", form=one.fact), tau=f"{one.tau:+.2f}", n=one.blocks)
            for one in found.offered
        ]
        asked = [say("method.fact", form=name) for name in found.asked]
        form = "offered" if facts else "nothing" if asked else "unknown"
        most = max(cell.sd for cell in found.cells)
        scattered = {"cells": len(found.cells), "most": most, "limit": SCATTERED}
        yield say("method.scatter", form=form, **scattered, facts=facts, asked=asked)


def _limits(run: Run, say: Speech) -> Iterator[str]:
    """Why cells were not limited by the engine, each reason once; the sections on capacity say what limited which."""
    uses = [use for use in run.measurement.cells if use.bottleneck != "engine" and use.bottleneck_sentence]
    for why, limited in grouped(uses, lambda use: use.bottleneck_sentence).items():
        cells = grouped(limited, lambda use: use.cell)
        where = [
            say("method.limited_cell", arms=[use.model for use in of_cell], workload=cell.workload, cell=cell)
            for cell, of_cell in cells.items()
        ]
        yield say("method.limited", sentence=why, cells=where)


def _counters(run: Run, say: Speech) -> Iterator[str]:
    server = run.measurement.server
    counters = [
        say("method.counter", form=name, count=round(count), client=server.client_tokens)
        for name in ("prefix_cache_hits", "preemptions", "generation_tokens")
        if (count := getattr(server, name)) is not None
    ]
    yield say("method.counters", counters=counters) if counters else say("method.no_counters")


def _precision(run: Run, say: Speech) -> Iterator[str]:
    """How many comparisons are as precise as wanted, and what would bring the others there."""
    plan = run.verdict.precision
    if not plan.target or not run.verdict.rows:
        return
    counts = [
        say("method.precise", form=name, n=len(entries))
        for name in ("reached", "missing", "out_of_reach", "untested", "refused")
        if (entries := getattr(plan, name)) or name == "reached"
    ]
    yield say("method.precision", target=plan.target, counts=counts)
    if plan.extra_blocks:
        command = command_line.text(command_line.with_value(run.command, "extra_blocks", plan.extra_blocks))
        open_ = [entry for entry in (*plan.missing, *plan.refused) if entry.blocks_more]
        known = all(entry.half_width is not None for entry in open_)
        yield say("method.next", form="reach" if known else "begin", command=command)


def _guards(run: Run, say: Speech) -> tuple[Part, ...]:
    """Guards that failed or warned in a block, the others counted; checks beyond blocks that did not pass."""
    guards, checks, counts = run.measurement.guards, run.measurement.checks, []
    if guards:
        loud = sum(bool(guard.fail or guard.warn) for guard in guards)
        silent = sum(bool(guard.unknown and not guard.ok + guard.fail + guard.warn) for guard in guards)
        named = {"failed": _named(say, guards, "fail"), "warned": _named(say, guards, "warn")}
        passed = len(guards) - loud - silent
        counts.append(say("method.guards", n=len(guards), passed=passed, silent=silent or None, **named))
    lines = [
        say(
            "method.check",
            form=check.status,
            of=_checked(run, say, check.of),
            guard=check.id,
            detail=check.detail.rstrip("."),
        )
        for check in checks
        if check.status in ("fail", "warn")
    ]
    if checks:
        passed, unknown = (sum(check.status == status for check in checks) for status in ("ok", "unknown"))
        form = "some" if lines else "all"
        counts.append(say("method.checks", form=form, n=len(checks), passed=passed, silent=unknown or None))
    return (text(*counts), *bullets(lines)) if counts else ()


def _named(say: Speech, guards: Iterable[GuardCount], status: str) -> list[str]:
    return [say("method.guard", guard=guard.id, n=n) for guard in guards if (n := getattr(guard, status))]


def _checked(run: Run, say: Speech, of: str) -> str:
    return say("method.whole_run") if of == "run" else run.label(of)


def _refused(run: Run, say: Speech) -> tuple[Part, ...]:
    """One line per arm, cell and reason with refused blocks, and the lines that measure them again."""
    groups = grouped(
        run.measurement.blocks.invalid, lambda block: (block.model, block.cell, block.reasons, block.details)
    )
    lines = []
    for (arm, cell, guards, details), blocks in groups.items():
        where = {"arm": arm, "workload": cell.workload, "cell": cell, "blocks": [block.block for block in blocks]}
        why = {"guards": guards, "details": "; ".join(details)}
        lines.append(say("method.refused_blocks", n=len(blocks), **where, **why))
    return (text(say("method.refused")), *bullets(lines), _again(run, say)) if lines else ()


def _again(run: Run, say: Speech) -> Part:
    """The files to delete, of one block of all arms per line, and the command."""
    results = Results(run.plan.gpu)
    lines = []
    for again in doubts.measure_again(run):
        files = (results.path("block", again.cell, arm=arm, block=again.block) for arm in again.arms)
        lines.append(f"rm {' '.join(file.removesuffix('json') + '*' for file in files)}")
    return Code("\n".join([*lines, command_line.text(run.command)]), caption=say("method.again"))
