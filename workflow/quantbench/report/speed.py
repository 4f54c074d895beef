"""Capacity: what was measured, the ratios to the baseline with their marks, and what the table does not say itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from quantbench.judge import guards
from quantbench.records import codes
from quantbench.records.cell import Cell
from quantbench.records.comparison import DECIDED, Comparison
from quantbench.records.metric import METRICS, Style, focus
from quantbench.records.run import Run
from quantbench.records.tables import CapacityRow
from quantbench.report.document import Part, Section, Table, bullets, table
from quantbench.report.say import Speech
from quantbench.wording import BLANK, capitalized, change, integer, listing, number, ratio, ratio_ci, sentence

THROUGHPUT: Final = "throughput_tok_s"
TITLES: Final[dict[Style, str]] = {"interactive": "Chat Capacity", "batch": "Batch Capacity"}
MARKS: Final = {"better": "▲", "worse": "▼", "equivalent": "≈", "undecided": "?", "no_test": "?", "invalid": BLANK}
LEGEND: Final = {
    "▲": "speed.mark_better",
    "▼": "speed.mark_worse",
    "≈": "speed.mark_equivalent",
    "?": "speed.mark_not_shown",
    BLANK: "speed.mark_not_compared",
}
OUTCOMES: Final = {
    # what happened to a metric, as `outcome` names it: its clause
    "better": "speed.better",
    "worse": "speed.worse",
    "equivalent": "speed.equivalent",
    "gain": "speed.gain",
    "loss": "speed.loss",
    "coarse": "speed.coarse",
    "undecided": "speed.undecided",
    "no_test": "speed.no_test",
    "invalid": "speed.invalid",
}
LIMITED: Final = {
    "engine": "speed.limited_engine",
    "front_end": "speed.limited_front_end",
    "client": "speed.limited_client",
    "unknown": "speed.limited_unknown",
}
LATENCIES: Final = ("p50_ttft_ms", "p50_e2e_ms", "p50_tpot_ms")


def sections(run: Run, say: Speech, style: Style) -> list[Section]:
    """One section per workload of a style; the title names the workload where there are several."""
    names = run.workloads(style)
    versus = f"{run.label(run.baseline)}{' vs Quant' if run.variants else ''}"
    return [
        Section(f"{TITLES[style]}: {versus}{f' ({name})' if len(names) > 1 else ''}", _parts(run, say, name))
        for name in names
    ]


def _parts(run: Run, say: Speech, workload: str) -> tuple[Part, ...]:
    limits = limited(run, say, workload)
    if not run.variants:
        return (measured_table(run, say, workload), *bullets([limits]))
    shared, own = _sentences(run, say, workload)
    told = [f"**{run.label(variant)}**: {' '.join(sentences)}" for variant, sentences in own.items() if sentences]
    return (
        measured_table(run, say, workload),
        ratio_table(run, say, workload),
        *bullets([*told, " ".join([*shared, limits]).strip()]),
    )


# --- tables


def measured_table(run: Run, say: Speech, workload: str) -> Table:
    """The measured values, a row per cell and model; what all rows share stands in the caption."""
    metrics = focus(run.style(workload))
    rows = [
        row
        for cell in run.cells(workload)
        for model in run.models
        if (row := run.capacity_row(model, cell)) is not None
    ]
    apart = [
        *(["max_tokens"] if len({row.max_tokens for row in rows}) > 1 else []),
        *(["blocks"] if len({row.blocks for row in rows}) > 1 else []),
        *(["failures"] if any(row.number("failures") for row in rows) else []),
    ]
    requests = [n for row in rows if (n := row.number("n")) is not None]
    caption = [f"max_tokens={run.cells(workload)[0].max_tokens}"] if rows and "max_tokens" not in apart else []
    if rows and "blocks" not in apart:
        caption.append(say("speed.blocks_each", n=rows[0].blocks))
    if requests:
        low, high = min(requests), max(requests)
        each = say("speed.requests_each", n=low) if low == high else say("speed.requests_range", low=low, high=high)
        caption.append(each)
    columns = ["concurrency", *_if("max_tokens", apart), "model", *metrics]
    columns += [*_if("failures", apart), *_if("blocks", apart)]
    lines = [
        [
            str(row.concurrency),
            *([str(row.max_tokens)] if "max_tokens" in apart else []),
            run.label(row.model),
            *(number(row.number(metric)) for metric in metrics),
            *([integer(row.number("failures"))] if "failures" in apart else []),
            *([integer(row.blocks)] if "blocks" in apart else []),
        ]
        for row in rows
    ]
    note = " ".join(dict.fromkeys(note for row in rows for note in _blanks(run, say, row, metrics)))
    title = f"Measured in {workload} ({'; '.join(caption)})"
    return table(columns, lines, caption=title, notes=[note], words=(columns.index("model"),))


def _if(name: str, names: Sequence[str]) -> list[str]:
    return [name] if name in names else []


def _blanks(run: Run, say: Speech, row: CapacityRow, metrics: Sequence[str]) -> Iterator[str]:
    """Why figures of a row are blank, and which of its blocks were refused."""
    missing = [metric for metric in metrics if row.number(metric) is None]
    if missing:
        why = say.reasons(filter(codes.blanks_percentile, row.reasons))
        yield say("speed.blank", metrics=[f"`{m}`" for m in missing], why="; ".join(why) or say("speed.no_valid_block"))
    if not row.valid:
        why = say.reasons(filter(codes.is_guard, row.reasons), guards.meanings())
        yield say(
            "speed.refused", model=row.model, cell=row.cell, n=row.blocks_invalid,
            why="; ".join(why) or say("speed.no_reason"),
        )  # fmt: skip


def ratio_table(run: Run, say: Speech, workload: str) -> Table:
    """Ratios with CI and mark, a row per cell and variant; where a cell has no p95 its p50 stands there, named."""
    metrics = [name for name, metric in METRICS.items() if run.style(workload) in metric.ratio]
    shown = {
        (cell, variant): [_or_median(run, variant, cell, metric) for metric in metrics]
        for cell in run.cells(workload)
        for variant in run.variants
        if run.row(variant, cell, THROUGHPUT)
    }
    several = len({cell.max_tokens for cell, _ in shown}) > 1
    columns = ["concurrency", *(["max_tokens"] if several else []), "model"]
    columns += [METRICS[metric].words for metric in metrics]
    lines = [
        [
            str(cell.concurrency),
            *([str(cell.max_tokens)] if several else []),
            run.label(variant),
            *(ratio_cell(row, metric) for row, metric in zip(rows, metrics, strict=True)),
        ]
        for (cell, variant), rows in shown.items()
    ]
    caption = f"Ratios to {run.label(run.baseline)}, {workload}"
    note = _footnote(run, say, [row for rows in shown.values() for row in rows if row])
    return table(columns, lines, caption=caption, notes=[note], words=(columns.index("model"),))


def _or_median(run: Run, variant: str, cell: Cell, metric: str) -> Comparison | None:
    """A comparison; of a p95 that has no ratio the p50's, where that has one."""
    row = run.row(variant, cell, metric)
    if not metric.startswith("p95_") or (row and row.ratio is not None):
        return row
    median = run.row(variant, cell, metric.replace("p95_", "p50_"))
    return median if median and median.ratio is not None else row


