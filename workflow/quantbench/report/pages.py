"""The pages that a person reads, put together from their sections."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from quantbench.records.metric import SPEED, Style
from quantbench.records.run import Run
from quantbench.report import cost, decision, factors, impact, iso_memory, memory, method, practices, quality, speed
from quantbench.report.document import Code, Compare, Details, Page, Part, Section, Table, bullets, text
from quantbench.report.say import Speech
from quantbench.wording import sentence

STYLES: Final[tuple[Style, ...]] = ("interactive", "batch")
LONG_TABLE: Final = 12
"""Rows above which the HTML report folds a table away."""


def notes(run: Run) -> Page:
    """notes.md: all sections, filled from the data; without a variant, those that need none."""
    say = Speech.of(run)
    compared = (impact.section, quality.section, decision.predictions)
    iso = iso_memory.section(run, say)
    sections = (
        memory.section(run, say),
        *(section for style in STYLES for section in speed.sections(run, say, style)),
        *([iso] if iso else []),
        *(section(run, say) for section in compared if run.variants),
        method.section(run, say),
        method.doubts_section(run, say),
    )
    title = f"Quantization vs {run.label(run.baseline)}" if run.variants else _capacity_of(run)
    return Page(f"{title} on {run.plan.gpu_name}", bullets(decision.leads(run, say)), sections)


def cost_page(run: Run) -> Page:
    """cost.md: assumptions, tables, savings, narrative, business case."""
    say = Speech.of(run)
    title = "Quantization cost comparison" if run.variants else f"Cost of {run.label(run.baseline)}"
    lead = bullets([decision.alone(run, say), decision.warning(run, say), *factors.unfit(run, say)])
    return Page(f"{title}, {run.plan.gpu_name}", lead, cost.sections(run, say))


def decision_page(run: Run) -> Page:
    """decision.md: the one-page memo."""
    say = Speech.of(run)
    variants = ", ".join(map(run.label, run.variants))
    title = f"Decision: {variants} instead of {run.label(run.baseline)} on {run.plan.gpu_name}?"
    if not run.variants:
        title = f"{_capacity_of(run)} on {run.plan.gpu_name}: nothing to decide"
    lead = (text(decision.scope(run)), *bullets(factors.lines(run, say)))
    return Page(title, lead, tuple(decision.memo(run, say)))


def best_practices(run: Run) -> Page:
    """best_practices.md: the checklist with the figures of this run."""
    say = Speech.of(run)
    title = f"Inference performance best practices, {run.plan.gpu_name}"
    lead = bullets([decision.warning(run, say), *factors.unfit(run, say)])
    return Page(title, lead, practices.sections(run, say))


def answers(run: Run) -> Page:
    """answers.md: the answers verbatim."""
    say = Speech.of(run)
    page = quality.answers_page(run, say)
    warning = bullets([decision.warning(run, say), *factors.unfit(run, say)])
    return replace(page, lead=(*warning, *page.lead))


PAGES: Final[Mapping[str, Callable[[Run], Page]]] = {
    "notes": notes,
    "cost": cost_page,
    "decision": decision_page,
    "best_practices": best_practices,
    "answers": answers,
}
"""Markdown pages by the name of their file."""


def _capacity_of(run: Run) -> str:
    return f"Capacity of {run.label(run.baseline)}"


@dataclass(frozen=True)
class Figure:
    """A drawn chart (SVG text) and its caption."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Report:
    """report.html: cards, then figures and sections in turn. `warning` stands above all."""

    title: str
    subtitle: str
    warning: str
    cards: tuple[decision.Card, ...]
    lead: tuple[Figure, ...]
    chapters: tuple[tuple[Section, tuple[Figure, ...]], ...]


def report(run: Run, drawn: Mapping[str, str]) -> Report:
    """The HTML report; `drawn` are the charts by name, those that the data could not give are absent."""
    say = Speech.of(run)

    def figures(*names: str) -> tuple[Figure, ...]:
        return tuple(Figure(drawn[name], _caption(run, say, name)) for name in names if name in drawn)

    chapters: list[tuple[Section, tuple[Figure, ...]]] = []
    for style in STYLES:
        for section, name in zip(speed.sections(run, say, style), run.workloads(style), strict=True):
            chapters.append((section, figures(f"throughput_{name}", f"latency_{name}")))
    if iso := iso_memory.section(run, say):
        chapters.append((iso, ()))
    if run.variants:
        chapters.append((impact.section(run, say), ()))
    chapters.append((memory.section(run, say), figures("memory")))
    if run.variants:
        chapters.append((_with_answers(run, say), ()))
    chapters.append((Section("Cost", (), cost.sections(run, say)), figures("cost")))
    if run.variants:
        chapters.append((decision.predictions(run, say), ()))
    chapters += [(_with_guards(run, say), ()), (method.doubts_section(run, say), ()), (method.provenance(run, say), ())]
    return Report(
        title=f"Is the quantized model worth it on {run.plan.gpu_name}?"
        if run.variants
        else f"{_capacity_of(run)} on {run.plan.gpu_name}",
        subtitle=_subtitle(run, say),
        warning=decision.warning(run, say),
        cards=tuple(decision.cards(run, say)),
        lead=figures("throughput_ratio"),
        chapters=tuple((folded(section), figures) for section, figures in chapters),
    )


def _with_answers(run: Run, say: Speech) -> Section:
    """The quality section, with the verbatim answers that the Markdown pages have in answers.md."""
    section = quality.section(run, say)
    page = quality.answers_page(run, say)
    return replace(section, subsections=(*section.subsections, Section(page.title, page.lead, page.sections)))


def _with_guards(run: Run, say: Speech) -> Section:
    """How it was measured, with every guard's counts, which only the HTML report shows."""
    section = method.section(run, say)
    return replace(section, parts=(*section.parts, method.guard_details(run, say)))


def folded(section: Section) -> Section:
    """The section with its long tables and its verbatim parts folded away."""
    parts: list[Part] = []
    for verbatim, some in itertools.groupby(section.parts, lambda part: isinstance(part, Code | Compare)):
        group = tuple(some)
        parts += [Details("Verbatim", group)] if verbatim else [_short(part, section.title) for part in group]
    return replace(section, parts=tuple(parts), subsections=tuple(map(folded, section.subsections)))


def _short(part: Part, title: str) -> Part:
    if not isinstance(part, Table) or len(part.rows) <= LONG_TABLE:
        return part
    return Details(f"{part.caption or title} ({len(part.rows)} rows)", (replace(part, caption=""),))


def _subtitle(run: Run, say: Speech) -> str:
    """What was compared, and when."""
    day = (run.measurement.first_block_at or "")[:10]
    measured = f"measured on {day}" if day else ""
    if not run.variants:
        return " ".join(filter(None, [decision.alone(run, say), sentence(measured)]))
    compared = f"{', '.join(map(run.label, run.variants))} against {run.label(run.baseline)}"
    said = ", ".join(filter(None, [compared, measured]))
    more = factors.lines(run, say)
    return " ".join([sentence(said), *more]) if more else said


def _caption(run: Run, say: Speech, name: str) -> str:
    """What a chart shows; the band of the forest chart is the margin."""
    kind, _, workload = name.partition("_")
    if name == "throughput_ratio":
        margin = max((row.margin for row in run.compared(metric=SPEED)), default=run.plan.margin)
        return say("chart.caption", form="ratio", margin=margin)
    lengths = run.lengths(workload)
    return say("chart.caption", form=kind, workload=workload, tokens=lengths[0] if len(lengths) > 1 else None)
