"""The checklist "best practices": eight items, each with what was measured here."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from quantbench.judge.impact import helps, why_not
from quantbench.records.run import Run
from quantbench.report import cost, decision
from quantbench.report.document import Section, bullets, grouped
from quantbench.report.say import Speech


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
    figures = list(_smaller(run, say)) or [say("practices.vram_unknown")]
    return say("practices.vram", gpu=run.plan.gpu_name, figures=figures)


def _smaller(run: Run, say: Speech) -> Iterator[str]:
    for row in map(run.memory_of, run.variants):
        weights, server = row.weights_reduction_pct, row.vram_delta_reduction_pct
        if weights is not None:
            yield say("practices.smaller", form="weights", model=row.model, by=weights, server=server)
        elif row.checkpoint_reduction_pct is not None:
            yield say("practices.smaller", form="checkpoint", model=row.model, by=row.checkpoint_reduction_pct)


def _gate(run: Run, say: Speech) -> str:
    here = "; ".join(cost.quality(run, say))
    return say("practices.gate", form="passed" if here else "skipped", here=here)


def _turns(run: Run, say: Speech) -> str:
    """Of comparisons of more than one pair, as one pair alone has no order."""
    pairs = [row.interleaved for row in run.verdict.rows if row.n_pairs > 1]
    return say("practices.turns", interleaved=sum(pairs), n=len(pairs) or None, blocks=run.measurement.blocks.total)


def _ports(run: Run, say: Speech) -> str:
    ports = {model: urlsplit(run.ready[model].url).port for model in run.models if model in run.ready}
    return say(
        "practices.ports", ports=[say("practices.port", model=m, port=port) for m, port in ports.items() if port]
    )


def _impact(run: Run, say: Speech) -> str:
    known = grouped([row for row in run.impact if not why_not(row)], helps)
    readings = [
        say("practices.reading", models=[row.variant for row in rows], reading=say(words))
        for words, rows in known.items()
    ]
    return say("practices.impact", here="; ".join(readings) or say("practices.impact_unknown"))


def _cost(run: Run, say: Speech) -> str:
    savings = {
        w: "; ".join(cost.saving(run, say, w, variant, brief=True) for variant in run.variants) for w in run.workloads()
    }
    return say("practices.cost", here=". ".join(f"{w}: {words}" for w, words in savings.items() if words))


def _assumptions(run: Run, say: Speech) -> str:
    return say("practices.assumptions", price=cost.price(run, say))


def _adjusted(run: Run, say: Speech) -> str:
    return say("practices.adjusted", bounds=decision.loss_bounds(run, say))
