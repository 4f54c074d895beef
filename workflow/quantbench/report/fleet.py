"""The page of a fleet: every comparison's models side by side, and where each figure comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from quantbench.config.command_line import text as command_text
from quantbench.records.fleet import Done, FleetRow, Joined, Missing
from quantbench.report import marks
from quantbench.report.document import Page, Section, Table, bullets, grouped, table, without_empty_columns
from quantbench.report.pages import Figure, Report, folded
from quantbench.report.say import Speech
from quantbench.wording import number, percent, ratio_ci

HEADS: Final[Mapping[str, str]] = {
    "throughput_tok_s": "tokens/s",
    "throughput_tok_s_lo": "interval of tokens/s",
    "p95_ttft_ms": "p95 TTFT",
    "cost_per_1m_tokens": "price per 1M",
    "j_per_token": "J/token",
    "weights_gib": "weights",
    "ratio": "vs baseline",
    "quality": "answers",
}
"""What a column of the CSV is called on the page."""


class Point(NamedTuple):
    """One model of one comparison in a plot. x: price or tokens/s; y: share of answers lost, or p95 TTFT in ms."""

    name: str
    gpu: str
    x: float
    y: float
    best: bool


class Pareto(NamedTuple):
    """The points of one workload. by: what x is (cost, speed); against: what y is (quality, latency)."""

    workload: str
    by: str
    against: str
    unit: str
    points: tuple[Point, ...]


def paretos(joined: Joined) -> list[Pareto]:
    """What can be set against each other, by workload: price (or tokens/s) against lost answers (or p95 TTFT).

    Answers where any variant has them: a reader pays for those; a baseline loses none by definition. Tokens/s where
    prices are not known of all, or are in several currencies.
    """
    deciding = [row for row in joined.rows if row.deciding and row.throughput_tok_s is not None]
    found = (_pareto(workload, rows) for workload, rows in grouped(deciding, lambda row: row.workload).items())
    return [pareto for pareto in found if len(pareto.points) > 1]


def _pareto(workload: str, rows: Sequence[FleetRow]) -> Pareto:
    currencies = {row.currency for row in rows}
    priced = len(currencies) == 1 and all(row.cost_per_1m_tokens is not None for row in rows)
    judged = any(row.quality_loss is not None for row in rows)

    def x(row: FleetRow) -> float | None:
        return row.cost_per_1m_tokens if priced else row.throughput_tok_s

    def y(row: FleetRow) -> float | None:
        if judged:
            return 0.0 if row.model == row.baseline else row.quality_loss
        return row.p95_ttft_ms

    known = [(row, a, b) for row in rows if (a := x(row)) is not None and (b := y(row)) is not None]
    sign = 1 if priced else -1
    points = tuple(
        Point(
            f"{row.label} ({row.comparison})",
            row.gpu_name,
            a,
            b,
            not any(
                sign * other_a <= sign * a and other_b <= b and (other_a, other_b) != (a, b)
                for _, other_a, other_b in known
            ),
        )
        for row, a, b in known
    )
    unit = str(rows[0].currency) if priced else "tok/s"
    return Pareto(workload, "cost" if priced else "speed", "quality" if judged else "latency", unit, points)


def page(joined: Joined) -> Page:
    """fleet.md."""
    say = Speech()
    return Page(_title(joined, say), bullets(list(_leads(joined, say))), tuple(_sections(joined, say)))


def report(joined: Joined, drawn: Mapping[str, str]) -> Report:
    """fleet.html; `drawn` are the charts by workload."""
    say = Speech()
    figures = tuple(
        Figure(drawn[p.workload], say("fleet.caption", form=p.by, workload=p.workload, against=_against(p, say)))
        for p in paretos(joined)
        if p.workload in drawn
    )
    first, *others = _leads(joined, say)
    return Report(
        title=_title(joined, say),
        subtitle=first,
        warning=" ".join(others),
        cards=(),
        lead=figures,
        chapters=tuple((folded(section), ()) for section in _sections(joined, say)),
    )


def _title(joined: Joined, say: Speech) -> str:
    return say("fleet.title", fleet=joined.fleet, n=len(joined.done) + len(joined.missing))


def _leads(joined: Joined, say: Speech) -> Iterator[str]:
    """How much is there, and what a reader must know before any two rows are compared."""
    n = len(joined.done) + len(joined.missing)
    yield say("fleet.done", form="some" if joined.missing else "all", n=n, done=len(joined.done))
    for one in joined.missing:
        yield say("fleet.missing", **_missing(one, say))
    yield from _differences(joined, say)


def _differences(joined: Joined, say: Speech) -> Iterator[str]:
    """In what the comparisons differ beside what they are about."""
    for id_, values in (
        ("fleet.protocols", {str(one.protocol) for one in joined.done}),
        ("fleet.judgements", {one.judged_by for one in joined.done}),
        ("fleet.engines", {row.vllm for row in joined.rows if row.vllm}),
        ("fleet.baselines", {row.baseline for row in joined.rows}),
        ("fleet.currencies", {row.currency for row in joined.rows if row.currency}),
    ):
        if len(values) > 1:
            yield say(id_, values=", ".join(sorted(values)))
    for name in dict.fromkeys(row.comparison for row in joined.rows if not row.trusted):
        yield say("fleet.untrusted", comparison=name)


def _missing(one: Missing, say: Speech) -> dict[str, Any]:
    silent = say("fleet.silent") if one.log else say("fleet.never")
    return {
        "comparison": one.comparison,
        "words": (one.last_words or silent).rstrip("."),
        "log": one.log,
        "folder": one.folder,
        "command": command_text(one.command),
    }


def _sections(joined: Joined, say: Speech) -> Iterator[Section]:
    if joined.rows:
        deciding = [row for row in joined.rows if row.deciding]
        notes = _notes(joined.rows, say)
        yield Section("Side by side", (_table(deciding, say, notes), *bullets(list(_fronts(joined, say)))))
        if len(deciding) < len(joined.rows):
            yield Section("All points", (_table(joined.rows, say),))
    if joined.done:
        yield Section("Where it comes from", (_sources(joined.done),))


def _fronts(joined: Joined, say: Speech) -> Iterator[str]:
    found = paretos(joined)
    if not found:
        yield say("fleet.no_front")
    for one in found:
        best = "; ".join(f"{point.name} on {point.gpu}" for point in one.points if point.best)
        yield say("fleet.front", form=one.by, workload=one.workload, against=_against(one, say), points=best)


def _against(one: Pareto, say: Speech) -> str:
    return say("fleet.against", form=one.against)


def _table(rows: Sequence[FleetRow], say: Speech, notes: Sequence[str] = ()) -> Table:
    columns = (
        "comparison", "GPU", "model", "point", "tokens/s", "vs baseline", "verdict", "price per 1M", "J/token",
        "weights GiB", "KV cache GiB", "p95 TTFT ms", "answers", "what to do",
    )  # fmt: skip
    return without_empty_columns(table(columns, (_cells(row, say) for row in rows), notes=notes))


def _cells(row: FleetRow, say: Speech) -> tuple[str, ...]:
    low, high = row.throughput_tok_s_lo, row.throughput_tok_s_hi
    interval = "" if low is None or high is None else f" [{number(low)}, {number(high)}]"
    price = "" if row.cost_per_1m_tokens is None else f"{number(row.cost_per_1m_tokens)} {row.currency}"
    loss = "" if row.quality_loss is None else f" ({percent(row.quality_loss)} lost)"
    return (
        row.comparison,
        row.gpu_name,
        row.label,
        f"{row.workload} {row.cell.load.label}, {row.max_tokens} tokens",
        f"{number(row.throughput_tok_s)}{interval}",
        "" if row.ratio is None else ratio_ci(row.ratio, row.ratio_lo, row.ratio_hi),
        (row.code or "").replace("_", " "),
        price,
        number(row.j_per_token),
        number(row.weights_gib),
        number(row.kv_cache_gib),
        number(row.p95_ttft_ms),
        f"{row.quality}{loss}" if row.quality else "",
        say("fleet.action", form=row.action) if row.action else "",
    )


def _notes(rows: Sequence[FleetRow], say: Speech) -> list[str]:
    priced = any(row.cost_per_1m_tokens is not None for row in rows)
    return [say("fleet.interval"), *_blanks(rows, say), *([say("fleet.prices")] if priced else [])]


def _blanks(rows: Sequence[FleetRow], say: Speech) -> list[str]:
    """Why cells are blank, or whole columns left out: each reason of a column once."""
    entries = dict.fromkeys(entry for row in rows for entry in row.missing)
    pairs = (entry.split(": ", 1) for entry in entries)
    reasons = grouped(pairs, lambda pair: pair[0])
    return [
        say(
            "fleet.blank",
            form="all"
            if all(any(entry.startswith(f"{column}: ") for entry in row.missing) for row in rows)
            else "some",
            column=HEADS[column],
            reason="; ".join(say.reasons(code for _, code in found)),
        )
        for column, found in reasons.items()
    ]


def _sources(done: Sequence[Done]) -> Table:
    """Of each comparison its folder, the line that repeats it there, and with what it was made."""
    rows = (
        (
            one.comparison,
            marks.code(f"{one.folder}/{one.results}/report/report.html"),
            marks.code(f"cd {one.folder} && {command_text(one.command)}"),
            one.finished_at[:16].replace("T", " "),
            one.versions.get("vllm", ""),
            f"{one.protocol}, {one.judged_by}",
        )
        for one in done
    )
    return table(("comparison", "its report", "its command", "finished (UTC)", "vLLM", "method, judged by"), rows)
