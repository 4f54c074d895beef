"""Each model with as many requests in flight as its KV cache holds: which number that is, and the comparison there.

Two models on one card are asked for different cells, one each. Blocks are paired by number as everywhere, and tested as
a family of their own; none of these comparisons is the primary one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import asdict

from quantbench.judge.memory import requests_at
from quantbench.judge.pairing import BlockKey, Pairs, Samples, arms_of, pair_up
from quantbench.judge.verdict import apart
from quantbench.records.block import BlockContext
from quantbench.records.codes import code
from quantbench.records.comparison import Comparison, IsoComparison, Verdict
from quantbench.records.plan import ComparisonPlan, IsoPlan
from quantbench.records.server import Ready

RECKONED: Final = 0.95
"""Share of what arithmetic says that is measured before the first start tells: it errs by some percent."""
BELOW: Final = 0.9
ABOVE: Final = 1.02
"""A number stays while it lies between these shares of what fits, or is one less: starts differ by some blocks of KV
cache, and that is not worth measuring again."""


def chosen(fits: float, limit: int, *, reckoned: bool) -> int:
    """With how many requests to measure where `fits` of them fit (reckoned: by arithmetic) and `limit` may run."""
    return min(int(fits * (RECKONED if reckoned else 1)), limit)


def stands(concurrency: int, fits: float, limit: int) -> bool:
    """Whether a number that was chosen earlier is still what fits, as near as matters."""
    most = min(fits, limit)
    return min(BELOW * most, int(most) - 1) <= concurrency <= min(ABOVE * fits, limit)


def compare(
    contexts: Sequence[BlockContext],
    plan: ComparisonPlan,
    verdict: Verdict,
    *,
    ready: Mapping[str, Ready] | None = None,
    longest: Mapping[str, int | None] | None = None,
    samples: Mapping[BlockKey, Samples] | None = None,
    pair_failures: Mapping[str, Sequence[str]] | None = None,
) -> tuple[IsoComparison, ...]:
    """Every variant at what fits it against the baseline at what fits that, in all workloads that ask for it.

    verdict: of the same blocks, for the A/A control. longest: tokens of the longest request, by workload.
    """
    rows: list[IsoComparison] = []
    blocks, asked = arms_of(contexts), {name: iso for name, iso in plan.iso_memory.items() if iso.measured}
    for variant in plan.variants:
        pairs = {
            here: pair_up(blocks[there][plan.baseline], blocks[here][variant], plan.blocks, samples)
            for name, iso in asked.items()
            if (there := iso.cell(name, plan.baseline)) and plan.baseline in blocks.get(there, {})
            if (here := iso.cell(name, variant)) and variant in blocks.get(here, {})
        }
        compared = apart(
            pairs,
            verdict,
            tuple((pair_failures or {}).get(variant, ())),
            gpus=(plan.gpus(plan.baseline), plan.gpus(variant)),
            starts=plan.starts,
            names={"gpu_name": plan.gpu_name, "baseline": plan.baseline, "variant": variant},
            most_blocks=plan.most_blocks,
        )
        rows += [
            _row(row, pairs[row.cell], asked[row.workload], ready or {}, (longest or {}).get(row.workload))
            for row in compared
        ]
    return tuple(rows)


def _row(row: Comparison, pairs: Pairs, iso: IsoPlan, ready: Mapping[str, Ready], longest: int | None) -> IsoComparison:
    """With both numbers of requests, and what speaks against calling them what fits."""
    models = (row.baseline, row.variant)
    fits = {model: requests_at(ready[model].memory, iso.length) if model in ready else None for model in models}
    preempted = sum(block.server.delta.preemptions or 0 for block in (*pairs.a, *pairs.b))
    doubts = [
        code("iso_other_fits", n=iso.concurrency[model], fits=int(held))
        for model, held in fits.items()
        if held is not None and not stands(iso.concurrency[model], held, iso.limits[model])
    ]
    doubts += [code("iso_longer", n=longest)] if longest is not None and longest > iso.length else []
    doubts += [code("iso_preempted", n=int(preempted))] if preempted else []
    return IsoComparison(
        **asdict(row) | {"reasons": (*row.reasons, *doubts)},
        length=iso.length,
        longest_request=longest,
        baseline_concurrency=iso.concurrency[row.baseline],
        baseline_fits=_whole(fits[row.baseline]),
        variant_fits=_whole(fits[row.variant]),
    )


def _whole(fits: float | None) -> int | None:
    return None if fits is None else int(fits)
