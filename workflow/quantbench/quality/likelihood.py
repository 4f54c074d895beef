"""How far a variant's next-token distribution is from the baseline's, from the most likely tokens that servers tell.

Of each position both servers tell their 20 most likely tokens and the one that stands there, which the baseline drew.
The KL divergence over the tokens that both list is a sum. What lies beyond is one number to the servers' clients, its
mass; the drawn token is a fair sample of it, whenever it falls there. With S the shared tokens, P and Q the masses
outside of S, x the drawn token and r = (q_x / Q) / (p_x / P):

    lower = sum over S of p ln(p / q) + P ln(P / Q)        never above KL: all beyond S put into one token
    kl    = lower + [x not in S] (c (r - 1) - ln r)        unbiased for every c that does not know x

c is the weight of a control variate: r - 1 has the mean 0 and goes with -ln r. Were the log-ratios of the tail normal
with variance v, the best weight were v / (exp(v) - 1): near 1 where the models hardly differ, near 0 where r explodes
on rare tokens. v is the larger of two, neither of which knows x: `TAIL` times the variance of ln(q / p) over S, and the
variance of ln r over what was drawn beyond S in all other texts, which sees damage that lies in the tail alone.
This rule is the same for every pair, whatever it gives; docs/measurement.md has its coverage.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import orjson
from msgspec.structs import replace

from quantbench.errors import QuantbenchError
from quantbench.quality.pair import Pair, digest
from quantbench.quality.prompt_set import Prompt, messages
from quantbench.records.base import convert
from quantbench.records.likelihood import TOP, Likelihoods, Likely, ScoredText, WrittenText, unpack
from quantbench.records.suite import Estimate, Likelihood, LikelihoodSettings, SuiteScore, SuiteSettings
from quantbench.stats import t_quantile

TAIL: Final = 2.0
"""Variance of the log-ratios beyond the shared tokens, over that among them."""
SMALLEST: Final = 1e-6
"""Mass outside of the shared tokens below which it is rounding: logprobs are float32."""
WIDEST: Final = 100.0
"""Variance that counts at most where KL is shared out over positions; without two shared tokens it has no bound."""
NEAR_TIE: Final = 0.05
"""Margin of the baseline, as a probability, below which another most likely token says little."""
FEWEST: Final = 10
"""Texts that an interval needs."""
PER_ITEM: Final = ("texts", "scored", "again")
"""Fields of `Likelihoods` with an entry per text."""


class Positions(NamedTuple):
    """What is known of each position of a pair; each an array over positions.

    kl: unbiased for the KL divergence, of one position alone mostly noise; lower: never above it; agree: both have the
    same most likely token, or one of those that tie; margin: of the baseline's first token over its second, as a
    probability; written: logprobs of the token that stands there, by the baseline and by the variant; tail: P v, which
    the tail of KL goes with.
    """

    kl: np.ndarray
    lower: np.ndarray
    agree: np.ndarray
    margin: np.ndarray
    written: tuple[np.ndarray, np.ndarray]
    tail: np.ndarray


def positions(
    baseline: Likely, variant: Likely, drawn: np.ndarray, text: np.ndarray, c: float | None = None
) -> Positions:
    """Each position of a pair.

    drawn: ids of the tokens that stand there, drawn from the baseline; text: index of the text that it stands in, from
    0; c: another weight than the rule's, for trials of the rule.
    """
    p, q = baseline.logprobs.astype(float), variant.logprobs.astype(float)
    wp, wq = baseline.written.astype(float), variant.written.astype(float)
    equal = baseline.ids[:, :, None] == variant.ids[:, None, :]
    shared = equal.any(axis=2)
    other = np.take_along_axis(q, equal.argmax(axis=2), axis=1)  # the variant's logprob of the baseline's k-th token
    beyond = ~((baseline.ids == drawn[:, None]) & shared).any(axis=1)
    P, Q = (1 - np.where(shared, np.exp(side), 0).sum(axis=1) for side in (p, other))
    rounding = (P < SMALLEST) | (Q < SMALLEST)
    P, Q = np.maximum(P, SMALLEST), np.maximum(Q, SMALLEST)
    lower = np.where(shared, np.exp(p) * (p - other), 0).sum(axis=1) + P * np.log(P / Q)
    log_r = (wq - np.log(Q)) - (wp - np.log(P))
    v = np.maximum(TAIL * _variance(other - p, shared), _variance_elsewhere(log_r, beyond & ~rounding, text))
    weights = np.where(rounding, 0, weight(v) if c is None else c)
    with np.errstate(over="ignore", invalid="ignore"):
        tail = np.where(weights > 0, weights * np.expm1(log_r), 0) - log_r
    first = [side >= side[:, :1] for side in (p, q)]  # all that tie for the most likely
    return Positions(
        kl=lower + np.where(beyond, tail, 0),
        lower=lower,
        agree=(equal & first[0][:, :, None] & first[1][:, None, :]).any(axis=(1, 2)),
        margin=np.exp(p[:, 0]) - np.exp(p[:, 1]),
        written=(wp, wq),
        tail=P * np.minimum(v, WIDEST),
    )


def weight(v: np.ndarray) -> np.ndarray:
    """The best weight of r - 1 beside -ln r where ln r is normal with variance v: v / (exp(v) - 1), and 1 at 0."""
    v = np.clip(v, 1e-12, 700)
    return np.asarray(v / np.expm1(v))


def _variance(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Of each row, over the columns that count; infinite where fewer than two do."""
    n = among.sum(axis=1)
    mean = np.where(among, values, 0).sum(axis=1) / np.maximum(n, 1)
    squares = np.where(among, values - mean[:, None], 0) ** 2
    return np.where(n > 1, squares.sum(axis=1) / np.maximum(n - 1, 1), np.inf)


