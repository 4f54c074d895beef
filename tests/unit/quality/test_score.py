from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from quantbench.errors import QuantbenchError
from quantbench.quality import score
from quantbench.quality.checks import CodeRunner
from quantbench.records import base
from quantbench.records.finding import finding
from quantbench.records.quality import (
    Answer,
    CheckResult,
    Floor,
    Item,
    Passed,
    QualityDetails,
    QualityVerdict,
    Repeat,
    Thinking,
)
from quantbench.report.quality import bound, with_words
from quantbench.report.say import Speech
from scipy.stats import beta, binom

NO_FLOOR = score.floor_of([])


def answer(text: str, *, ok: bool = True, hard: bool = False, ids: tuple[int, ...] = (1, 2, 3)) -> Any:
    checks = [
        CheckResult(type="not_empty", ok=not hard, detail="", hard=True),
        CheckResult(type="contains", ok=ok, detail=""),
    ]
    given = Answer(
        id="", kind="", prompt="q", output=text, finish_reason="stop", tokens=len(ids), token_ids=ids,
        prompt_token_ids_sha256="same",
    )  # fmt: skip
    return given, checks


def items(pattern: str, kind: str = "fact") -> list[Item]:
    """One letter per prompt: p both pass, f both fail, w worse, b better, h the variant is empty."""
    made = {
        "p": (answer("x"), answer("x")),
        "f": (answer("x", ok=False), answer("y", ok=False)),
        "w": (answer("x"), answer("y", ok=False, ids=(1, 9))),
        "b": (answer("x", ok=False), answer("y")),
        "h": (answer("x"), answer("", ok=False, hard=True, ids=(2,))),
    }
    compared = [score.compare(kind, *made[letter]) for letter in pattern]
    return [replace(item, id=f"{letter}{i}") for i, (letter, item) in enumerate(zip(pattern, compared, strict=True))]


def verdict(pattern: str, floor: Floor = NO_FLOOR) -> QualityVerdict:
    return score.verdict(items(pattern), floor)


def scored(pairs: list[Item]) -> QualityDetails:
    return score.score(pairs, NO_FLOOR, baseline="a", variant="b")


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
    judged = verdict(pattern)
    assert judged.word == word
    assert bool(judged.because) == (word != "no degradation seen")


def test_what_the_word_rests_on() -> None:
    assert verdict("w").because == (finding("quality.few_prompts", n=1, needed=15),)
    assert verdict("p" * 20 + "w").because == (finding("quality.chance", lost=1, n=21, p=1.0),)
    assert verdict("p" * 20 + "www").because == (finding("quality.net_loss", loss=3, n=23),)
    assert verdict("p" * 20 + "h").because == (finding("quality.new_hard_failures", prompts=["h20"]),)
    test, loss = verdict("p" * 30 + "w" * 20).because
    assert (test.id, test.values["lost"], test.values["gained"], loss.id) == (
        "quality.mcnemar", 20, 0, "quality.net_loss",
    )  # fmt: skip


def test_what_the_baseline_loses_itself_is_not_counted() -> None:
    floor = score.floor_of([score.Asked("w20", 8, False, True, False), score.Asked("p0", 8, True, True, True)])
    assert floor == Floor(
        measured=True, answers=2, identical=1, identical_share=0.5, lost=("w20",), gained=(), concurrency=(8,)
    )
    assert verdict("p" * 20 + "www", floor).lost == ("w21", "w22")


def test_other_tokens_than_the_baseline_got_prove_nothing() -> None:
    first, *rest = items("p" * 20 + "www")
    judged = score.verdict([replace(first, same_input=False), *rest], NO_FLOOR)
    assert judged.word == "insufficient evidence"
    assert judged.because[-1] == finding("quality.other_tokens", n=1)


@settings(deadline=None)
@given(b=st.integers(0, 30), c=st.integers(0, 30))
def test_mcnemar_is_the_exact_binomial_test_and_the_bound_clopper_pearson(b: int, c: int) -> None:
    p, bound = score.mcnemar(b, c), score.upper_bound(b, b + c)
    if b + c == 0:
        assert (p, bound) == (None, None)
    else:
        assert p == pytest.approx(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)))
        assert bound == pytest.approx(1.0 if c == 0 else beta.ppf(0.975, b + 1, c), abs=1e-6)


