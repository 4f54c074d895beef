"""The catalogue of words: every sentence can be said and is asked for, and every id in code has its sentence."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from string import Formatter
from typing import Any

import pytest
from quantbench.docs.modules import modules
from quantbench.judge.predictions import QUESTIONS
from quantbench.records.codes import CODES
from quantbench.report.say import SHOWN, Speech, catalogue

GROUPS = {name.partition(".")[0] for name in catalogue()}
SAYING = ("judge/", "quality/", "report/", "cli/")
NUMBERS = {"%", "%0", "%max", "change", "less", "ratio", "num", "int", "s", "ms", "gib", "p"}
EXAMPLES: dict[str, Any] = {
    "": "text", "metric": "p50_ttft_ms", "metrics": ["p50_ttft_ms"], "words": "p50_ttft", ",": ["a"],
    "model": "awq", "models": ["awq", "gptq"], "place": "chat/c16_t128", "places": ["chat/c16_t128"], "&": ["a", "b"],
    "codes": ["a"], "some": ["a", "b", "c", "d"],
} | dict.fromkeys(NUMBERS, 1.5)  # fmt: skip


def forms(name: str) -> dict[str, str]:
    """The sentence in all its forms."""
    words = catalogue()[name]
    return words if isinstance(words, dict) else {"": words}


def fields(text: str) -> dict[str, str]:
    """{value: how it is shown} of a sentence."""
    return {name: how or "" for _, name, how, _ in Formatter().parse(text) if name}


def used() -> Iterator[tuple[str, set[str] | None]]:
    """Every id that code names, with the values that it gives; None where these are not all written there."""
    for module, path in modules().items():
        if not module.startswith(SAYING):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Constant)
                and str(node.value).partition(".")[0] in GROUPS
                and "." in str(node.value)
            ):
                yield str(node.value), None
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("finding", "say") and node.args:
                given = {keyword.arg for keyword in node.keywords}
                if isinstance(node.args[0], ast.Constant) and None not in given:
                    yield str(node.args[0].value), {name for name in given if name}


USED = list(used())


@pytest.mark.parametrize("name", catalogue())
def test_every_sentence_can_be_said(name: str) -> None:
    for form, text in forms(name).items():
        known = fields(text)
        assert {how for how in known.values() if not how.startswith("#")} <= set(EXAMPLES)
        values = {value: 2 if how.startswith("#") else EXAMPLES[how] for value, how in known.items()}
        sentence = Speech()(name, **values | ({"n": 1 if form == "one" else 2} if form else {}))
        assert sentence
        assert not set("{}") & set(sentence)


def test_every_sentence_is_asked_for() -> None:
    tables = {f"code.{name}" for name in CODES} | {f"question.{question.id}" for question in QUESTIONS}
    assert set(catalogue()) - {name for name, _ in USED} - tables == set()


@pytest.mark.parametrize(("name", "given"), [(name, given) for name, given in USED if given is not None])
def test_every_finding_has_its_sentence_and_the_values_in_it(name: str, given: set[str]) -> None:
    assert name in catalogue()
    wanted = {value for text in forms(name).values() for value in fields(text)}
    assert wanted | ({"n"} if len(forms(name)) > 1 else set()) <= given


def test_every_way_of_showing_a_value_has_its_example() -> None:
    assert set(SHOWN) <= set(EXAMPLES)
