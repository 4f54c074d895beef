"""The KL estimator: exact on small vocabularies, honest on large ones, and zero for a model against itself."""

from __future__ import annotations

import numpy as np
import pytest
from likelihood_simulation import Pool, coverage, drawn, normalized, pool
from msgspec.structs import replace
from quantbench.errors import QuantbenchError
from quantbench.quality import likelihood as kl
from quantbench.records.likelihood import TOP, Likelihoods, Likely, ScoredText, WrittenText, pack, unpack

WORDS = 60


def pair(rng: np.random.Generator, spread: float, n: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of n positions on both sides."""
    p = normalized(rng.normal(0, 2, (n, WORDS)))
    return p, normalized(p + spread * rng.normal(0, 1, (n, WORDS)))


def told(side: np.ndarray, token: np.ndarray) -> Likely:
    """What a server tells of positions whose tokens stand there."""
    ids = np.argsort(-side, axis=1, kind="stable")[:, :TOP]
    return Likely(ids, np.take_along_axis(side, ids, 1), np.take_along_axis(side, token[:, None], 1)[:, 0])


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 3.0])
def test_the_mean_over_all_tokens_is_the_exact_divergence(spread: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        p, q = pair(rng, spread, 40)  # one position of text 0; those of the other texts only set the weight
        tokens, text = np.array([rng.choice(WORDS, p=np.exp(row)) for row in p]), np.repeat([0, 1, 2], [1, 20, 19])
        mean = 0.0
        for word in range(WORDS):
            tokens[0] = word
            seen = kl.positions(told(p, tokens), told(q, tokens), tokens, text)
            mean += float(np.exp(p[0, word]) * seen.kl[0])
        exact = float(np.exp(p[0]) @ (p[0] - q[0]))
        assert mean == pytest.approx(exact, rel=1e-9)
        assert seen.lower[0] <= exact + 1e-12


def test_what_a_text_draws_does_not_choose_its_own_weight() -> None:
    """The weight of text 0 is the same whatever it draws; else the mean would not be exact."""
    rng = np.random.default_rng(4)
    p, q = pair(rng, 1.0, 30)
    text, weights = np.repeat([0, 1, 2], 10), []
    for seed in range(8):
        tokens = np.random.default_rng(1).integers(0, WORDS, 30)
        tokens[:10] = np.random.default_rng(seed).integers(0, WORDS, 10)
        lists = told(p, tokens), told(q, tokens)
        rule, none = (kl.positions(*lists, tokens, text, c).kl for c in (None, 0.0))
        one = kl.positions(*lists, tokens, text, 1.0).kl
        weights.append(np.divide(rule - none, one - none, out=np.full(30, np.nan), where=one != none)[:10])
    spread = np.nanmax(weights, axis=0) - np.nanmin(weights, axis=0)
    assert np.nanmax(spread) < 1e-9
    assert np.nanmax(weights) > 0.05


def test_where_the_shared_tokens_scatter_alike_no_estimate_is_below_its_bound() -> None:
    """The weight is 1 there, and c (r - 1) - ln r cannot be negative."""
    rng = np.random.default_rng(5)
    p, _ = pair(rng, 0, 200)
    q = normalized(p + 0.001 * rng.normal(0, 1, p.shape))
    tokens = rng.integers(0, WORDS, 200)
    seen = kl.positions(told(p, tokens), told(q, tokens), tokens, np.repeat(np.arange(20), 10), 1.0)
    assert (seen.kl >= seen.lower - 1e-12).all()
    assert (seen.kl > seen.lower).any()


def written(rng: np.random.Generator, texts: int = 12, length: int = 30) -> list[WrittenText]:
    ids = rng.integers(0, WORDS, (texts, length)).tolist()
    return [
        WrittenText(id=f"t{i}", asked=str(i), prompt_token_ids=(1, 2), token_ids=tuple(row), finish_reason="length")
        for i, row in enumerate(ids)
    ]


def scored(texts: list[WrittenText], side: np.ndarray) -> tuple[ScoredText, ...]:
    parts = np.split(side, len(texts))
    return tuple(
        ScoredText(id=text.id, sha256=kl.token_sha256(text), likely=pack(told(part, np.array(text.token_ids))))
        for text, part in zip(texts, parts, strict=True)
    )


def looks(spread: float, seed: int = 6) -> tuple[Likelihoods, Likelihoods]:
    rng = np.random.default_rng(seed)
    texts = written(rng)
    p, q = pair(rng, spread, 360)
    first = Likelihoods(
        role="baseline", tokens=30, concurrency=8, texts=tuple(texts), scored=scored(texts, p), again=scored(texts, p)
    )
    return first, Likelihoods(role="variant", tokens=30, concurrency=8, scored=scored(texts, q))


def test_a_model_against_itself_is_exactly_zero() -> None:
    first, _ = looks(1.0)
    made = kl.score("likelihood", ("bf16", first), ("bf16", first))
    for said in (made.likelihood, made.likelihood_floor):
        assert said is not None
        assert (said.kl.value, said.kl.low, said.kl.high) == (0.0, 0.0, 0.0)
        assert (said.kl_lower_bound, said.kl_p99, said.near_ties, said.rms_dp) == (0.0, 0.0, 0.0, 0.0)
        assert (said.top1.value, said.ppl_ratio.value, said.first_divergence) == (1.0, 1.0, None)


def test_what_is_kept_comes_back_and_the_parts_of_a_score_belong_together() -> None:
    first, second = looks(0.5)
    likely = unpack(first.scored[0].likely)
    assert likely.logprobs.dtype == np.float32
    assert likely.ids.shape == (30, TOP)
    made = kl.score("likelihood", ("bf16", first), ("int4", second))
    said = made.likelihood
    assert said is not None
    assert (made.kind, made.baseline, made.variant, said.prompts, said.positions) == (
        "likelihood", "bf16", "int4", 12, 360,
    )  # fmt: skip
    assert said.kl.low is not None
    assert said.kl.high is not None
    assert said.kl.low < said.kl.value < said.kl.high
    assert 0 < said.near_ties < 1 - said.top1.value
    assert said.first_divergence is not None
    assert said.first_divergence < 30
    # The perplexity ratio is exp of how much less likely the written tokens are.
    lost = np.concatenate(
        [unpack(a.likely).written - unpack(b.likely).written for a, b in zip(first.scored, second.scored, strict=True)]
    )
    assert said.ppl_ratio.value == pytest.approx(np.exp(lost.mean()), rel=1e-5)


def test_tokens_that_tie_for_the_first_place_agree() -> None:
    p = normalized(np.array([[5.0, 5.0, *[0.0] * 40], [5.0, 4.99, *[0.0] * 40], [5.0, 1.0, *[0.0] * 40]]))
    q = normalized(np.array([[4.9, 5.0, *[0.0] * 40], [4.9, 5.0, *[0.0] * 40], [4.9, 5.0, *[0.0] * 40]]))
    tokens = np.zeros(3, int)
    seen = kl.positions(told(p, tokens), told(q, tokens), tokens, np.zeros(3, int))
    assert seen.agree.tolist() == [True, False, False]
    assert (seen.margin < kl.NEAR_TIE).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("spread", "tail_only", "c", "low"),
    [(0.08, False, None, 0.92), (0.9, False, None, 0.92), (1.8, True, None, 0.92), (1.6, False, 1.0, 0.0)],
    ids=["KL 0.005", "KL 0.7", "KL 0.7, in the tail alone", "the plain control variate at KL 2"],
)
def test_intervals_hold_the_truth(spread: float, tail_only: bool, c: float | None, low: float) -> None:
    """docs/measurement.md has more trials of more scenes. The last scene is why the weight is not always 1."""
    rng = np.random.default_rng(1)
    all_texts = pool(rng, spread, tail_only=tail_only, texts=80, length=20)
    made = coverage(all_texts, list(drawn(all_texts, 25, rng)), rng, trials=400, c=c)
    assert made.share >= low
    assert made.share <= (0.98 if c is None else 0.87)
    assert c is not None or made.bias == pytest.approx(1, abs=0.03)


def test_few_texts_have_no_interval() -> None:
    values, text = np.random.default_rng(1).normal(size=90), np.repeat(np.arange(9), 10)
    assert kl.per_token(values, text).low is None
    assert kl.per_token(np.r_[values, values[:10] + 0.1], np.repeat(np.arange(10), 10)).low is not None
    assert kl.per_token(np.ones(200), np.repeat(np.arange(20), 10)).high is None


def test_drawing_from_another_temperature_is_seen() -> None:
    rng = np.random.default_rng(2)
    p = normalized(rng.normal(0, 2, (4000, WORDS)))
    for temperature, most in ((1.0, 4.0), (0.7, np.inf)):
        words = Pool(normalized(p / temperature), p, np.zeros(len(p), int))
        ((_, _, tokens),) = drawn(words, 1, rng)
        z = kl.draw_z(told(p, tokens), tokens)
        assert abs(z) < most
        assert temperature == 1 or z > 6


@pytest.mark.fault(
    "What is kept of a likelihood suite is of another text, cut, or damaged",
    "the suite stops and names the text; nothing is scored",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "0"}, "t3 is of another text than the baseline wrote"),
        ({"id": "other"}, "t3 is of another text"),
        ({"likely": "AAAA"}, "t3 cannot be unpacked"),
        ({"likely": pack(Likely(np.zeros((2, TOP)), np.zeros((2, TOP)), np.zeros(2)))}, "2 of 30 positions of t3"),
    ],
)
def test_what_is_not_of_the_same_text_is_not_scored(change: dict[str, str], words: str) -> None:
    first, second = looks(0.5)
    second = replace(second, scored=tuple(replace(t, **change) if t.id == "t3" else t for t in second.scored))
    with pytest.raises(QuantbenchError, match=words):
        kl.score("likelihood", ("bf16", first), ("int4", second))
