"""The catalogue and the code know the same sentences; how braces, optional parts and forms are filled."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest
from quantbench.judge import predictions
from quantbench.quality.gate import Measure
from quantbench.records import codes
from quantbench.records.decision import Action, QualityStatus, Score
from quantbench.records.finding import finding
from quantbench.records.suite import GateUse
from quantbench.report import say as module
from quantbench.report.marks import pieces, plain
from quantbench.report.say import Speech, catalogue
from quantbench.report.speed import MARKS, OUTCOMES

PACKAGE = Path(module.__file__).parents[1]
BY_CODE = ("code", "question")
"""Groups whose ids are made of reason codes and of keys of the config."""


def test_every_id_in_code_has_a_sentence_and_every_sentence_its_id_in_code() -> None:
    nodes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    calls = [n for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") in ("say", "finding")]
    for call in calls:
        given = {keyword.arg for keyword in call.keywords}
        for id_ in _texts(ast.walk(call.args[0])) if call.args else ():
            words = catalogue()[id_]  # every id has its sentence, and is given what stands in it
            if isinstance(words, str) and None not in given:
                parts = Formatter().parse(module.OPTIONAL.sub("", words))
                assert {name for _, name, _, _ in parts if name} <= given, id_
    assert {id_ for id_ in catalogue() if id_.partition(".")[0] not in BY_CODE} <= _texts(nodes)


def _texts(nodes: Iterable[ast.AST]) -> set[str]:
    values = (node.value for node in nodes if isinstance(node, ast.Constant))
    return {value for value in values if isinstance(value, str) and "." in value and not value.endswith(".")}


def test_every_code_and_question_has_a_sentence() -> None:
    assert {f"code.{name}" for name in codes.CODES} == {id_ for id_ in catalogue() if id_.startswith("code.")}
    questions = {f"question.{question.id}" for question in predictions.QUESTIONS}
    assert questions == {id_ for id_ in catalogue() if id_.startswith("question.")}
    for name, code in codes.CODES.items():
        entry = code.format(q=95, n=72, time="ITL", fits=60)
        assert Speech().reasons([entry]) != [f"`{entry}`"], name


def test_forms_are_those_that_the_records_know() -> None:
    def forms(id_: str) -> set[str]:
        words = catalogue()[id_]
        return set(words) if isinstance(words, dict) else set()

    more = {"use per gpu", "check per gpu", "check slower", "keep refused", "keep untested", "untested"}
    assert forms("decision.action") == {*get_args(Action), *more}
    assert forms("decision.outcome") == {*get_args(Action), "refused", "check per gpu"}
    assert forms("decision.quality") == {*get_args(QualityStatus)}
    assert forms("prediction_page.score") == {*get_args(Score)} - {"no prediction"}
    assert forms("gate.use") == {*get_args(GateUse)}
    assert forms("gate.likelihood") == {*get_args(Measure)}
    assert forms("speed.outcome") == {*OUTCOMES}
    assert forms("speed.mark") == {*MARKS} - {"no_test"}, "no test: as described"


@pytest.mark.parametrize(
    ("words", "values", "expected"),
    [
        ("{by:%}<< [{low:%}]>>.", {"by": 0.1, "low": 0.0}, "10.0 % [0.0 %]."),
        ("{by:%}<< [{low:%}]>>.", {"by": 0.1, "low": None}, "10.0 %."),
        ("a<<, {b}>><<; {c:&}>>", {"c": ["x", "y"]}, "a; x and y"),
        ("a<<, {b}>><<; {c:&}>>", {"b": "", "c": []}, "a"),
        ({"one": "{n:#block} was", "other": "{n:#block} were"}, {"n": 1}, "1 block was"),
        ({"one": "{n:#block} was", "other": "{n:#block} were"}, {"n": 2}, "2 blocks were"),
        ({"x": "{a:model}", "y": "{a:models}"}, {"a": ["b", "b__aa"], "form": "y"}, "B and B again"),
        ("{f}; {fs:&}", {"f": finding("t.inner"), "fs": [{"id": "t.inner", "values": {}}]}, "inner; inner"),
        ("{a:some}", {"a": ["1", "2", "3", "4"]}, "`1`, `2` and 2 more"),
    ],
)
def test_sentences_are_filled(
    monkeypatch: pytest.MonkeyPatch, words: str | dict[str, str], values: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(module, "catalogue", lambda: {"t.sentence": words, "t.inner": "inner"})
    monkeypatch.setattr(Speech, "said", set())
    assert plain(Speech({"b": "B"})("t.sentence", **values)) == expected


def test_sentences_that_go_into_files_of_data_have_no_marks() -> None:
    for id_, words in catalogue().items():
        if id_.partition(".")[0] in ("verdict", "quality", "impact", "code"):
            for sentence in words.values() if isinstance(words, dict) else [words]:
                assert [kind for kind, _ in pieces(sentence)] == ["text"], id_


def test_what_has_no_words_is_an_error() -> None:
    with pytest.raises(KeyError):
        Speech()("no.such_sentence")
    with pytest.raises(KeyError):
        Speech()("decision.action", form="no such form", model="awq")
