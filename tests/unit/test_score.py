from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.errors import QuantbenchError
from quantbench.quality import pair, score
from quantbench.quality.checks import CheckResult
from scipy.stats import beta, binom

NO_FLOOR = score.floor_of([])


def answer(text: str, *, ok: bool = True, hard: bool = False, ids: list[int] | None = None) -> dict[str, Any]:
    checks = [CheckResult("not_empty", not hard, "", hard=True), CheckResult("contains", ok, "")]
    tokens = ids or [1, 2, 3]
    return {
        "prompt": "q",
        "output": text,
        "checks": checks,
        "tokens": len(tokens),
        "token_ids": tokens,
        "finish_reason": "stop",
        "prompt_token_ids_sha256": "same",
    }


def rows(pattern: str, kind: str = "fact") -> list[dict[str, Any]]:
    """One letter per prompt: p both pass, f both fail, w worse, b better, h the variant is empty."""
    made = {
        "p": (answer("x"), answer("x")),
        "f": (answer("x", ok=False), answer("y", ok=False)),
        "w": (answer("x"), answer("y", ok=False, ids=[1, 9])),
        "b": (answer("x", ok=False), answer("y")),
        "h": (answer("x"), answer("", ok=False, hard=True, ids=[2])),
    }
    return [score.compare({"id": f"{letter}{i}", "class": kind}, *made[letter]) for i, letter in enumerate(pattern)]


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("p" * 15, "no degradation seen"),
        ("p" * 14, "insufficient evidence"),
        ("p" * 14 + "f", "insufficient evidence"),
        ("p" * 20 + "w", "insufficient evidence"),
        ("p" * 20 + "ww", "insufficient evidence"),
        ("p" * 20 + "www", "degraded"),
        ("p" * 20 + "wwwb", "insufficient evidence"),
        ("p" * 20 + "wwwwb", "degraded"),
        ("p" * 20 + "h", "degraded"),
        ("p" * 20 + "bbb", "no degradation seen"),
        ("", "insufficient evidence"),
        ("f" * 30, "insufficient evidence"),
    ],
)
def test_the_word(pattern: str, word: str) -> None:
    judged = score.verdict(rows(pattern), NO_FLOOR)
    assert judged["word"] == word
    assert judged["reasons"] or word == "no degradation seen"


def test_what_the_baseline_loses_itself_is_not_counted() -> None:
    repeats = [
        {"id": "w20", "concurrency": 8, "identical": False, "first_pass": True, "again_pass": False},
        {"id": "p0", "concurrency": 8, "identical": True, "first_pass": True, "again_pass": True},
    ]
    floor = score.floor_of(repeats)
    assert floor == {
        "measured": True, "answers": 2, "identical": 1, "identical_share": 0.5, "lost": ["w20"], "gained": [],
        "concurrency": [8],
    }  # fmt: skip
    assert score.verdict(rows("p" * 20 + "www"), floor)["lost"] == ["w21", "w22"]


def test_other_tokens_than_the_baseline_got_prove_nothing() -> None:
    pairs = rows("p" * 20 + "www")
    pairs[0]["same_input"] = False
    assert score.verdict(pairs, NO_FLOOR)["word"] == "insufficient evidence"


@settings(deadline=None)
@given(b=st.integers(0, 30), c=st.integers(0, 30))
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    p = score.mcnemar(b, c)
    if b + c == 0:
        assert p is None
    else:
        assert p == pytest.approx(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)))


def test_published_values() -> None:
    assert score.mcnemar(5, 0) == pytest.approx(0.0625)
    assert score.mcnemar(6, 0) == pytest.approx(0.03125)
    assert score.upper_bound(0, 15) == pytest.approx(0.218, abs=1e-3)
    assert score.upper_bound(0, 0) is None


