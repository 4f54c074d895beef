"""Capacity: what was measured, the ratios to the baseline with their marks, and what the table does not say itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeGuard

from quantbench.judge import guards
from quantbench.records import codes
from quantbench.records.cell import Cell
from quantbench.records.comparison import DECIDED, Comparison
from quantbench.records.measurement import CellUse
from quantbench.records.metric import METRICS, PER_GPU, SPEED, Style, focus
from quantbench.records.run import Run
from quantbench.records.tables import CapacityRow
from quantbench.records.two_runs import RunRow
from quantbench.report.document import Part, Section, Table, bullets, grouped, table
from quantbench.report.marks import bold, code
from quantbench.report.say import Speech
from quantbench.wording import BLANK, change, integer, listing, number, ratio, ratio_ci, sentence

TITLES: Final[dict[Style, str]] = {"interactive": "Chat Capacity", "batch": "Batch Capacity"}
MARKS: Final = {
    "better": "▲", "worse": "▼", "equivalent": "≈", "undecided": "?", "described": "", "no_test": "", "invalid": BLANK
}  # fmt: skip
OUTCOMES: Final = ("better", "worse", "equivalent", "gain", "loss", "undecided", "described", "no_test", "invalid")
"""What may have happened to a metric, in the order in which it is said."""
LATENCIES: Final = ("p95_ttft_ms", "p95_e2e_ms")


def sections(run: Run, say: Speech, style: Style) -> list[Section]:
    """One section per workload of a style; the title names the workload where there are several."""
    names = run.workloads(style)
    versus = f"{run.label(run.baseline)}{' vs Quant' if run.variants else ''}"
    return [
        Section(f"{TITLES[style]}: {versus}{f' ({name})' if len(names) > 1 else ''}", _parts(run, say, name))
        for name in names
    ]


def _parts(run: Run, say: Speech, workload: str) -> tuple[Part, ...]:
    measured, limits = measured_table(run, say, workload), limited(run, say, workload)
    if not run.variants:
        return (measured, *bullets([limits]))
    own = {variant: list(filter(None, _of_variant(run, say, workload, variant))) for variant in run.variants}
    several = len(own) > 1
    shared = [words for words in own[run.variants[0]] if several and all(words in other for other in own.values())]
    lines = []
    for variant, sentences in own.items():
        if words := " ".join(words for words in sentences if words not in shared):
            lines.append(f"{bold(run.label(variant))}: {words}")
    lines.append(" ".join(filter(None, [*shared, limits])))
    return (measured, ratio_table(run, say, workload), *bullets(lines))


# --- tables


def measured_table(run: Run, say: Speech, workload: str) -> Table:
    """The measured values, a row per cell and model; what all rows share stands in the caption."""
    metrics = _with_per_gpu(run, focus(run.style(workload)))
    known = (run.capacity_row(model, cell) for cell in run.cells(workload) for model in run.models)
    rows = [row for row in known if row is not None]
    lengths, blocks = {row.max_tokens for row in rows}, {row.blocks for row in rows}
    columns: dict[str, Callable[[CapacityRow], str]] = {"concurrency": lambda row: str(row.concurrency)}
    if len(lengths) > 1:
        columns["max_tokens"] = lambda row: str(row.max_tokens)
    columns["model"] = lambda row: run.label(row.model)
    columns |= {metric: lambda row, metric=metric: number(row.number(metric)) for metric in metrics}  # type: ignore[misc]
    if any(row.number("failures") for row in rows):
        columns["failures"] = lambda row: integer(row.number("failures"))
    if len(blocks) > 1:
        columns["blocks"] = lambda row: integer(row.blocks)
    requests = [n for row in rows if (n := row.number("n")) is not None]
    shared = {
        "tokens": min(lengths) if len(lengths) == 1 else None,
        "blocks": min(blocks) if len(blocks) == 1 else None,
        "requests": " to ".join(dict.fromkeys(map(integer, (min(requests), max(requests))))) if requests else None,
    }
    caption = say("speed.measured", workload=workload, **shared)
    note = " ".join(dict.fromkeys(note for row in rows for note in _blanks(say, row, metrics)))
    lines = ([show(row) for show in columns.values()] for row in rows)
    return table(list(columns), lines, caption=caption, notes=[note])


def _with_per_gpu(run: Run, metrics: Sequence[str]) -> list[str]:
    """The metrics of a table; where the models use several numbers of GPUs, throughput per GPU after the throughput."""
    several = len({run.plan.arm(model).gpus for model in run.models}) > 1
    return [name for metric in metrics for name in ([metric, PER_GPU] if several and metric == SPEED else [metric])]


def _blanks(say: Speech, row: CapacityRow, metrics: Sequence[str]) -> Iterator[str]:
    """Why figures of a row are blank, and which of its blocks were refused."""
    missing = [code(metric) for metric in metrics if row.number(metric) is None]
    if missing:
        why = say.reasons(filter(codes.blanks_percentile, row.reasons)) or [say("speed.no_valid_block")]
        yield say("speed.blank", metrics=missing, why="; ".join(why))
    if not row.valid:
        why = say.reasons(filter(codes.is_guard, row.reasons), guards.meanings()) or [say("speed.no_reason")]
        yield say("speed.refused", model=row.model, cell=row.cell, n=row.blocks_invalid, why="; ".join(why))


def ratio_table(run: Run, say: Speech, workload: str) -> Table:
    """Ratios with CI and mark, a row per cell and variant; where a cell has no p95 its p50 stands there, named.

    A single variant is named above the table.
    """
    metrics = _with_per_gpu(run, [name for name, metric in METRICS.items() if run.style(workload) in metric.ratio])
    shown = {
        (cell, variant): [_or_median(run, variant, cell, metric) for metric in metrics]
        for cell in run.cells(workload)
        for variant in run.variants
        if run.row(variant, cell, SPEED)
    }
    several = len({cell.max_tokens for cell, _ in shown}) > 1
    one = len(run.variants) == 1
    columns = ["concurrency", *(["max_tokens"] if several else []), *([] if one else ["model"])]
    lines = []
    for (cell, variant), rows in shown.items():
        load = [str(cell.concurrency), *([str(cell.max_tokens)] if several else [])]
        lines.append([*load, *([] if one else [run.label(variant)]), *map(ratio_cell, rows, metrics)])
    whose = f" of {run.label(run.variants[0])}" if one else ""
    caption = f"Ratios{whose} to {run.label(run.baseline)}, {workload}"
    note = _footnote(run, say, [row for rows in shown.values() for row in rows if row])
    return table([*columns, *(METRICS[metric].words for metric in metrics)], lines, caption=caption, notes=[note])


def _or_median(run: Run, variant: str, cell: Cell, metric: str) -> Comparison | None:
    """A comparison; of a p95 that has no ratio the p50's, where that has one."""
    row = run.row(variant, cell, metric)
    if not metric.startswith("p95_") or (row and row.ratio is not None):
        return row
    median = run.row(variant, cell, metric.replace("p95_", "p50_"))
    return median if median and median.ratio is not None else row