def ratio_cell(row: Comparison | None, metric: str = "") -> str:
    """ "1.197 [1.070, 1.339] ▲"; "p50 …" before it where the row is not of the column's `metric`."""
    if row is None or row.ratio is None or row.code == "invalid":
        return BLANK
    other = f"{METRICS[row.metric].words.split()[0]} " if metric and row.metric != metric else ""
    return f"{other}{ratio_ci(row.ratio, row.ci_low, row.ci_high)} {MARKS[row.code]}"


def change_cell(row: Comparison | None) -> str:
    """ "+19.7 % [+7.0, +33.9] ▲": the ratio as a change."""
    return BLANK if row is None or row.ratio is None or row.code == "invalid" else f"{figure(row)} {MARKS[row.code]}"


def legend(say: Speech, rows: Sequence[Comparison]) -> str:
    """What the marks mean that these rows have: "▲ better, ? not shown"."""
    marks = {MARKS[row.code] if row.ratio is not None else BLANK for row in rows}
    margin = max(row.margin for row in rows)
    return ", ".join(say(words, margin=margin) for mark, words in LEGEND.items() if mark in marks)


def _footnote(run: Run, say: Speech, rows: Sequence[Comparison]) -> str:
    """Legend and reasons, in one note."""
    if not rows:
        return ""
    pairs = sorted({row.n_pairs for row in rows if row.ratio is not None})
    notes = [say("speed.legend_only", legend=legend(say, rows))]
    if pairs:
        one = int(pairs[0] == pairs[-1])
        marks = say("speed.corrected_but_one") if any(row.primary for row in rows) else say("speed.corrected")
        notes = [say("speed.legend", low=pairs[0], high=pairs[-1], legend=legend(say, rows), marks=marks, n=one)]
    notes += [sentence(f"{_where(run, some, rows)}: {why}") for why, some in _reasons(say, rows).items()]
    notes += _undecided(run, say, [row for row in rows if row.metric == THROUGHPUT])
    mixed = [row for row in rows if row.valid and row.n_pairs > 1 and not row.interleaved and row.same_lane]
    if mixed:
        notes.append(sentence(say("speed.not_interleaved", where=_where(run, mixed, rows))))
    return " ".join(notes)


