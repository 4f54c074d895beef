"""The pages that a person reads, put together from their sections. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from quantbench import (
    best_practices,
    narrative_capacity,
    narrative_cost,
    narrative_decision,
    narrative_measurement,
    narrative_memory,
    narrative_quality,
    predictions,
)
from quantbench.document import Part, Section, bullets
from quantbench.facts import Facts


@dataclass(frozen=True)
class Page:
    """A title, what stands before the first heading, and the sections."""

    title: str
    lead: tuple[Part, ...]
    sections: tuple[Section, ...]


def notes(facts: Facts) -> Page:
    """notes.md: the specification's sections, filled from the data."""
    return Page(
        f"Quantization vs {facts.label(facts.baseline)} on {facts.gpu_name}",
        bullets(narrative_decision.headline(facts)),
        (
            narrative_memory.section(facts),
            *narrative_capacity.sections(facts, "interactive"),
            *narrative_capacity.sections(facts, "batch"),
            narrative_capacity.impact_section(facts),
            narrative_quality.section(facts),
            predictions.section(facts),
            narrative_measurement.how_section(facts),
            narrative_measurement.doubts_section(facts),
        ),
    )


def cost(facts: Facts) -> Page:
    """cost.md: assumptions, tables, savings, narrative, business case."""
    return Page(f"Quantization cost comparison, {facts.gpu_name}", (), narrative_cost.sections(facts))


def decision(facts: Facts) -> Page:
    """decision.md: the one-page memo."""
    variants = ", ".join(facts.label(variant) for variant in facts.variants)
    title = f"Decision: {variants} instead of {facts.label(facts.baseline)} on {facts.gpu_name}?"
    return Page(title, (), tuple(narrative_decision.memo(facts)))


def practices(facts: Facts) -> Page:
    """best_practices.md: the specification's checklist with the figures of this run."""
    return Page(f"Inference performance best practices, {facts.gpu_name}", (), best_practices.sections(facts))
