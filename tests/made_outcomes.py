"""Outcomes of made-up models on made-up suites: a pass rate, answers on an edge, damage, and nothing else.

An item has a chance to be passed that is 0 or 1 for most, and anything between for the share `edge`: there a sum in
another order decides. Baseline, its repeat and the variant draw alike; the variant's chance is less by its damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from quantbench.records.suite import Answered, Estimate, Likelihood, Outcome, SuiteScore

SHIPPED: Mapping[str, int] = {
    "arithmetic": 40, "reasoning": 30, "extraction": 30, "json": 30, "tool_call": 25, "code": 60, "fact": 35,
    "lookup": 40, "instruction": 25, "second_language": 60, "copying": 15, "refusal": 10, "summary": 60,
}  # fmt: skip
"""Items per class of a suite with a word on every use."""
MARGINS = {"chat": 0.02, "default": 0.05}
PASSES, FAILS, LOOPS = Answered(passed=True), Answered(passed=False), Answered(passed=False, hard=("loop",))


def suite(outcomes: Any = (), **more: Any) -> SuiteScore:
    """A suite's score."""
    own = {"suite": "tasks", "kind": "answers", "version": "v1", "baseline": "bf16", "variant": "int8", **more}
    return SuiteScore(outcomes=tuple(outcomes), **own)


def counted(n: int, lost: int = 0, gained: int = 0, passed: int | None = None, kind: str = "fact") -> list[Outcome]:
    """n items; the baseline passes `passed` (all but the gained where not given), with those lost."""
    passed = n - gained if passed is None else passed
    sides = [(PASSES, FAILS)] * lost + [(FAILS, PASSES)] * gained + [(PASSES, PASSES)] * (passed - lost)
    sides += [(FAILS, FAILS)] * (n - len(sides))
    return [Outcome(id=f"{kind}{i}", kind=kind, baseline=a, variant=b) for i, (a, b) in enumerate(sides)]


def looping(n: int, new: int, old: int = 0, passed: int = 150) -> list[Outcome]:
    """Of n items the last that the baseline fails loop with the variant alone, the next with the baseline alone."""
    sides = [(PASSES, PASSES)] * passed + [(FAILS, FAILS)] * (n - passed - new - old)
    sides += [(LOOPS, FAILS)] * old + [(FAILS, LOOPS)] * new
    return [Outcome(id=f"i{i}", kind="fact", baseline=a, variant=b) for i, (a, b) in enumerate(sides)]


def drawn(
    rng: np.random.Generator,
    passes: float,
    *,
    edge: float = 0.06,
    damage: float = 0.0,
    loops: float = 0.0,
    kinds: Mapping[str, int] = SHIPPED,
) -> list[Outcome]:
    """A suite's outcomes. passes: share that the baseline passes; loops: share of answers of the variant that loop."""
    names = [name for name, n in kinds.items() for _ in range(n)]
    chance = np.where(rng.random(len(names)) < edge, rng.random(len(names)), rng.random(len(names)) < passes)
    first, again, own = (rng.random(len(names)) < chance * less for less in (1, 1, 1 - damage))
    looped = rng.random(len(names)) < loops
    return [
        Outcome(
            id=f"{name}{i}",
            kind=name,
            cluster=f"passage{i // 4}" if name == "lookup" else "",
            baseline=PASSES if first[i] else FAILS,
            variant=LOOPS if looped[i] else PASSES if own[i] else FAILS,
            again=(PASSES if again[i] else FAILS,),
        )
        for i, name in enumerate(names)
    ]


def likelihood(kl: float, top1: float = 0.95, *, width: float = 0.15, ppl: float | None = None) -> Likelihood:
    """Likelihoods of 80 texts; width: half of the interval of the KL divergence, as a share of it."""

    def of(value: float, half: float) -> Estimate:
        return Estimate(value=value, low=value - half, high=value + half, n=80)

    return Likelihood(
        prompts=80, positions=10240, kl=of(kl, width * kl), kl_lower_bound=0.7 * kl, kl_p99=20 * kl,
        top1=of(top1, 0.01), near_ties=0.02, mean_dp=of(0.0, 0.001), rms_dp=0.05,
        ppl_ratio=of(float(np.exp(kl)) if ppl is None else ppl, width * kl),
    )  # fmt: skip
