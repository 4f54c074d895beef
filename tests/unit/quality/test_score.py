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
from quantbench.records.quality import Answer, CheckResult, Floor, Item, Passed, QualityDetails, Repeat, Thinking

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


def scored(pairs: list[Item]) -> QualityDetails:
    return score.score(pairs, NO_FLOOR, baseline="a", variant="b")


def test_the_floor_is_what_the_baseline_does_otherwise() -> None:
    floor = score.floor_of([score.Asked("w20", 8, False, True, False), score.Asked("p0", 8, True, True, True)])
    assert floor == Floor(
        measured=True, answers=2, identical=1, identical_share=0.5, lost=("w20",), gained=(), concurrency=(8,)
    )


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
def test_any_outcome_is_counted_and_survives_its_file(pattern: str) -> None:
    result = scored(items(pattern))
    assert result.passed.baseline - result.passed.variant == len(result.worse) - len(result.better)
    assert len(result.worse) == pattern.count("w") + pattern.count("h")
    assert base.convert(result.as_dict(), QualityDetails) == result
    assert all(item["class"] == "fact" for item in result.as_dict()["details"]), "as it is called in the file"


def test_what_earlier_versions_judged_is_passed_over() -> None:
    old = scored(items("pw")).as_dict() | {"verdict": {"word": "degraded"}, "uses": [{"id": "json"}], "rules": ["x"]}
    assert base.convert(old, QualityDetails) == scored(items("pw"))


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
    assert paired(again="no").floor.lost == ("a",)


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