@settings(deadline=None)
@given(n=st.integers(1, 200), data=st.data())
def test_the_bound_is_clopper_pearson(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    wanted = 1.0 if k == n else beta.ppf(0.975, k + 1, n - k)
    assert score.upper_bound(k, n) == pytest.approx(wanted, abs=1e-6)


@settings(deadline=None)
@given(a=st.lists(st.integers(0, 3), max_size=8), b=st.lists(st.integers(0, 3), max_size=8))
def test_first_divergence(a: list[int], b: list[int]) -> None:
    at = score.first_divergence(a, b)
    if at is None:
        assert a == b
    else:
        assert a[:at] == b[:at]
        assert a[at : at + 1] != b[at : at + 1]


@settings(deadline=None)
@given(st.text("pfwbh", max_size=80))
def test_any_outcome_gives_a_verdict_and_advice(pattern: str) -> None:
    result = score.score(rows(pattern), NO_FLOOR, baseline="bf16", variant="int4")
    assert result["verdict"]["word"] in score.VERDICTS
    assert {u["status"] for u in result["uses"]} <= {"ok", "not acceptable", "not shown"}
    assert result["passed"]["baseline"] - result["passed"]["variant"] == len(result["worse"]) - len(result["better"])
    if "w" in pattern or "h" in pattern:
        assert result["verdict"]["word"] != "no degradation seen"


def uses(pairs: list[dict[str, Any]]) -> dict[str, str]:
    return {u["use"]: u["status"] for u in score.score(pairs, NO_FLOOR, baseline="a", variant="b")["uses"]}


def test_advice_follows_the_class_that_was_lost() -> None:
    told = uses(rows("p" * 20) + rows("pw", "code"))
    assert told["code generation"] == "not acceptable"
    assert told["exact facts and look-ups"] == "ok"
    assert told["internal tools / batch jobs"] == "not shown"
    assert told["user-facing chat"] == "not acceptable"
    assert told["summaries"] == "not shown"


def test_two_prompts_show_nothing() -> None:
    told = uses(rows("p" * 20) + rows("pp", "code"))
    assert told["code generation"] == "not shown"
    assert told["internal tools / batch jobs"] == "ok"


def test_chat_needs_many_prompts_without_a_loss() -> None:
    assert uses(rows("p" * 58))["user-facing chat"] == "not shown"
    assert uses(rows("p" * 59))["user-facing chat"] == "ok"


def test_degraded_is_not_acceptable_for_batch_jobs() -> None:
    assert uses(rows("p" * 20 + "www"))["internal tools / batch jobs"] == "not acceptable"
    assert uses(rows("p" * 5))["internal tools / batch jobs"] == "not shown"


PROMPTS = [{"id": i, "class": "fact", "prompt": i, "checks": [{"type": "contains", "any": ["yes"]}]} for i in "ab"]


def served(first: str, second: str, again: str | None = None) -> list[dict[str, Any]]:
    def one(i: str, text: str) -> dict[str, Any]:
        return {"id": i, "class": "fact", "prompt": i, "output": text, "finish_reason": "stop", "tokens": len(text),
                "token_ids": [ord(c) for c in text], "prompt_token_ids_sha256": i}  # fmt: skip

    answers = [one("a", first), one("b", second)]
    if again is not None:
        answers[0]["again"] = [{"concurrency": 8, **one("a", again)}]
    return answers


def details(notes: dict[str, str] | None = None, again: str | None = None) -> dict[str, Any]:
    return pair.details(
        PROMPTS,
        ("bf16", served("yes", "yes", again)),
        ("int4", served("no", "yes")),
        notes or {},
        lambda t, c: (True, ""),
    )


def test_the_pair_file_has_exactly_the_three_keys() -> None:
    assert pair.plain(served("yes", "yes"), served("no", "yes")) == [
        {"prompt": "a", "bf16_output": "yes", "quant_output": "no"},
        {"prompt": "b", "bf16_output": "yes", "quant_output": "yes"},
    ]


def test_details_of_a_pair() -> None:
    result = details()
    assert result["worse"] == ["a"]
    assert result["identical"] == 1
    assert result["details"][0]["first_divergence_token"] == 0
    assert not result["floor"]["measured"]
    assert details(again="no")["verdict"]["lost"] == []


def test_notes_reach_their_prompt_and_their_variant() -> None:
    result = details({"a": "general", "int4/b": "mine", "int8/a": "other", "int4": "about it"})
    assert [row["note"] for row in result["details"]] == ["general", "mine"]
    assert result["notes"] == ["about it"]


def test_answers_to_other_prompts_are_refused() -> None:
    with pytest.raises(QuantbenchError, match="another prompt file"):
        pair.details(PROMPTS, ("a", served("x", "y")[:1]), ("b", served("x", "y")), {}, lambda t, c: (True, ""))


def test_sentences_count_in_the_singular_and_bounds_hold_as_printed() -> None:
    single = score.verdict(rows("w"), NO_FLOOR)
    assert single["sentence"].startswith("1 of 1 prompt that the baseline passes was lost;")
    assert single["sentence"].endswith("is at most 100 %.")
    assert single["reasons"] == ["the baseline passes 1 prompt, at least 15 are needed"]
    many = score.verdict(rows("p" * 2000), NO_FLOOR)
    assert many["sentence"].endswith("is at most 1 %."), "0.18 % rounds to 0, which nobody has shown"
    lost = score.verdict(rows("p" * 30 + "w" * 20), NO_FLOOR)
    assert lost["reasons"][0] == "exact McNemar p < 0.001 (20 lost, 0 gained)"