def _variance_elsewhere(values: np.ndarray, among: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Of the values that count in all texts but the position's own; infinite where fewer than two do."""
    n, total, squares = (
        (sums := np.bincount(text, np.where(among, values**power, 0))).sum() - sums for power in range(3)
    )
    mean = total / np.maximum(n, 1)
    return np.asarray(np.where(n > 1, np.maximum(squares / np.maximum(n, 1) - mean**2, 0), np.inf)[text])


def draw_z(likely: Likely, drawn: np.ndarray) -> float:
    """How often the most likely token was drawn, against its probability, in standard deviations."""
    p = np.exp(likely.logprobs[:, 0].astype(float))
    return float((likely.ids[:, 0] == drawn).sum() - p.sum()) / max(float(np.sqrt((p * (1 - p)).sum())), 1e-9)


def per_token(values: np.ndarray, text: np.ndarray, same: bool = False) -> Estimate:
    """Mean over positions; its interval is over texts, whose positions are no independent draws.

    text: of each position, the index of its text. A ratio of sums (Cochran, Sampling Techniques, 6.3), as texts that
    end are shorter: the mean of their means would depend on when they ended. Student's t. No interval below FEWEST
    texts or where nothing varies; same: both sides are bit for bit the same, and the interval has no width.
    """
    sums, lengths = np.bincount(text, values), np.bincount(text)
    n, mean = len(lengths), float(values.mean())
    if same:
        return Estimate(value=mean, low=mean, high=mean, n=n)
    error = float(np.sqrt(((sums - mean * lengths) ** 2).sum() / max(n - 1, 1) / n) / lengths.mean())
    if n < FEWEST or not error > 1e-12 * abs(mean):
        return Estimate(value=mean, n=n)
    half = t_quantile(0.975, n - 1) * error
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n)


def likelihood(
    texts: Sequence[WrittenText], baseline: Sequence[ScoredText], variant: Sequence[ScoredText]
) -> Likelihood:
    """What two looks at the same texts say together.

    Raises QuantbenchError where one looked at other tokens than the other, or than the texts have.
    """
    p, q = _looks(texts, baseline), _looks(texts, variant)
    drawn = np.concatenate([np.array(text.token_ids, np.int64) for text in texts])
    text = np.repeat(np.arange(len(texts)), [len(text.token_ids) for text in texts])
    seen = positions(p, q, drawn, text)
    same = all(np.array_equal(a, b) for a, b in zip(p, q, strict=True))
    before, now = seen.written
    change, lost = np.exp(now) - np.exp(before), per_token(before - now, text, same)
    top1 = per_token(seen.agree.astype(float), text, same)
    return Likelihood(
        prompts=len(texts),
        positions=len(drawn),
        kl=per_token(seen.kl, text, same),
        kl_lower_bound=float(seen.lower.mean()),
        kl_p99=float(np.quantile(_smoothed(seen), 0.99)),
        top1=replace(top1, high=None if top1.high is None else min(top1.high, 1.0)),
        near_ties=float((~seen.agree & (seen.margin < NEAR_TIE)).mean()),
        mean_dp=per_token(change, text, same),
        rms_dp=float(np.sqrt((change**2).mean())),
        ppl_ratio=replace(
            lost,
            value=_ratio(lost.value),
            **{k: _ratio(v) for k, v in (("low", lost.low), ("high", lost.high)) if v is not None},
        ),
        first_divergence=_first_divergence(seen.agree, text),
    )


def asked(prompt: Prompt, tokens: int) -> str:
    """Hash of all that decides what the baseline is asked to write."""
    return hashlib.sha256(orjson.dumps([messages(prompt), tokens, seed(prompt)])).hexdigest()


def seed(prompt: Prompt) -> int:
    """The seed of a prompt's text; of its id, so that other prompts of the suite do not change it."""
    return int.from_bytes(hashlib.sha256(prompt["id"].encode()).digest()[:4], "big") >> 1