def has_ratio(row: Comparison | None) -> TypeGuard[Comparison]:
    """Whether a comparison has a ratio that may be shown."""
    return row is not None and row.ratio is not None and row.code != "invalid"


def ratio_cell(row: Comparison | None, metric: str = "") -> str:
    """ "1.197 [1.070, 1.339] ▲"; "p50 …" before it where the row is not of the column's `metric`."""
    if not has_ratio(row):
        return BLANK
    other = f"{METRICS[row.metric].words.split()[0]} " if metric and row.metric != metric else ""
    return f"{other}{ratio_ci(row.ratio, row.ci_low, row.ci_high)} {MARKS[row.code]}".rstrip()


def change_cell(row: Comparison | None) -> str:
    """ "+19.7 % [+7.0, +33.9] ▲": the ratio as a change."""
    return f"{figure(row)} {MARKS[row.code]}".rstrip() if has_ratio(row) else BLANK


def legend(say: Speech, rows: Sequence[Comparison]) -> str:
    """What the marks mean that these rows have: "▲ better, ? not shown"."""
    marks = {MARKS[row.code] if row.ratio is not None else BLANK for row in rows}
    margin = max(row.margin for row in rows)
    codes_of = {mark: code for code, mark in reversed(MARKS.items())}
    return ", ".join(
        say("speed.mark", form=code, margin=margin) for mark, code in reversed(codes_of.items()) if mark in marks
    )