def _reasons(say: Speech, rows: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """{reason in words: the rows that have it}."""
    by_words: dict[str, list[Comparison]] = {}
    for row in rows:
        for words in why(say, row):
            by_words.setdefault(words, []).append(row)
    return by_words


def why(say: Speech, row: Comparison) -> list[str]:
    """What a comparison lacks, or why it has no verdict: its codes, the guards that refused it or blocks of it."""
    titles = guards.meanings()
    blocks: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for block in row.invalid_blocks:
        blocks.setdefault((block.model, block.guards), []).append(block.block)
    refused = [
        say("speed.refused_blocks", model=model, n=len(numbers), blocks=sorted(numbers), why=say.reasons(ids, titles))
        for (model, ids), numbers in blocks.items()
    ]
    remarks = [reason for reason in row.reasons if not codes.is_guard(reason)]
    return [*say.reasons([*remarks, *row.blockers], titles), *refused]


def _undecided(run: Run, say: Speech, rows: Sequence[Comparison]) -> Iterator[str]:
    """What more blocks would do for tokens/sec where it is not decided."""
    near: dict[int, list[Comparison]] = {}
    for row in rows:
        if row.code == "undecided" and row.blocks_to_decide:
            near.setdefault(row.blocks_to_decide, []).append(row)
    for n, some in near.items():
        yield say("speed.more_blocks", n=n, where=_where(run, some, rows), margin=some[0].margin)
    if far := [row for row in rows if row.code == "undecided" and not row.blocks_to_decide]:
        margin = max(row.margin for row in far)
        yield say("speed.too_noisy", where=_where(run, far, rows), most=run.most_blocks, margin=margin)


def _where(run: Run, rows: Sequence[Comparison], among: Sequence[Comparison]) -> str:
    """Which rows of a table, briefly: "p95 TTFT of INT8 at c=1 and c=8"; what all rows of the table share is left out.

    Variants that share their metrics and cells are named together.
    """
    metrics, variants, cells = (list(dict.fromkeys(map(key, among))) for key in _KEYS)
    groups: dict[tuple[tuple[str, ...], tuple[Cell, ...]], list[str]] = {}
    for variant in dict.fromkeys(row.variant for row in rows):
        own = [row for row in rows if row.variant == variant]
        for names, places in _rectangles(own):
            groups.setdefault((names, places), []).append(variant)
    words = []
    for (names, places), models in groups.items():
        what = "" if set(names) == set(metrics) else listing(METRICS[name].words for name in names)
        whose = "" if len(models) == len(variants) else listing(map(run.label, models))
        at = "" if set(places) == set(cells) else f"at {listing(map(run.place, places))}"
        words.append(" ".join(filter(None, [what, f"of {whose}" if what and whose else whose, at])))
    return "; ".join(filter(None, words)) or "all"


_KEYS: Final[tuple[Callable[[Comparison], object], ...]] = (
    lambda row: row.metric,
    lambda row: row.variant,
    lambda row: row.cell,
)


def _rectangles(rows: Sequence[Comparison]) -> list[tuple[tuple[str, ...], tuple[Cell, ...]]]:
    """(metrics, cells) that together are the rows: one where they form a grid, else one per set of cells."""
    cells: dict[str, list[Cell]] = {}
    for row in rows:
        cells.setdefault(row.metric, []).append(row.cell)
    names: dict[tuple[Cell, ...], list[str]] = {}
    for metric, places in cells.items():
        names.setdefault(tuple(sorted(places)), []).append(metric)
    return [(tuple(some), places) for places, some in names.items()]


# --- sentences


def outcome(row: Comparison) -> str:
    """What a comparison says, as `OUTCOMES` names it: its code, and of undecided ones what its interval suggests."""
    if row.ratio is None:
        return "invalid"
    if row.code != "undecided":
        return row.code
    return row.likely or ("coarse" if row.coarse else "undecided")


def figure(row: Comparison) -> str:
    """ "+19.7 % [+7.0, +33.9]": the change with its 95 % CI."""
    if row.ci_low is None or row.ci_high is None:
        return change(row.ratio)
    low, high = (change(end).removesuffix(" %") for end in (row.ci_low, row.ci_high))
    return f"{change(row.ratio)} [{low}, {high}]"


def clause(say: Speech, rows: Sequence[Comparison], among: Sequence[Cell] = (), *, beside_table: bool = False) -> str:
    """What happened to a metric, cells with the same outcome joined: "improved at c=1 and c=16 (+18.8 % to +19.7 %)".

    One cell has its figure with CI, several the range of theirs. beside_table: without figures of what is not shown.
    """
    groups: dict[str, list[Comparison]] = {}
    for row in rows:
        groups.setdefault(outcome(row), []).append(row)
    words = []
    for name in OUTCOMES:
        if some := groups.get(name):
            cells = [row.cell for row in rows]
            everywhere = beside_table and len(some) == len(rows) > 1 and set(among) <= set(cells)
            at = "" if everywhere else f" at {listing(row.cell.label(among or cells) for row in some)}"
            by = "" if name == "invalid" or (beside_table and name in _AS_THE_TABLE) else _by(some)
            words.append(say(OUTCOMES[name], at=at, by=by, margin=max(row.margin for row in some)))
    return "; ".join(words)


_AS_THE_TABLE: Final = ("equivalent", "undecided", "coarse")


def _by(rows: Sequence[Comparison]) -> str:
    if len(rows) == 1:
        return f" ({figure(rows[0])})"
    values = sorted(row.ratio for row in rows if row.ratio is not None)
    return f" ({' to '.join(dict.fromkeys((change(values[0]), change(values[-1]))))})"


def _sentences(run: Run, say: Speech, workload: str) -> tuple[list[str], dict[str, list[str]]]:
    """(sentences that hold for all variants, {variant: its own})."""
    own = {variant: list(filter(None, _of_variant(run, say, workload, variant))) for variant in run.variants}
    lists = list(own.values())
    shared = [words for words in lists[0] if all(words in other for other in lists)] if len(lists) > 1 else []
    return shared, {variant: [words for words in some if words not in shared] for variant, some in own.items()}


def _of_variant(run: Run, say: Speech, workload: str, variant: str) -> Iterator[str]:
    rows = list(run.compared(workload, variant, THROUGHPUT))
    yield ratios(say, rows)
    if rows:
        yield sentence(
            f"{_subject(THROUGHPUT)}: {clause(say, rows, run.cells(workload), beside_table=True)}{_most(say, rows)}"
        )
    yield tails(run, say, workload, variant)
    yield mainly(run, say, workload, variant)
    yield surprises(run, say, workload, variant)


def ratios(say: Speech, rows: Sequence[Comparison]) -> str:
    """All throughput ratios in a row: "Tokens/sec ratios: c=1/8/16, max_tokens=128 → 1.430, 1.420, 1.401."."""
    compared = [row for row in rows if row.ratio is not None]
    by_length: dict[int, list[Comparison]] = {}
    for row in compared:
        by_length.setdefault(row.max_tokens, []).append(row)
    series = [
        f"c={'/'.join(str(row.concurrency) for row in some)}, max_tokens={tokens} → "
        + ", ".join(ratio(row.ratio) for row in some)
        for tokens, some in by_length.items()
    ]
    return say("speed.ratios", series="; ".join(series)) if series else ""


def _subject(metric: str) -> str:
    return capitalized(METRICS[metric].words)


def _most(say: Speech, rows: Sequence[Comparison]) -> str:
    """At which load the difference is largest, where there are several loads and one difference is shown."""
    shown = sorted((row for row in rows if row.code in ("better", "worse")), key=lambda row: -abs(_log(row.ratio)))
    compared = [row for row in rows if row.ratio is not None]
    if not shown or len({row.concurrency for row in compared}) == 1:
        return ""
    place = shown[0].cell.label(row.cell for row in rows)
    alone = _stands_out(shown[0], compared)
    return "; " + (say("speed.most", at=place) if alone else say("speed.most_by_value", at=place))


def _stands_out(row: Comparison, among: Sequence[Comparison]) -> bool:
    """Whether a difference is larger than any other, error bars included."""
    if not all(other.has_ci for other in among):
        return False
    ends = {other.cell: sorted((abs(_log(other.ci_low)), abs(_log(other.ci_high)))) for other in among}
    return all(high < ends[row.cell][0] for cell, (_, high) in ends.items() if cell != row.cell)


def _log(value: float | None) -> float:
    return math.log(value) if value and value > 0 else 0.0


def tails(run: Run, say: Speech, workload: str, variant: str) -> str:
    """What happened to p95 TTFT and E2E, cells without a p95 left out; to the p50 where no cell has one."""
    subjects: dict[str, list[str]] = {}
    for time in ("ttft", "e2e"):
        rows = _compared(run, workload, variant, f"p95_{time}_ms") or _compared(
            run, workload, variant, f"p50_{time}_ms"
        )
        if rows:
            words = clause(say, rows, run.cells(workload), beside_table=True)
            subjects.setdefault(words, []).append(METRICS[rows[0].metric].words)
    return " ".join(sentence(f"{listing(names)}: {words}") for words, names in subjects.items())


def _compared(run: Run, workload: str, variant: str, metric: str) -> list[Comparison]:
    return [row for row in run.compared(workload, variant, metric) if row.ratio is not None]


def mainly(run: Run, say: Speech, workload: str, variant: str) -> str:
    """What improved and got worse in the deciding cell, throughput or latency; "" where the marks say it all."""
    cell = run.deciding_cell(workload)
    rows = [row for metric in (THROUGHPUT, *LATENCIES) if (row := run.row(variant, cell, metric)) is not None]
    if cell is None or all(row.code in ("invalid", "no_test") for row in rows):
        return say("speed.none_tested", cell=cell) if cell else ""
    better, worse = ([row.metric for row in rows if row.code == code] for code in ("better", "worse"))
    if better and worse:
        return say("speed.gains_and_losses", cell=cell, better=better, worse=worse)
    if better:
        return say("speed.gains", cell=cell, metrics=better)
    if worse:
        return say("speed.losses", cell=cell, metrics=worse)
    if all(row.code == "equivalent" for row in rows):
        return say("speed.all_equivalent", cell=cell)
    return ""


def surprises(run: Run, say: Speech, workload: str, variant: str) -> str:
    """What the ratios say that a smaller model should not do; "" where nothing was decided."""
    rows = list(run.compared(workload, variant, THROUGHPUT))
    cells = [row.cell for row in rows]
    by_code = {code: {row.cell for row in rows if row.code == code} for code in DECIDED}
    tails = _cells(run, workload, variant, "p95_e2e_ms", "worse") & by_code["better"]
    first_token = _cells(run, workload, variant, "p50_ttft_ms", "worse") - _cells(
        run, workload, variant, "p50_e2e_ms", "worse"
    )
    found = []
    if by_code["worse"] and by_code["better"]:
        found.append(say("speed.odd_both_ways", at=_at(by_code["worse"], cells)))
    elif by_code["worse"]:
        found.append(say("speed.odd_slower", at=_at(by_code["worse"], cells)))
    if tails:
        found.append(say("speed.odd_tail", at=_at(tails, cells)))
    if first_token:
        found.append(say("speed.odd_first_token", at=_at(first_token, cells)))
    if found:
        return say("speed.surprises", odd="; ".join(found))
    return say("speed.no_surprises") if any(row.decided for row in rows) else ""


def _cells(run: Run, workload: str, variant: str, metric: str, code: str) -> set[Cell]:
    return {row.cell for row in run.compared(workload, variant, metric) if row.code == code}


def _at(cells: Iterable[Cell], among: Sequence[Cell]) -> list[str]:
    return [cell.label(among) for cell in sorted(cells)]


def limited(run: Run, say: Speech, workload: str) -> str:
    """Which part limited which cells; models that share that are named together, and not at all where all do."""
    patterns: dict[tuple[tuple[str, tuple[Cell, ...]], ...], list[str]] = {}
    for model in run.models:
        parts: dict[str, list[Cell]] = {}
        for cell in run.cells(workload):
            if (use := run.measured_cell(model, cell)) is not None:
                parts.setdefault(use.bottleneck, []).append(cell)
        if parts:
            patterns.setdefault(tuple((part, tuple(cells)) for part, cells in parts.items()), []).append(model)
    words = []
    for pattern, models in patterns.items():
        clauses = [_limit(run, say, part, cells, alone=len(pattern) == 1) for part, cells in pattern]
        whose = "" if len(patterns) == 1 else f"{listing(map(run.label, models))}: "
        words.append(sentence(f"{whose}{'; '.join(clauses)}"))
    return " ".join(words)


def _limit(run: Run, say: Speech, part: str, cells: Sequence[Cell], *, alone: bool) -> str:
    where = say("speed.all_cells") if alone else listing(map(run.place, cells))
    return say("speed.limited", part=say(LIMITED[part]), where=where)
