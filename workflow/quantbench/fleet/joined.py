"""What the comparisons of a fleet say together: one table, one plot, one page below `fleets/{fleet}/joined/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from quantbench import files, fitting, iso_memory, results
from quantbench.config import report_plan
from quantbench.errors import QuantbenchError
from quantbench.fleet import folder, inner, table
from quantbench.fleet.comparisons import Fleet
from quantbench.records.base import convert, read
from quantbench.records.base import write as record
from quantbench.records.fleet import Done, FleetRow, Joined, Missing
from quantbench.records.layout import Results
from quantbench.records.plan import ReportPlan
from quantbench.records.run import Run
from quantbench.report import fleet as pages
from quantbench.report import plots, render
from quantbench.serving import folder as lock

FILES: Final = {
    "table": "fleet.csv",
    "record": "fleet.json",
    "page": "fleet.md",
    "report": "fleet.html",
    "complete": "complete.json",
}


def paths(fleet: str) -> dict[str, str]:
    """The files of a fleet, by what they are; `complete` is there only where no comparison is missing."""
    return {name: f"fleets/{fleet}/joined/{file}" for name, file in FILES.items()}


def enter(fleet: Fleet) -> None:
    """Hold the fleet's folder until this process ends. Raises QuantbenchError if another host has it."""
    place = fleet.folder("joined")
    place.mkdir(parents=True, exist_ok=True)
    lock.enter(place.parent, place)


def write(fleet: Fleet, outputs: Mapping[str, str] | None = None) -> list[str]:
    """Write them of the comparisons that are done, plots beside them; returns lines for the person at the terminal."""
    place = fleet.folder("joined")
    to = {name: Path(path) for name, path in (outputs or {n: str(place / f) for n, f in FILES.items()}).items()}
    to["complete"].unlink(missing_ok=True)
    joined = join(fleet)
    results.write_rows(to["table"], joined.rows, results.columns_of(FleetRow))
    record(to["record"], joined)
    files.write_text(to["page"], render.page(pages.page(joined)))
    charts = {one.workload: plots.pareto(one) for one in pages.paretos(joined)}
    for workload, chart in charts.items():
        plots.save(chart, place, f"pareto_{workload}")
    drawn = {workload: plots.svg_inline(chart) for workload, chart in charts.items()}
    files.write_text(to["report"], render.report(pages.report(joined, drawn)))
    if not joined.missing:
        files.write_json(to["complete"], {"comparisons": [one.comparison for one in joined.done]})
    return [
        *(f"{one.comparison} is not done; its log: {one.log or 'none yet'}" for one in joined.missing),
        f"{len(joined.done)} of {len(fleet.entries)} comparisons are done: {to['report']}",
    ]


def need_all(fleet: Fleet) -> None:
    """Raise QuantbenchError if what was written lacks a comparison, as its files are damaged."""
    for one in read(fleet.folder("joined") / FILES["record"], Joined).missing:
        raise QuantbenchError(
            f"comparisons.{one.comparison}: {one.last_words}",
            remedy=f"remove that file and {one.folder}/{folder.DONE}, and run the fleet again; it is made anew",
        )


def join(fleet: Fleet) -> Joined:
    """What the comparisons that are done have measured, and which are missing; one whose files are damaged is."""
    done: list[Done] = []
    missing: list[Missing] = []
    rows: list[FleetRow] = []
    for name in fleet.entries:
        marker = fleet.folder(name) / folder.DONE
        if not marker.exists():
            missing.append(_missing(fleet, name, inner.last_words_of(fleet.folder(name) / folder.LOG)))
            continue
        try:
            one = read(marker, Done)
            rows += table.rows(run_of(fleet, one), one)
            done.append(one)
        except QuantbenchError as error:
            missing.append(_missing(fleet, name, f"it was done, and cannot be read any more: {error.what}"))
    return Joined(fleet=fleet.name, done=tuple(done), missing=tuple(missing), rows=tuple(rows))


def _missing(fleet: Fleet, name: str, last_words: str) -> Missing:
    log = fleet.folder(name) / folder.LOG
    return Missing(
        comparison=name,
        folder=fleet.shown(name),
        command=fleet.command(name),
        log=f"{fleet.shown(name)}/{folder.LOG}" if log.exists() else None,
        last_words=last_words,
    )


class _Files(dict[str, Any]):
    """Named inputs as a job has them."""

    __getattr__ = dict.__getitem__


def run_of(fleet: Fleet, done: Done) -> Run:
    """All results of a comparison, as its own pages read them."""
    at = Results(done.gpu, fleet.folder(done.comparison))
    plan = fitting.fitted(fleet.plan(done.comparison), at, look=False)
    plan = iso_memory.planned(plan, at, fleet.root, look=False)
    inputs = _Files(
        {name: at.file(name) for name in ("verdict", "memory", "measurement", "cost", "decision")},
        capacity=[at.file("capacity", workload=w, model=m) for w in plan.config["workloads"] for m in plan.models],
        ready=[at.file("ready", model=model) for model in plan.models],
    )
    return results.load_run(inputs, convert(report_plan.report(plan), ReportPlan), done.command)