def _footnote(run: Run, say: Speech, rows: Sequence[Comparison]) -> str:
    """Legend and reasons, in one note."""
    if not rows:
        return ""
    pairs = [row.n_pairs for row in rows if row.ratio is not None]
    notes = [f"{legend(say, rows)}."]
    if pairs:
        counts = {"low": min(pairs) if min(pairs) < max(pairs) else None, "high": max(pairs)}
        primary = next((row.metric for row in rows if row.primary), None)
        notes = [say("speed.legend", **counts, legend=legend(say, rows), primary=primary)]
        for n, some in grouped([row for row in rows if row.first], lambda row: row.first).items():
            notes.append(sentence(say("speed.first", n=n, where=_where(run, some, rows))))
        if rows[0].workload == run.workloads()[0]:
            notes.append(say("speed.not_a_quotient"))
    reasons: dict[str, list[Comparison]] = {}
    for row in rows:
        for words in why(say, row):
            reasons.setdefault(words, []).append(row)
    notes += [sentence(f"{_where(run, some, rows)}: {words}") for words, some in reasons.items()]
    speeds = [row for row in rows if row.metric == SPEED]
    open_ = [row for row in speeds if row.code == "undecided"]
    for n, some in grouped(open_, lambda row: row.blocks_to_decide).items():
        if n:  # what no number of blocks would decide is said once, among the doubts
            margin = max(row.margin for row in some)
            notes.append(say("speed.more_blocks", blocks=n, where=_where(run, some, speeds), margin=margin))
    mixed = [row for row in rows if row.valid and row.n_pairs > 1 and not row.interleaved and row.same_lane]
    if mixed:
        notes.append(sentence(say("speed.not_interleaved", where=_where(run, mixed, rows))))
    return " ".join(notes)


def why(say: Speech, row: Comparison) -> list[str]:
    """What a comparison lacks, or why it has no verdict: its codes, the guards that refused it or blocks of it.

    Refused blocks of a comparison that has its verdict are told with the cell.
    """
    titles = guards.meanings()
    refused = [
        say(
            "speed.refused_blocks",
            model=model,
            n=len(some),
            blocks=sorted(b.block for b in some),
            why=say.reasons(ids, titles),
        )
        for (model, ids), some in grouped(row.invalid_blocks, lambda block: (block.model, block.guards)).items()
    ]
    remarks = [reason for reason in row.reasons if not codes.is_guard(reason)]
    told = refused if row.code in ("invalid", "no_test") else []
    return [*say.reasons([*remarks, *row.blockers], titles), *told]


def _where(run: Run, rows: Sequence[Comparison], among: Sequence[Comparison]) -> str:
    """Which rows of a table, briefly: "p95 TTFT of INT8 at c=1 and c=8"; what all rows of the table share is left out.

    Metrics that share their cells, and variants that share both, are named together.
    """
    groups: dict[tuple[tuple[str, ...], tuple[Cell, ...]], list[str]] = {}
    for variant, own in grouped(rows, lambda row: row.variant).items():
        cells = {
            metric: tuple(sorted(row.cell for row in some))
            for metric, some in grouped(own, lambda row: row.metric).items()
        }
        for places, names in grouped(cells, cells.__getitem__).items():
            groups.setdefault((tuple(names), places), []).append(variant)
    all_of = {key: {getattr(row, key) for row in among} for key in ("metric", "cell", "variant")}
    words = []
    for (metrics, places), models in groups.items():
        what = "" if all_of["metric"] == {*metrics} else listing(METRICS[name].words for name in metrics)
        whose = "" if all_of["variant"] == {*models} else listing(map(run.label, models))
        at = "" if all_of["cell"] == {*places} else f"at {listing(map(run.place, places))}"
        words.append(" ".join(filter(None, [what, f"of {whose}" if what and whose else whose, at])))
    return "; ".join(filter(None, words)) or "all"


# --- sentences


def outcome(row: Comparison) -> str:
    """What a comparison says, one of `OUTCOMES`: its code, and of undecided ones what its interval suggests."""
    if row.ratio is None:
        return "invalid"
    if row.code != "undecided":
        return row.code
    return row.likely or "undecided"


def per_gpu(run: Run, say: Speech, variant: str, cell: Cell | None) -> str:
    """ "0.951 × the tokens/sec on 1 GPU instead of 2: 1.90 × per GPU [1.89, 1.92]"; "" where there is no such ratio."""
    total, each = run.row(variant, cell, SPEED), run.row(variant, cell, PER_GPU)
    if not has_ratio(total) or not has_ratio(each):
        return ""
    counts = {"own": run.plan.arm(variant).gpus, "base": run.plan.arm(run.baseline).gpus}
    interval = f"[{ratio(each.ci_low)}, {ratio(each.ci_high)}]" if each.has_ci else None
    return say("speed.per_gpu", total=total.ratio, each=each.ratio, interval=interval, **counts)


