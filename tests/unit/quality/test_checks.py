from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.errors import QuantbenchError
from quantbench.quality import checks, code_check, prompt_set

ROOT = Path(__file__).parents[3]
ANY_CHECK = {
    "contains": {"all": ["a"], "any": ["b"]},
    "not_contains": {"any": ["a"]},
    "regex": {"pattern": r"\b42\b"},
    "exact_number": {"value": 42},
    "json_schema": {"schema": {"type": "object", "required": ["a"]}},
    "max_words": {"value": 3},
    "min_words": {"value": 3},
    "sentences": {"min": 1, "max": 2},
    "language": {"value": "es"},
    "not_empty": {},
    "not_garbled": {},
    "no_repetition": {},
}


def ok(kind: str, text: str, **check: object) -> bool:
    return checks.CHECKS[kind](text, check)[0]


def test_every_check_is_covered_by_the_property() -> None:
    assert set(ANY_CHECK) == set(checks.CHECKS)


@pytest.mark.parametrize("kind", sorted(ANY_CHECK))
@settings(max_examples=60, deadline=None)
@given(
    text=st.one_of(
        st.text(),
        st.text("{}[]\"',:0123456789-.eE"),
        st.text("ab \n.!`"),
        st.from_regex(r"(\[){0,3000}(\{\"a\":){0,3000}"),
    )
)
def test_no_text_makes_a_check_raise(kind: str, text: str) -> None:
    result, detail = checks.CHECKS[kind](text, ANY_CHECK[kind])
    assert isinstance(result, bool)
    assert isinstance(detail, str)


OBJECT = {"schema": {"type": "object", "required": ["a"]}}


