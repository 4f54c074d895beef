"""The checklist "best practices": eight items, each with what was measured here."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from quantbench.judge.impact import helps, why_not
from quantbench.judge.predictions import prompts_lost
from quantbench.records.run import Run
from quantbench.report import cost, decision
from quantbench.report.document import Section, bullets
from quantbench.report.say import Speech
from quantbench.wording import listing


def sections(run: Run, say: Speech) -> tuple[Section, ...]:
    """The items in two groups."""
    return (
        Section(
            "Comparing a quantized model",
            bullets([_vram(run, say), _gate(run, say), _turns(run, say), _ports(run, say)]),
        ),
        Section(
            "Batch and cost", bullets([_impact(run, say), _cost(run, say), _assumptions(run, say), _adjusted(run, say)])
        ),
    )


def _vram(run: Run, say: Speech) -> str:
    figures = listing(_smaller(run, say)) or say("practices.vram_unknown")
    return say("practices.vram", gpu=run.plan.gpu_name, figures=figures)


def _smaller(run: Run, say: Speech) -> Iterator[str]:
    for variant in run.variants:
        row = run.memory_of(variant)
        if row.weights_reduction_pct is not None and row.vram_delta_reduction_pct is not None:
            yield say(
                "practices.weights_and_server", model=variant, weights=row.weights_reduction_pct,
                server=row.vram_delta_reduction_pct,
            )  # fmt: skip
        elif row.weights_reduction_pct is not None:
            yield say("practices.weights", model=variant, weights=row.weights_reduction_pct)
        elif row.checkpoint_reduction_pct is not None:
            yield say("practices.checkpoint", model=variant, files=row.checkpoint_reduction_pct)


def _gate(run: Run, say: Speech) -> str:
    if not run.quality:
        return say("practices.gate_not_passed")
    found = [
        say("practices.lost", model=variant, lost=prompts_lost(details), word=details.verdict.word)
        for variant, details in run.quality.items()
    ]
    return say("practices.gate", here="; ".join(found))


def _turns(run: Run, say: Speech) -> str:
    """Of comparisons of more than one pair, as one pair alone has no order."""
    pairs = [row.interleaved for row in run.verdict.rows if row.n_pairs > 1]
    blocks = run.measurement.blocks.total
    if not pairs:
        return say("practices.turns_no_pairs", blocks=blocks)
    return say("practices.turns", interleaved=sum(pairs), n=len(pairs), blocks=blocks)


def _ports(run: Run, say: Speech) -> str:
    ports = {model: urlsplit(run.ready[model].url).port for model in run.models if model in run.ready}
    here = [say("practices.port", model=model, port=port) for model, port in ports.items() if port]
    return say("practices.ports_here", ports=here) if here else say("practices.ports")


def _impact(run: Run, say: Speech) -> str:
    readings: dict[str, list[str]] = {}
    for row in run.impact:
        if not why_not(row):
            readings.setdefault(helps(row), []).append(row.variant)
    found = [say("practices.reading", models=models, reading=say(words)) for words, models in readings.items()]
    return say("practices.impact", here="; ".join(found) or say("practices.impact_unknown"))


def _cost(run: Run, say: Speech) -> str:
    lines = [f"{workload}: {'; '.join(decision.savings(run, say, workload))}" for workload in run.workloads()]
    return say("practices.cost", here=". ".join(lines if run.variants else []) or say("practices.cost_unknown"))


def _assumptions(run: Run, say: Speech) -> str:
    return say("practices.assumptions", price=say(cost.price(run)))


def _adjusted(run: Run, say: Speech) -> str:
    found = [
        say("decision.bound", model=variant, bound=bound)
        for variant, details in run.quality.items()
        if (bound := details.verdict.loss_rate_upper_95) is not None
    ]
    return say("practices.adjusted", bounds=found) if found else say("practices.adjusted_unknown")