def figure(row: Comparison | RunRow) -> str:
    """ "+19.7 % [+7.0, +33.9]": the change with its 95 % CI."""
    if not row.has_ci:
        return change(row.ratio)
    low, high = (change(end).removesuffix(" %") for end in (row.ci_low, row.ci_high))
    return f"{change(row.ratio)} [{low}, {high}]"


def clause(run: Run, say: Speech, rows: Sequence[Comparison]) -> str:
    """What happened to a metric, cells with the same outcome joined: "improved at c=1 and c=16 (+18.8 % to +19.7 %)".

    One cell has its figure with CI, several the range of theirs; what is not shown has none, as tables have it.
    Cells are not named where all of the workload, which must be one, have the same outcome.
    """
    words, among = [], {cell for row in rows[:1] for cell in run.cells(row.workload)}
    groups = grouped(rows, outcome)
    for name in filter(groups.__contains__, OUTCOMES):
        some = groups[name]
        everywhere = len(some) == len(rows) > 1 and among == {row.cell for row in rows}
        at = "" if everywhere else listing(run.place(row.cell) for row in some)
        by = extent(some) if name in (*DECIDED, "described", "no_test") else ""
        words.append(say("speed.outcome", form=name, at=at, by=by, margin=max(row.margin for row in some)))
    return "; ".join(words)


def extent(rows: Sequence[Comparison]) -> str:
    """The change of one comparison with its interval, or from the least to the greatest of several."""
    if len(rows) == 1:
        return figure(rows[0])
    values = [row.ratio for row in rows if row.ratio is not None]
    return " to ".join(dict.fromkeys((change(min(values)), change(max(values)))))


def _of_variant(run: Run, say: Speech, workload: str, variant: str) -> Iterator[str]:
    """The ratios in a row, tokens/sec, the tails, what the deciding cell gained, what surprises."""
    rows = list(run.compared(workload, variant, SPEED))
    if compared := [row for row in rows if row.ratio is not None]:
        lengths = grouped(compared, lambda row: row.max_tokens).items()
        series = [
            f"c={'/'.join(str(row.concurrency) for row in some)}, max_tokens={tokens} → "
            + ", ".join(ratio(row.ratio) for row in some)
            for tokens, some in lengths
        ]
        yield say("speed.ratios", series="; ".join(series))
    if rows:
        words = clause(run, say, rows)
        yield say("speed.clause", metrics=[SPEED], words="; ".join(filter(None, [words, _most(run, say, compared)])))
    if per_gpu := list(run.compared(workload, variant, PER_GPU)):
        yield say("speed.clause", metrics=[PER_GPU], words=clause(run, say, per_gpu))
    yield _tails(run, say, workload, variant)
    yield _mainly(run, say, workload, variant)
    yield sentence(ceiling(run, say, variant, run.deciding_cell(workload)))
    yield _surprises(run, say, workload, variant)


def _most(run: Run, say: Speech, rows: Sequence[Comparison]) -> str:
    """At which load the difference is largest, where there are several loads and one difference is shown."""
    shown = [row for row in rows if row.code in ("better", "worse")]
    if not shown or len({row.concurrency for row in rows}) == 1:
        return ""
    top = max(shown, key=lambda row: abs(_log(row.ratio)))
    ends = {row.cell: sorted((abs(_log(row.ci_low)), abs(_log(row.ci_high)))) for row in rows}
    alone = all(row.has_ci for row in rows) and all(
        high < ends[top.cell][0] for cell, (_, high) in ends.items() if cell != top.cell
    )
    return say("speed.most", form="alone" if alone else "overlapping", at=run.place(top.cell))


def _log(value: float | None) -> float:
    return math.log(value) if value and value > 0 else 0.0


def _tails(run: Run, say: Speech, workload: str, variant: str) -> str:
    """What happened to p95 TTFT and E2E, cells without a p95 left out; to the p50 where no cell has one."""
    subjects: dict[str, list[str]] = {}
    for time in ("ttft", "e2e"):
        by_metric = ([*run.compared(workload, variant, f"{q}_{time}_ms")] for q in ("p95", "p50"))
        known = ([row for row in rows if row.ratio is not None] for rows in by_metric)
        if rows := next(filter(None, known), None):
            subjects.setdefault(clause(run, say, rows), []).append(rows[0].metric)
    return " ".join(say("speed.clause", metrics=names, words=words) for words, names in subjects.items())


