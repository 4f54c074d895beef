"""Made-up answers of a pair, for simulations: difficulty is of the passage and the item, wrong answers are longer."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from quantbench.records.suite import Answered, Outcome

MAX_TOKENS = 150
SAME = 0.6
"""Share of items to which both sides answer the same."""


def item(number: int, *, tokens: tuple[int, int] = (100, 100), base: bool | None = True, cluster: str = "",
         same_input: bool = True, passed: bool | None = True, **own: Any) -> Outcome:  # fmt: skip
    """An item; `base` and `passed`: whether the sides pass; other keywords are of the variant's answer."""
    return Outcome(
        id=str(number),
        kind="fact",
        cluster=cluster,
        baseline=Answered(passed=base, tokens=tokens[0]),
        variant=Answered(passed=passed, tokens=tokens[1], **own),
        same_input=same_input,
    )


def spread(n: int) -> list[Outcome]:
    """Of four items the baseline passes three and the variant two; the variant's answers are 1.2 times as long."""
    return [item(i, base=i % 4 != 0, passed=i % 4 > 1, tokens=(100 + i, round(1.2 * (100 + i)))) for i in range(n)]


def sample(random: np.random.Generator, clusters: int, of_each: int) -> list[Outcome]:
    """So many passages with so many items each."""
    table = _table(random, clusters, of_each)
    return [
        Outcome(
            id=str(n),
            kind="fact",
            cluster=str(n // of_each),
            baseline=Answered(passed=bool(ok[0]), tokens=int(tokens[0]), cut=bool(tokens[0] >= MAX_TOKENS)),
            variant=Answered(passed=bool(ok[1]), tokens=int(tokens[1]), cut=bool(tokens[1] >= MAX_TOKENS)),
        )
        for n, (ok, tokens) in enumerate(zip(*table, strict=True))
    ]


def _table(random: np.random.Generator, clusters: int, of_each: int) -> tuple[np.ndarray, np.ndarray]:
    """(whether each side passes, tokens of each side), a row per item."""
    n = clusters * of_each
    ease = np.repeat(0.8 * random.normal(size=clusters), of_each) + random.normal(size=n)
    chance = 1 / (1 + np.exp(-ease))
    base = random.random(n) < chance
    length = np.round(60 * np.exp(0.5 * random.normal(size=n) + 0.3 * ~base))
    same = random.random(n) < SAME
    own = np.where(same, base, random.random(n) < 0.9 * chance)
    longer = np.where(same, 0, 0.35 * random.normal(size=n) + 0.1 + 0.3 * ~own)
    lengths = np.clip(np.stack([length, np.round(length * np.exp(longer))]), 1, MAX_TOKENS)
    return np.stack([base, own]).T, lengths.T


@cache
def population(of_each: int) -> dict[str, float]:
    """What is true of all such items, from a million of them; again: tokens of the baseline where the variant fails."""
    ok, tokens = _table(np.random.default_rng(1), 1_000_000 // of_each, of_each)
    cut, mean, right = (tokens >= MAX_TOKENS).mean(axis=0), tokens.mean(axis=0), ok.mean(axis=0)
    return {
        "length": math.exp(float(np.log(tokens[:, 1] / tokens[:, 0]).mean())),
        "cut": float(cut[1]),
        "cut more": float(cut[1] - cut[0]),
        "correct": float(right[1]),
        "correct less": float(right[1] - right[0]),
        "base": float(mean[0] / right[0]),
        "own": float(mean[1] / right[1]),
        "own tokens": float(mean[1]),
        "again": float(np.where(ok[:, 1], 0, tokens[:, 0]).mean()),
        "either": float(ok.any(axis=1).mean()),
    }
