"""How often the interval of a KL divergence holds the truth, where all of both distributions is known.

Texts of a pool are drawn with replacement, as a suite's prompts are of all that might be asked; in each, tokens are
drawn anew from the baseline. The truth is the KL divergence per token of the whole pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from quantbench.quality.likelihood import per_token, positions
from quantbench.records.likelihood import TOP, Likely

Look = tuple[Likely, Likely, np.ndarray]
"""What the baseline tells of all positions, what the variant tells, and the tokens that were drawn."""


class Pool(NamedTuple):
    """Natural logarithms of both distributions, positions x vocabulary; text: of each position, its text's index."""

    p: np.ndarray
    q: np.ndarray
    text: np.ndarray

    @property
    def kl(self) -> np.ndarray:
        """KL(p || q) of each position over the whole vocabulary."""
        return np.array(
            [float(np.exp(a.astype(float)) @ (a.astype(float) - b)) for a, b in zip(self.p, self.q, strict=True)]
        )


class Coverage(NamedTuple):
    """share: of intervals that hold the truth; low, high: that lie below it, above it; half: mean half-width and bias:
    mean of the estimate, both over the truth.
    """

    truth: float
    share: float
    low: float
    high: float
    half: float
    bias: float


def normalized(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits, along the last axis."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def pool(
    rng: np.random.Generator,
    spread: float,
    *,
    tail_only: bool = False,
    texts: int = 120,
    length: int = 20,
    words: int = 600,
) -> Pool:
    """Zipf-like distributions, some nearly certain and some wide, and a variant whose logits are off by `spread`.

    Texts differ in how far they are off; the error of a logit grows with its rank, as it is seen in a real model (the
    log-ratios beyond the first twenty scatter twice as much). tail_only: the first twenty are not touched.
    """
    text = np.repeat(np.arange(texts), rng.integers(length // 2, length + 1, texts))
    n = len(text)
    slope, rank = rng.gamma(4.0, 0.3, (n, 1)) + 0.3, np.arange(1, words + 1)
    p = normalized(-slope * np.log(rank) + rng.normal(0, 0.5, (n, words)))
    off = spread * np.exp(rng.normal(0, 0.15, texts))[text][:, None]
    grows = np.minimum(1 + np.log(rank) / np.log(words), 2.0) if not tail_only else rank > 1.5 * TOP
    q = normalized(p + off * grows * rng.normal(0, 1, (n, words)))
    return Pool(p, q, text)


def drawn(pool: Pool, times: int, rng: np.random.Generator) -> Iterator[Look]:
    """So many draws of a token per position, and what both servers then tell."""
    lists = []
    for side in (pool.p, pool.q):
        ids = np.array([_first(row) for row in side])
        lists.append((ids, np.take_along_axis(side, ids, 1)))
    uniform, tokens = rng.random((len(pool.p), times)), np.empty((times, len(pool.p)), np.int64)
    for i, row in enumerate(pool.p):
        up = np.cumsum(np.exp(row.astype(float)))
        tokens[:, i] = np.searchsorted(up, uniform[i] * up[-1])
    for token in tokens:
        at = np.minimum(token, pool.p.shape[1] - 1)[:, None]
        written = [np.take_along_axis(side, at, 1)[:, 0] for side in (pool.p, pool.q)]
        yield Likely(*lists[0], written[0]), Likely(*lists[1], written[1]), at[:, 0]


def _first(row: np.ndarray) -> np.ndarray:
    ids = np.argpartition(-row, TOP)[:TOP]
    return ids[np.argsort(-row[ids], kind="stable")]


def coverage(
    pool: Pool,
    looks: Sequence[Look],
    rng: np.random.Generator,
    *,
    texts: int = 60,
    trials: int = 1000,
    c: float | None = None,
) -> Coverage:
    """Of the product's interval; looks: of `drawn`; c: the same weight everywhere, in place of the product's rule."""
    values = [positions(p, q, token, pool.text, c).kl for p, q, token in looks]
    starts = np.flatnonzero(np.diff(pool.text, prepend=-1))
    parts = [np.split(value, starts[1:]) for value in values]
    truth, seen = float(pool.kl.mean()), []
    for _ in range(trials):
        chosen = rng.integers(0, len(starts), texts)
        mine = [parts[rng.integers(0, len(parts))][i] for i in chosen]
        estimate = per_token(np.concatenate(mine), np.repeat(np.arange(texts), [len(part) for part in mine]))
        seen.append((estimate.low, estimate.value, estimate.high))
    low, value, high = np.array(seen).T
    return Coverage(
        truth,
        float(((low <= truth) & (truth <= high)).mean()),
        float((high < truth).mean()),
        float((low > truth).mean()),
        float((high - low).mean() / 2 / truth),
        float(value.mean() / truth),
    )