def asks(settings: SuiteSettings, items: Sequence[Prompt]) -> Any:
    """All that the baseline is asked to write; the others score it."""
    assert isinstance(settings, LikelihoodSettings)
    return [[asked(item, settings.tokens) for item in items], settings.thinking, TOP]


def names(settings: LikelihoodSettings, items: Sequence[Prompt], baseline: Likelihoods | None) -> dict[str, str]:
    """{item: what names its text, and what is kept of it, by all that was asked}. baseline: as `whole` gives it, for a
    variant.
    """
    texts = {text.id: token_sha256(text) for text in baseline.texts} if baseline else {}
    return {
        item["id"]: digest([asked(item, settings.tokens), settings.thinking, TOP, texts.get(item["id"])])
        for item in items
    }


def parts(found: Likelihoods) -> dict[str, dict[str, Any]]:
    """{item: its part of what one server told, as plain data}."""
    common = msgspec.to_builtins(replace(found, texts=(), scored=(), again=()))
    of = {kind: {entry.id: msgspec.to_builtins(entry) for entry in getattr(found, kind)} for kind in PER_ITEM}
    return {
        name: {**common, **{kind: [entries[name]] if name in entries else [] for kind, entries in of.items()}}
        for name in of["scored"]
    }


def whole(kept: Sequence[Mapping[str, Any]]) -> Likelihoods:
    """What `parts` has taken apart, in this order."""
    return convert({**kept[0], **{kind: [e for part in kept for e in part[kind]] for kind in PER_ITEM}}, Likelihoods)


def score_pair(pair: Pair) -> SuiteScore:
    """`score` of what was collected of a pair."""
    (first,), (second,) = pair.baseline.collected, pair.variant.collected
    return replace(
        score(pair.suite, (pair.baseline.model, first), (pair.variant.model, second)),
        version=digest(asks(pair.settings, pair.items)),
    )


def score(suite: str, baseline: tuple[str, Likelihoods], variant: tuple[str, Likelihoods]) -> SuiteScore:
    """A likelihood suite's part of the evidence on a pair of (name, what its server told).

    Raises QuantbenchError where the variant was asked for other texts than the baseline wrote.
    """
    (name, first), (other, second) = baseline, variant
    try:
        return SuiteScore(
            suite=suite,
            kind="likelihood",
            version=hashlib.sha256("".join(text.asked for text in first.texts).encode()).hexdigest(),
            baseline=name,
            variant=other,
            likelihood=likelihood(first.texts, first.scored, second.scored),
            likelihood_floor=likelihood(first.texts, first.scored, first.again) if first.again else None,
        )
    except QuantbenchError as error:
        raise QuantbenchError(
            f"suite {suite}, {other} against {name}: {error.what}", remedy="delete its files of both and run again"
        ) from None


def token_sha256(text: WrittenText) -> str:
    """`ScoredText.sha256` of a text: of the ids that a server is sent."""
    return hashlib.sha256(repr([*text.prompt_token_ids, *text.token_ids]).encode()).hexdigest()


def _looks(texts: Sequence[WrittenText], scored: Sequence[ScoredText]) -> Likely:
    """What one server says of all positions of all texts, in the order of the texts."""
    of = {text.id: text for text in scored}
    looks = []
    for text in texts:
        if text.id not in of or of[text.id].sha256 != token_sha256(text):
            raise QuantbenchError(f"what is kept of {text.id} is of another text than the baseline wrote")
        try:
            looks.append(unpack(of[text.id].likely))
        except ValueError as error:
            raise QuantbenchError(f"what is kept of {text.id} cannot be unpacked: {error}") from None
        if len(looks[-1].written) != len(text.token_ids):
            raise QuantbenchError(f"{len(looks[-1].written)} of {len(text.token_ids)} positions of {text.id} are kept")
    return Likely(*(np.concatenate(part) for part in zip(*looks, strict=True)))


def _smoothed(seen: Positions) -> np.ndarray:
    """KL of each position as far as it can be told of one: what all tails add, shared out by the mass beyond S times v.

    To the second order the tail adds P v / 2; one draw says little of one position, and its quantiles are far too wide.
    """
    tail = float((seen.kl - seen.lower).sum())
    return seen.lower + (tail / seen.tail.sum() * seen.tail if seen.tail.any() else 0.0)


def _first_divergence(agree: np.ndarray, text: np.ndarray) -> float | None:
    """Median over texts of the first position with another most likely token; None if most texts have none."""
    starts = np.flatnonzero(np.diff(text, prepend=-1))
    firsts = [float(np.argmin(part)) if not part.all() else math.inf for part in np.split(agree, starts[1:])]
    middle = float(np.median(firsts))
    return middle if math.isfinite(middle) else None


def _ratio(log: float) -> float:
    """exp, as far as a number goes."""
    return math.exp(min(log, 700.0))