def test_published_values() -> None:
    assert (score.mcnemar(5, 0), score.mcnemar(6, 0)) == pytest.approx((0.0625, 0.03125))
    assert score.upper_bound(0, 15) == pytest.approx(0.218, abs=1e-3)


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
    result = scored(items(pattern))
    assert result.passed.baseline - result.passed.variant == len(result.worse) - len(result.better)
    if "w" in pattern or "h" in pattern:
        assert result.verdict.word != "no degradation seen"
    assert base.convert(result.as_dict(), QualityDetails) == result
    assert all(item["class"] == "fact" for item in result.as_dict()["details"]), "as it is called in the file"
    worded = with_words(result, Speech())
    assert worded.verdict.sentence
    assert all((use.use and use.why) or use.status == "not shown" for use in worded.uses)
    assert all(worded.rules)


@pytest.mark.parametrize(("pairs", "use", "status", "because"), [
    # one lost answer may be chance: it lets nothing pass, and condemns nothing
    (items("p" * 20) + items("pw", "code"), "code", "not shown", None),
    (items("p" * 20) + items("pwww", "code"), "code", "not acceptable", None),
    (items("p" * 20) + items("pw", "code"), "facts", "ok", None),
    (items("p" * 20) + items("pw", "code"), "batch", "not shown", None),
    (items("p" * 20) + items("pw", "code"), "chat", "not shown", None),
    (items("p" * 60 + "w"), "chat", "not shown", None),
    (items("p" * 20) + items("pwww", "code"), "chat", "not acceptable", None),
    (items("p" * 20) + items("pw", "code"), "summaries", "not shown", None),
    # two prompts show nothing; chat needs many without a loss
    (items("p" * 20) + items("pp", "code"), "code", "not shown",
     finding("quality.lost_few", lost=0, of=2, needed=15)),
    (items("p" * 20) + items("pp", "code"), "batch", "ok", finding("quality.lost", lost=0, of=22)),
    (items("p" * 58), "chat", "not shown", finding("quality.lost_few", lost=0, of=58, needed=59)),
    (items("p" * 59), "chat", "ok", finding("quality.lost", lost=0, of=59)),
    (items("p" * 20 + "www"), "batch", "not acceptable",
     finding("quality.lost_named", lost=3, of=23, prompts=["w20", "w21", "w22"])),
    (items("p" * 5), "batch", "not shown", finding("quality.lost_few", lost=0, of=5, needed=15)),
    (items("p" * 5 + "w"), "batch", "not shown",
     finding("quality.lost_few_named", lost=1, of=6, prompts=["w5"], needed=15)),
    (items("f" * 5), "batch", "not shown", finding("quality.none_of_kind")),
])  # fmt: skip
def test_advice_follows_the_prompts_of_the_use(pairs: list[Item], use: str, status: str, because: Any) -> None:
    judged = next(judged for judged in scored(pairs).uses if judged.id == use)
    assert judged.status == status
    assert because is None or judged.because == (because,)


def test_sentences_count_in_the_singular_and_bounds_hold_as_printed() -> None:
    def sentence(pattern: str) -> str:
        return Speech()(bound(verdict(pattern)))

    assert sentence("w").startswith("1 of 1 prompt that the baseline passes was lost;")
    assert sentence("w").endswith("is at most 100 %.")
    assert sentence("f") == "The baseline passes no prompt, so nothing can be said."
    assert sentence("p" * 2000).endswith("is at most 1 %."), "0.18 % rounds to 0, which nobody has shown"


def test_the_file_has_words_beside_its_findings() -> None:
    worded = with_words(scored(items("p" * 30 + "w" * 20)), Speech())
    assert worded.verdict.reasons[0] == "exact McNemar p < 0.001 (20 lost, 0 gained)"
    assert worded.uses[0].use == "internal tools / batch jobs"
    assert worded.uses[0].why.startswith("lost 20 of 50: w30, w31")
    assert any("exact McNemar p < 0.05 with b > c, or a net loss of at least 3" in rule for rule in worded.rules)


# --- from the answers of two models

PROMPTS = [{"id": i, "class": "fact", "prompt": i, "checks": [{"type": "contains", "any": ["yes"]}]} for i in "ab"]


