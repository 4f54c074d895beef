"""Two runs compared as a page, as the words of its rows, and as one sentence per row of why there is no verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from quantbench.judge import guards
from quantbench.judge.run_differences import group_of
from quantbench.judge.verdict import ALPHA
from quantbench.records import codes
from quantbench.records.metric import METRICS, SPEED
from quantbench.records.two_runs import RunDifference, RunRow, RunSide, TwoRuns
from quantbench.report.document import (
    Page,
    Paragraph,
    Section,
    Table,
    bullets,
    grouped,
    table,
    text,
    without_empty_columns,
)
from quantbench.report.pages import Report, folded
from quantbench.report.say import Speech
from quantbench.report.speed import figure
from quantbench.wording import number, percent

_REMARKS: Final = ("start_is_unit", "run_spread_given", "p95_pooled", "starts_not_told")
"""Codes that say how a row was had, and not why it has no verdict."""


_TITLES: Final = {name: title for name, title in guards.meanings().items() if not group_of(name)}
"""Of guards whose id is no key of a difference."""


def worded(say: Speech, found: TwoRuns) -> TwoRuns:
    """The comparison with the words of its rows."""
    return replace(found, rows=tuple(replace(row, words=row_words(say, row)) for row in found.rows))


def row_words(say: Speech, row: RunRow) -> str:
    """One row as a sentence without its end."""
    interval = {"low": row.ci_low, "high": row.ci_high}
    if row.code == "invalid":
        return say("verdict.not_valid", why=why(say, row))
    if row.code == "no_test":
        values = {"baseline": row.old_value, "variant": row.new_value, "unit": METRICS[row.metric].unit}
        return say("verdict.no_test", why=why(say, row), **(values if row.old_value is not None else {}))
    if row.code in ("equivalent", "described"):
        return say(f"verdict.{row.code}", ratio=row.ratio, margin=row.margin, **interval)
    if row.code == "undecided":
        if codes.code("start_spread_unknown") in row.reasons:
            return say("two_runs.words", form="unknown", ratio=row.ratio, **interval)
        corrected = row.family if row.p_value is not None and row.p_value < ALPHA else None
        return say("two_runs.words", form="undecided", family=corrected, **interval)
    least, most = sorted((abs((row.ci_low or 1) - 1), abs((row.ci_high or 1) - 1)))
    by = abs((row.ratio or 1) - 1)
    return say("verdict.difference", form=f"{METRICS[row.metric].kind} {row.code}", by=by, least=least, most=most)


def why(say: Speech, row: RunRow) -> str:
    """Why a row is refused, or has no verdict."""
    remarks = _REMARKS if row.code == "invalid" or row.ratio is None else (*_REMARKS, "start_spread_unknown")
    stopping = [reason for reason in row.reasons if codes.parse(reason).name not in remarks]
    return "; ".join(say.reasons(stopping, _TITLES))


def outcome(say: Speech, found: TwoRuns) -> str:
    """The first sentence: what it comes to."""
    rows = found.gated
    worse = [row for row in rows if row.fails]
    open_rows = [row for row in rows if not row.fails and (row.code == "worse" or not row.decided)]
    count = {code: sum(row.code == code for row in rows) or None for code in ("better", "equivalent")}
    return say(
        "two_runs.outcome",
        form="lacking" if found.outcome == "undecided" and rows and not open_rows else found.outcome,
        gone=len(found.only_old),
        n=len(rows),
        cells=len({(row.model, row.cell) for row in rows}),
        worse=len(worse),
        where=[say("two_runs.place", model=r.model, cell=r.cell, metric=r.metric, by=r.ratio) for r in worse],
        undecided=len(open_rows) or None,
        margin=found.margin,
        **count,
    )


def page(found: TwoRuns, described: bool = True) -> Page:
    """compare.md, and, without what is only described, what is printed."""
    say = Speech()
    lead = (text(outcome(say, found)), *bullets([*_about(say, found)]))
    if not described:
        found = replace(found, rows=tuple(row for row in found.rows if row.code != "described"))
    return Page(f"Runs compared: {found.new.folder} against {found.old.folder}", lead, tuple(_sections(say, found)))


def report(found: TwoRuns) -> Report:
    """compare.html."""
    shown = page(found)
    return Report(
        title="Runs compared",
        subtitle=f"{found.new.folder} against {found.old.folder}",
        warning="",
        cards=(),
        lead=(),
        chapters=tuple((folded(section), ()) for section in (Section("In short", shown.lead), *shown.sections)),
    )


def _about(say: Speech, found: TwoRuns) -> Iterator[str]:
    for which, side in (("Old", found.old), ("New", found.new)):
        yield _side(say, which, side)
    models = [row for row in found.rows if row.baseline is None and row.ratio is not None]
    unknown = dict.fromkeys(row.model for row in models if codes.code("start_spread_unknown") in row.reasons)
    if unknown:
        yield say("two_runs.starts", form="unknown", models=list(unknown))
    if any(row.unit == "start" for row in models):
        yield say("two_runs.starts", form="known")
    if found.run_spread is not None:
        yield say("two_runs.starts", form="given", spread=found.run_spread)
    if seen := [(row.model, row.start_sd) for row in models if row.metric == SPEED and row.start_sd is not None]:
        spreads = sorted({spread for _, spread in seen})
        most = spreads[-1] if percent(spreads[-1]) != percent(spreads[0]) else None
        yield say("two_runs.elsewhere", models=list(dict.fromkeys(m for m, _ in seen)), least=spreads[0], most=most)
    if models:
        yield say("two_runs.occasion", but="" if found.run_spread is None else " but that spread")
    for which, side in (("old", found.old), ("new", found.new)):
        if side.drift_pct is not None:
            yield say("two_runs.drift", which=which, by=1 + side.drift_pct / 100, where=side.drift_of)


def _side(say: Speech, which: str, side: RunSide) -> str:
    return say(
        "two_runs.side",
        which=which,
        folder=side.folder,
        devices=list(side.devices),
        vllm=list(side.vllm),
        blocks=side.blocks,
        invalid=side.blocks_invalid or None,
        first=_minute(side.first_block_at),
        last=_minute(side.last_block_at),
    )


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _sections(say: Speech, found: TwoRuns) -> Iterator[Section]:
    rows = [row for row in found.rows if row.baseline is None and row.code != "described"]
    if rows:
        yield Section("New / old", (_rows(say, rows, say("two_runs.legend")),))
    changes = grouped((row for row in found.rows if row.baseline is not None), lambda row: str(row.baseline))
    for baseline, some in changes.items():
        note = say("two_runs.changes", baseline=baseline)
        yield Section(
            "What quantization brings: new / old of variant / baseline", (_rows(say, some, note, figures=False),)
        )
    yield Section("What differs", tuple(_differences(say, found)))
    if described := [row for row in found.rows if row.code == "described"]:
        yield Section("Described, not tested", (_rows(say, described, ""),))


def _rows(say: Speech, rows: Sequence[RunRow], note: str, *, figures: bool = True) -> Table:
    """figures: old and new are in the metric's unit; else they are ratios."""
    lines = (
        (
            row.model,
            row.cell.key,
            _metric(row.metric) if figures else METRICS[row.metric].words,
            number(row.old_value),
            number(row.new_value),
            figure(row) if row.ratio is not None else "",
            f"{row.n_old} + {row.n_new}",
            f"{row.starts_old} + {row.starts_new}" if row.starts_old and row.starts_new else "",
            "" if row.undone_by is None else percent(row.undone_by - 1),
            "" if row.code == "described" else say("two_runs.verdict", form=_form(row), why=why(say, row)),
        )
        for row in rows
    )
    head = ("model", "cell", "metric", "old", "new", "change [95 % CI]", "blocks", "starts", "undone by", "verdict")
    return without_empty_columns(table(head, lines, notes=[note]))