@pytest.mark.parametrize(("kind", "check", "right", "wrong"), [
    ("exact_number", {"value": 56}, ["7 * 8 = 56", "57 or maybe 56"], ["56 or maybe 57", "no idea", "x56"]),
    ("exact_number", {"value": 1}, ["You have 1 left."], []),
    ("exact_number", {"value": 1250}, ["The total is 1,250."], []),
    ("exact_number", {"value": -4.5}, ["It is -4.5 degrees"], []),
    ("contains", {"any": ["paris"]}, ["PARIS"], ["Rome"]),
    ("contains", {"any": ["PARIS"], "match_case": True}, ["PARIS"], ["paris"]),
    ("contains", {"all": ["Emma", "lamp"]}, ["emma's lamp"], ["Emma"]),
    ("json_schema", OBJECT, ['Sure: {"a": 1} and more', '```json\n{"a": 1}\n```'], ['[1, {"b": 2}]', '{"a": ', ""]),
    ("sentences", {"min": 3, "max": 3}, ["One. Two! It costs 3.50 euros?"], ["One. Two."]),
    ("max_words", {"value": 3}, ["don't count twice"], ["one two three four"]),
    ("min_words", {"value": 1}, ["one"], [""]),
    ("no_repetition", {}, ["", "apple apple apple apple apple", "1, 2, 3, 4, 5, 6.", "-" * 30],
     ["word " * 40, "a" * 200, "abc, " + "I am. " * 30, "x\n" * 100]),
    ("not_garbled", {}, ["clean\n"], ["a\ufffdb", "bell \x07", "hi<|im_end|>", "</s>"]),
])  # fmt: skip
def test_what_a_check_takes_and_what_not(kind: str, check: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    assert [text for text in right if not ok(kind, text, **check)] == []
    assert [text for text in wrong if ok(kind, text, **check)] == []


@pytest.mark.parametrize(("text", "language"), [
    ("La capital de Francia es París.", "es"),
    ("Die Hauptstadt von Norwegen ist Oslo.", "de"),
    ("The capital of France is Paris.", "en"),
    ("La maison est sur la colline et la porte est ouverte.", "fr"),
])  # fmt: skip
def test_language_by_function_words(text: str, language: str) -> None:
    assert [code for code in ("es", "de", "en", "fr") if ok("language", text, value=code)] == [language]


@settings(deadline=None)
@given(unit=st.text("abc ", min_size=1, max_size=20).filter(str.strip), lead=st.text(max_size=50))
def test_any_unit_repeated_often_is_a_loop(unit: str, lead: str) -> None:
    assert checks.loop_at_end(lead + unit * 100)


def test_hard_checks_come_first_and_are_marked() -> None:
    results = checks.run_checks("", [{"type": "contains", "any": ["x"]}, {"type": "not_empty"}], code_check.run_python)
    assert [r.type for r in results] == ["not_empty", "not_garbled", "no_repetition", "contains"]
    assert [r.ok for r in results] == [False, True, True, False]
    assert [r.hard for r in results] == [True, True, True, False]


def test_prompt_file_round_trip() -> None:
    line = {"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": [{"type": "contains", "any": ["y"]}]}
    assert prompt_set.parse(json.dumps(line) + "\n\n", "p.jsonl") == [line]
    line |= {"prompt": "x\u2028y\x85z"}  # line ends of other kinds belong to the text
    assert prompt_set.parse(json.dumps(line, ensure_ascii=False) + "\r\n", "p.jsonl") == [line]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    chat = {"messages": turns}
    assert prompt_set.messages(chat) == turns
    assert prompt_set.shown(chat) == "system: s\nuser: u"


LINE = {"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": []}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"checks": [{"type": "kontains"}]}, "kontains"),
        ({"checks": [{"type": "regex", "pattern": "("}]}, "pattern"),
        ({"checks": [{"type": "exact_number"}]}, "checks.0: 'value' is a required property"),
        ({"checks": [{"type": "exact_number", "value": "7"}]}, "checks.0.value: '7' is not of type 'number'"),
        ({"checks": [{"type": "language", "value": 7}]}, "checks.0.value: 7 is not of type 'string'"),
        ({"checks": [{"type": "regex", "pattern": "a", "flags": "i"}]}, "checks.0: Additional properties"),
        ({"checks": [{"type": "contains"}]}, "checks.0: a check of type contains needs `all` or `any`"),
        ({"checks": [{"type": "sentences"}]}, "checks.0: a check of type sentences needs `min` or `max`"),
        ({"checks": [{"type": "json_schema", "schema": {"type": "nonsense"}}]}, "schema"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"colour": 1}, "colour"),
        ({"messages": []}, "the prompt needs `prompt` or `messages`, and not both"),
    ],
)
def test_bad_prompt_lines_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(QuantbenchError, match=r"p\.jsonl, line 1") as error:
        prompt_set.parse(json.dumps(LINE | change), "p.jsonl")
    assert named in str(error.value)


@pytest.mark.timeout(60)
def test_a_long_run_of_closing_marks_is_one_end() -> None:
    assert checks.sentences("!" * 200_000 + "x", {"max": 1})[0]
    assert checks.sentences("Yes" + "!" * 200_000 + " No.", {"min": 2, "max": 2})[0]


@pytest.mark.parametrize(
    ("text", "named"),
    [(f"{json.dumps(LINE)}\n" * 2, "line 2.*twice"), ("{", "line 1: not JSON"), ("\n", "no prompts")],
)
def test_bad_files_are_named(text: str, named: str) -> None:
    with pytest.raises(QuantbenchError, match=rf"p\.jsonl.*{named}"):
        prompt_set.parse(text, "p.jsonl")


def test_the_guide_lists_every_field_and_every_check_with_its_parameters() -> None:
    guide = (ROOT / "config/README.md").read_text()
    section = guide.partition("## Quality prompts")[2].partition("\n## ")[0]
    fields = prompt_set.SCHEMA["properties"]
    for name in fields:
        assert f"`{name}`" in section, name
    checks_of = fields["checks"]["items"]["properties"]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", section.partition("| check |")[2], re.M))
    assert set(rows) == set(checks_of["type"]["enum"])
    for kind, needs in prompt_set._REQUIRED.items():
        assert all(f"`{need}`" in rows[kind] for need in needs), kind
    assert all(any(f"`{name}`" in row for row in rows.values()) for name in checks_of if name != "type")