def served(first: str, second: str, again: str | None = None) -> list[Answer]:
    def tokens(text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    repeats = () if again is None else (Repeat(concurrency=8, output=again, token_ids=tokens(again)),)
    return [
        Answer(
            id=name, kind="fact", prompt=name, output=text, finish_reason="stop", tokens=len(text),
            token_ids=tokens(text), prompt_token_ids_sha256=name, again=repeats if name == "a" else (),
        )
        for name, text in (("a", first), ("b", second))
    ]  # fmt: skip


def paired(notes: dict[str, str] | None = None, again: str | None = None) -> QualityDetails:
    return score.details(
        PROMPTS,
        ("bf16", served("yes", "yes", again)),
        ("int4", served("no", "yes")),
        notes or {},
        lambda text, check: (True, ""),
    )


def test_the_pair_file_has_exactly_the_three_keys() -> None:
    plain = score.plain(served("yes", "yes"), served("no", "yes"))
    assert [entry.as_dict() for entry in plain] == [
        {"prompt": "a", "bf16_output": "yes", "quant_output": "no"},
        {"prompt": "b", "bf16_output": "yes", "quant_output": "yes"},
    ]


def test_details_of_a_pair() -> None:
    result = paired()
    assert result.worse == ("a",)
    assert result.identical == 1
    assert result.details[0].first_divergence_token == 0
    assert not result.floor.measured
    assert paired(again="no").verdict.lost == ()


def test_notes_reach_their_prompt_and_their_variant() -> None:
    result = paired({"a": "general", "int4/b": "mine", "int8/a": "other", "int4": "about it"})
    assert [item.note for item in result.details] == ["general", "mine"]
    assert result.notes == ("about it",)


WRITE = {
    "id": "a",
    "class": "code",
    "prompt": "a",
    "max_tokens": 9,
    "checks": [{"type": "python", "tests": ["f() == 1"]}],
}


@pytest.mark.parametrize(("run_code", "said"), [(None, "off"), (lambda text, check: (None, "not run"), "no fence")])
def test_code_that_is_not_run_counts_for_neither_side(run_code: CodeRunner | None, said: str) -> None:
    base, other = served("def f(): 1", "yes", again="no"), served("def f(): 2", "yes")
    result = score.details([WRITE, PROMPTS[1]], ("bf16", base), ("int4", other), {}, run_code)
    assert (result.code, result.not_run, result.worse, result.floor.lost) == (said, ["a"], (), ())
    assert result.use("code").because == (finding("quality.none_of_kind"),)  # type: ignore[union-attr]
    assert [(count.kind, count.baseline, count.variant) for count in result.classes] == [("code", 0, 0), ("fact", 1, 1)]
    assert paired().code == "run"


def test_an_answer_that_ends_in_the_thought_of_its_template_fails() -> None:
    cut = [replace(answer, thought_opened=True) for answer in served("yes", "hm</think>yes")]
    result = score.details(PROMPTS, ("a", cut), ("b", cut), {}, None)
    assert [item.change for item in result.details] == ["both fail", "both pass"]


@pytest.mark.parametrize("opened", [False, True])
def test_answers_that_are_cut_inside_a_thought_are_counted_and_what_was_declared_is_told(opened: bool) -> None:
    start = "" if opened else "<think>"
    base = served(f"{start}hm</think>yes", f"{start}hm</think>yes")
    own = served(f"{start}hm, but then", f"{start}hm</think>yes")
    own[0] = replace(own[0], finish_reason="length")
    asked = [[replace(a, thought_opened=opened, thinking=True, concurrency=n) for a in side]
             for n, side in ((1, base), (4, own))]  # fmt: skip
    result = score.details(PROMPTS, ("a", asked[0]), ("b", asked[1]), {}, None)
    assert result.worse == ("a",)
    assert result.thinking == Thinking(
        declared=True, thoughts=Passed(baseline=2, variant=2), cut=Passed(baseline=0, variant=1)
    )
    assert result.concurrency == 4
    assert [item.variant.thought for item in result.details] == ["open", "ended"]


def test_what_one_side_was_not_told_is_not_declared() -> None:
    told = [replace(answer, thinking=False) for answer in served("yes", "yes")]
    result = score.details(PROMPTS, ("a", served("yes", "yes")), ("b", told), {}, None)
    assert (result.thinking and result.thinking.declared, result.concurrency) == (None, None)


def test_answers_to_other_prompts_are_refused() -> None:
    with pytest.raises(QuantbenchError, match="another prompt file"):
        score.details(PROMPTS, ("a", served("x", "y")[:1]), ("b", served("x", "y")), {}, lambda text, check: (True, ""))