def _metric(name: str) -> str:
    """A metric with the unit that its words do not have."""
    metric = METRICS[name]
    return metric.words if metric.kind == "throughput" else f"{metric.words} ({metric.unit})"


def _form(row: RunRow) -> str:
    if row.code == "worse" and row.gated and not row.fails:
        return "worse_alone"
    return row.likely if row.code == "undecided" and row.likely else row.code


def _differences(say: Speech, found: TwoRuns) -> Iterator[Table | Paragraph]:
    lines = [(_TITLES.get(d.key, d.key), d.detail, ", ".join(d.of), _effect(say, d)) for d in found.differences]
    notes = [
        say("two_runs.same") if not lines else "",
        say("two_runs.absent", names=list(found.absent)) if found.absent else "",
        say("two_runs.only", which="old", cells=list(found.only_old)) if found.only_old else "",
        say("two_runs.only", which="new", cells=list(found.only_new)) if found.only_new else "",
    ]
    if lines:
        yield table(("what", "old against new", "of", "so"), lines, notes=notes)
    else:
        yield text(*notes)


def _effect(say: Speech, difference: RunDifference) -> str:
    if difference.declared:
        return say("two_runs.effect", form="declared")
    if difference.refuses:
        name = difference.group if difference.group != "settings" else difference.key
        return say("two_runs.effect", form="fail" if name else "fail_always", name=name)
    return say("two_runs.effect", form="warn")
