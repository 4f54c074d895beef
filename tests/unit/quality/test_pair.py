from __future__ import annotations

import pytest
from quantbench.errors import QuantbenchError
from quantbench.quality import score
from quantbench.records.quality import Answer, QualityDetails, Repeat

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


def details(notes: dict[str, str] | None = None, again: str | None = None) -> QualityDetails:
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
    result = details()
    assert result.worse == ("a",)
    assert result.identical == 1
    assert result.details[0].first_divergence_token == 0
    assert not result.floor.measured
    assert details(again="no").verdict.lost == ()


def test_notes_reach_their_prompt_and_their_variant() -> None:
    result = details({"a": "general", "int4/b": "mine", "int8/a": "other", "int4": "about it"})
    assert [item.note for item in result.details] == ["general", "mine"]
    assert result.notes == ("about it",)


def test_answers_to_other_prompts_are_refused() -> None:
    with pytest.raises(QuantbenchError, match="another prompt file"):
        score.details(PROMPTS, ("a", served("x", "y")[:1]), ("b", served("x", "y")), {}, lambda text, check: (True, ""))