def _mainly(run: Run, say: Speech, workload: str, variant: str) -> str:
    """What improved and got worse in the deciding cell, throughput or latency; "" where the marks say it all."""
    cell = run.deciding_cell(workload)
    rows = [row for metric in (SPEED, *LATENCIES) if (row := run.row(variant, cell, metric)) is not None]
    by_code = grouped(rows, lambda row: row.code)
    if cell is None or by_code.keys() <= {"described", "invalid", "no_test"}:
        return say("speed.none_tested", cell=cell) if cell else ""
    better, worse = ([row.metric for row in by_code.get(code, [])] for code in ("better", "worse"))
    if better or worse:
        form = "both" if better and worse else "better" if better else "worse"
        return say("speed.mainly", form=form, cell=cell, better=better, worse=worse)
    return say("speed.all_equivalent", cell=cell) if by_code.keys() == {"equivalent"} else ""


def _surprises(run: Run, say: Speech, workload: str, variant: str) -> str:
    """What the ratios say that a smaller model should not do; "" where nothing was decided."""

    def cells(metric: str, code: str) -> set[Cell]:
        return {row.cell for row in run.compared(workload, variant, metric) if row.code == code}

    speed = PER_GPU if any(run.compared(workload, variant, PER_GPU)) else SPEED  # on fewer GPUs less is no surprise
    gains, losses = cells(speed, "better"), cells(speed, "worse")
    odd = {
        "both_ways" if gains else "slower": losses,
        "tail": cells("p95_e2e_ms", "worse") & cells(SPEED, "better"),
        "first_token": cells("p95_ttft_ms", "worse") - cells("p95_e2e_ms", "worse"),
    }
    surprises = [
        say("speed.odd", form=form, at=[run.place(cell) for cell in sorted(places)])
        for form, places in odd.items()
        if places
    ]
    if surprises:
        return say("speed.surprises", odd=surprises)
    return say("speed.no_surprises") if any(row.decided for row in run.compared(workload, variant, SPEED)) else ""


def limited(run: Run, say: Speech, workload: str) -> str:
    """Which part limited which cells; models that share that are named together, and not at all where all do."""
    uses = {
        model: [use for cell in run.cells(workload) if (use := run.measured_cell(model, cell)) is not None]
        for model in run.models
    }
    patterns = grouped([m for m in uses if uses[m]], lambda model: tuple((_part(u), u.cell) for u in uses[model]))
    words = []
    for pattern, models in patterns.items():
        parts = grouped(pattern, lambda entry: entry[0])
        clauses = [
            _limit(run, say, part, [cell for _, cell in some], alone=len(parts) == 1) for part, some in parts.items()
        ]
        whose = "" if len(patterns) == 1 else f"{listing(map(run.label, models))}: "
        words.append(sentence(f"{whose}{'; '.join(clauses)}"))
    return " ".join(words)


def _part(use: CellUse) -> str:
    """What bounds a cell; where that is not known, the part that limits its blocks."""
    return use.bound or use.bottleneck


def ceiling(run: Run, say: Speech, variant: str, cell: Cell | None) -> str:
    """ "W4A16 weights could give at most 2.61 × at c=8; measured 0.932 ×, because …".

    "" where they could gain nothing, where this is not known, and where more than the weights differs.
    """
    most, row, use = run.ceiling(variant, cell), run.row(variant, cell, SPEED), run.measured_cell(variant, cell)
    alike = set(run.plan.arm(variant).differs_in) <= {"weights"}
    if not alike or most is None or most <= 1 or not has_ratio(row) or use is None:
        return ""
    label = (run.ready[variant].quantization.label if variant in run.ready else None) or run.label(variant)
    return say("speed.ceiling", label=label, cell=cell, most=most, measured=row.ratio, why=_why_below(say, use))


def _why_below(say: Speech, use: CellUse) -> str:
    if use.bound is None:
        return ""
    needed = use.floor_ms / use.step_ms if use.floor_ms and use.step_ms else None
    shares = {"bandwidth": use.bandwidth_share, "compute": use.compute_share, "needed": needed}
    return say("speed.bound", form=use.bound, **shares)


def _limit(run: Run, say: Speech, part: str, cells: Iterable[Cell], *, alone: bool) -> str:
    where = say("speed.all_cells") if alone else listing(map(run.place, cells))
    return say("speed.limited", form=part, where=where)
