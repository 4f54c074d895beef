from __future__ import annotations

import ast
import json
import random
from pathlib import Path

import pytest
from demo import corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.quality import code_check, prompt_set, score
from quantbench.records.quality import Answer

ROOT = Path(__file__).parents[2]


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_the_seed_decides_the_text(seed: int) -> None:
    first, second = random.Random(seed), random.Random(seed)
    assert [corpus.sample(first) for _ in range(20)] == [corpus.sample(second) for _ in range(20)]


@pytest.mark.parametrize("kind", list(corpus.KINDS), ids=lambda kind: kind.__name__)
def test_every_kind_gives_a_question_and_an_answer(kind) -> None:
    r = random.Random(1)
    for _ in range(50):
        question, answer = kind(r)
        assert question == question.strip() != ""
        assert answer == answer.strip() != ""


def test_what_is_taught_as_code_and_json_is_code_and_json() -> None:
    for body in corpus.FUNCTIONS.values():
        ast.parse(body)
    r = random.Random(2)
    assert set(json.loads(corpus._json(r)[1])) == {"name", "age", "city"}


def test_the_question_decides_the_answer() -> None:
    """No two answers for one question, or the model could not be right."""
    r, known = random.Random(3), {}
    for _ in range(5000):
        question, answer = corpus.sample(r)
        assert known.setdefault(question, answer) == answer


def test_the_demo_prompts_pass_with_the_answers_of_the_corpus() -> None:
    """The checks ask for what was taught: the taught answer passes every check of its prompt."""
    prompts = prompt_set.parse((ROOT / "config/prompts/quality_demo.jsonl").read_text(encoding="utf-8"), "demo")
    taught = dict(corpus.sample(r) for r in [random.Random(4)] for _ in range(20000))
    known = [p for p in prompts if p["prompt"] in taught]
    assert len(known) >= 18
    answers = [
        Answer(id=p["id"], kind=p["class"], prompt=p["prompt"], output=taught[p["prompt"]], tokens=1, token_ids=(1,))
        for p in known
    ]
    result = score.details(known, ("a", answers), ("b", answers), {}, code_check.run_python)
    assert {item.id: item.baseline.failed for item in result.details if not item.baseline.passed} == {}


KINDS = {"fact", "explanation", "arithmetic", "summary", "code", "json"}


@pytest.mark.parametrize(("file", "least", "kinds"), [
    ("quality.jsonl", 17, KINDS | {"second_language", "edge"}), ("quality_small.jsonl", 30, KINDS | {"extraction"}),
    ("quality_demo.jsonl", 17, KINDS | {"second_language", "edge"}), ("chat.jsonl", 96, None),
])  # fmt: skip
def test_shipped_prompt_sets(file: str, least: int, kinds: set[str] | None) -> None:
    text = (ROOT / "config/prompts" / file).read_text(encoding="utf-8")
    prompts = [json.loads(line) for line in text.splitlines()]
    assert len(prompts) >= least
    assert len({p["id"] for p in prompts}) == len({p["prompt"] for p in prompts}) == len(prompts)
    if kinds is not None:
        assert kinds <= {p["class"] for p in prompt_set.parse(text, file)}


def test_shipped_documents() -> None:
    documents = [json.loads(x) for x in (ROOT / "data/documents.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(documents) >= 48
    assert len({d["id"] for d in documents}) == len({d["text"] for d in documents}) == len(documents)
    assert all(100 <= len(d["text"].split()) <= 250 for d in documents)
