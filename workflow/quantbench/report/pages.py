"""The pages that a person reads, put together from their sections. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quantbench.report import (
    best_practices,
    narrative_business,
    narrative_capacity,
    narrative_cards,
    narrative_cost,
    narrative_decision,
    narrative_doubts,
    narrative_impact,
    narrative_measurement,
    narrative_memory,
    narrative_quality,
    predictions,
)
from quantbench.report.document import Part, Section, bullets
from quantbench.report.facts import Facts
from quantbench.report.narrative_words import alone
from quantbench.wording import percent, sentence


@dataclass(frozen=True)
class Page:
    """A title, what stands before the first heading, and the sections."""

    title: str
    lead: tuple[Part, ...]
    sections: tuple[Section, ...]


def notes(facts: Facts) -> Page:
    """notes.md: the specification's sections, filled from the data; without a variant, those that need none."""
    title = f"Quantization vs {facts.label(facts.baseline)}" if facts.variants else _capacity_of(facts)
    compared = (narrative_impact.section, narrative_quality.section, predictions.section)
    return Page(
        f"{title} on {facts.gpu_name}",
        bullets(narrative_decision.headline(facts)),
        (
            narrative_memory.section(facts),
            *narrative_capacity.sections(facts, "interactive"),
            *narrative_capacity.sections(facts, "batch"),
            *(section(facts) for section in compared if facts.variants),
            narrative_measurement.how_section(facts),
            narrative_doubts.doubts_section(facts),
        ),
    )


def _capacity_of(facts: Facts) -> str:
    return f"Capacity of {facts.label(facts.baseline)}"


def cost(facts: Facts) -> Page:
    """cost.md: assumptions, tables, savings, narrative, business case."""
    title = "Quantization cost comparison" if facts.variants else f"Cost of {facts.label(facts.baseline)}"
    return Page(
        f"{title}, {facts.gpu_name}", bullets([alone(facts), narrative_decision.warning(facts)]), _cost_sections(facts)
    )


def _cost_sections(facts: Facts) -> tuple[Section, ...]:
    prose = narrative_business.sections(facts) if facts.variants else ()
    return (*narrative_cost.tables(facts), *prose)


def decision(facts: Facts) -> Page:
    """decision.md: the one-page memo."""
    variants = ", ".join(facts.label(variant) for variant in facts.variants)
    title = f"Decision: {variants} instead of {facts.label(facts.baseline)} on {facts.gpu_name}?"
    if not facts.variants:
        title = f"{_capacity_of(facts)} on {facts.gpu_name}: nothing to decide"
    return Page(title, (), tuple(narrative_decision.memo(facts)))


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
    cards: tuple[narrative_cards.Card, ...]
    lead: tuple[Figure, ...]
    chapters: tuple[tuple[Section, tuple[Figure, ...]], ...]


def report(facts: Facts, drawn: Mapping[str, str]) -> Report:
    """The HTML report; `drawn` are the charts by name, those that the data could not give are absent."""

    def figures(*names: str) -> tuple[Figure, ...]:
        return tuple(Figure(drawn[name], _caption(facts, name)) for name in names if name in drawn)

    chapters: list[tuple[Section, tuple[Figure, ...]]] = []
    for style in ("interactive", "batch"):
        found = zip(narrative_capacity.sections(facts, style), facts.workloads(style), strict=True)
        chapters += [(section, figures(f"throughput_{name}", f"latency_{name}")) for section, name in found]
    return Report(
        title=f"{_capacity_of(facts)} on {facts.gpu_name}"
        if not facts.variants
        else f"Is the quantized model worth it on {facts.gpu_name}?",
        subtitle=_subtitle(facts),
        warning="" if facts.verdict.get("trusted", True) else str(facts.verdict.get("words") or ""),
        cards=tuple(narrative_cards.cards(facts)),
        lead=figures("throughput_ratio"),
        chapters=(
            *chapters,
            *_if_compared(facts, narrative_impact.section),
            (narrative_memory.section(facts), figures("memory")),
            *_if_compared(facts, narrative_quality.section),
            (Section("Cost", (), _cost_sections(facts)), figures("cost")),
            *_if_compared(facts, predictions.section),
            (narrative_measurement.how_section(facts), ()),
            (narrative_doubts.doubts_section(facts), ()),
            (narrative_doubts.provenance(facts), ()),
        ),
    )


def _if_compared(facts: Facts, section: Callable[[Facts], Section]) -> tuple[tuple[Section, tuple[Figure, ...]], ...]:
    """A chapter that means nothing without a variant."""
    return ((section(facts), ()),) if facts.variants else ()


def _subtitle(facts: Facts) -> str:
    """What was compared, and when."""
    day = str(facts.measurement.get("first_block_at") or "")[:10]
    measured = f"measured on {day}" if day else ""
    if not facts.variants:
        return " ".join(filter(None, [alone(facts), sentence(measured)]))
    compared = f"{', '.join(map(facts.label, facts.variants))} against {facts.label(facts.baseline)}"
    return ", ".join(filter(None, [compared, measured]))


def _caption(facts: Facts, name: str) -> str:
    captions = {
        "throughput_ratio": "Tokens per second against the baseline. Lines are 95 % confidence intervals, the band is "
        f"{_band(facts)}, filled points are differences that are shown.",
        "memory": "What the server reports of its memory. Parts that the log did not give are left out.",
        "cost": "Price of a million output tokens in the deciding cells.",
    }
    kind, _, workload = name.partition("_")
    words = {"throughput": "Throughput against concurrency", "latency": "Latency against concurrency"}
    lengths = sorted({tokens for _, tokens in facts.cells(workload)})
    of = f" with max_tokens={lengths[0]}" if len(lengths) > 1 else ""
    return captions.get(name) or f"{words[kind]}, {workload}{of}."


def _band(facts: Facts) -> str:
    """What the band of the forest chart is: the wanted margin, or the resolution where the A/A control is coarser."""
    margin = max((row["margin"] for row in facts.compared(metric="throughput_tok_s")), default=0.0)
    if margin > facts.config["margin"]:
        return f"what the A/A control resolves (±{percent(margin)})"
    return f"the margin within which a difference does not matter (±{percent(margin)})"


def practices(facts: Facts) -> Page:
    """best_practices.md: the specification's checklist with the figures of this run."""
    lead = bullets([narrative_decision.warning(facts)])
    return Page(f"Inference performance best practices, {facts.gpu_name}", lead, best_practices.sections(facts))
