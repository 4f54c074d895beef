from __future__ import annotations

import json
import re
from pathlib import Path

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


@pytest.mark.parametrize(
    ("text", "value", "right"),
    [
        ("7 * 8 = 56", 56, True),
        ("You have 1 left.", 1, True),
        ("The total is 1,250.", 1250, True),
        ("It is -4.5 degrees", -4.5, True),
        ("56 or maybe 57", 56, False),
        ("no idea", 56, False),
        ("x56", 56, False),
    ],
)
def test_exact_number_takes_the_last_number(text: str, value: float, right: bool) -> None:
    assert ok("exact_number", text, value=value) is right


def test_contains_folds_case_unless_told_otherwise() -> None:
    assert ok("contains", "PARIS", any=["paris"])
    assert not ok("contains", "paris", any=["PARIS"], match_case=True)
    assert not ok("contains", "Emma", all=["Emma", "lamp"])


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('Sure: {"a": 1} and more', True),
        ('```json\n{"a": 1}\n```', True),
        ('[1, {"b": 2}]', False),
        ('{"a": ', False),
        ("", False),
    ],
)
def test_json_is_found_and_validated(text: str, right: bool) -> None:
    assert ok("json_schema", text, schema={"type": "object", "required": ["a"]}) is right


def test_lengths() -> None:
    assert ok("sentences", "One. Two! It costs 3.50 euros?", min=3, max=3)
    assert ok("max_words", "don't count twice", value=3)
    assert not ok("min_words", "", value=1)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("La capital de Francia es París.", "es"),
        ("Die Hauptstadt von Norwegen ist Oslo.", "de"),
        ("The capital of France is Paris.", "en"),
        ("La maison est sur la colline et la porte est ouverte.", "fr"),
    ],
)
def test_language_by_function_words(text: str, language: str) -> None:
    others = {"es", "de", "en", "fr"} - {language}
    assert ok("language", text, value=language)
    assert not any(ok("language", text, value=other) for other in others)


@pytest.mark.parametrize("text", ["word " * 40, "a" * 200, "abc, " + "I am. " * 30, "x\n" * 100])
def test_loops_are_seen(text: str) -> None:
    assert not ok("no_repetition", text)


@pytest.mark.parametrize("text", ["", "apple apple apple apple apple", "1, 2, 3, 4, 5, 6.", "-" * 30])
def test_short_repetition_is_no_loop(text: str) -> None:
    assert ok("no_repetition", text)


@settings(deadline=None)
@given(unit=st.text("abc ", min_size=1, max_size=20).filter(str.strip), lead=st.text(max_size=50))
def test_any_unit_repeated_often_is_a_loop(unit: str, lead: str) -> None:
    assert checks.loop_at_end(lead + unit * 100)


@pytest.mark.parametrize("text", ["a\ufffdb", "bell \x07", "hi<|im_end|>", "</s>"])
def test_garbled_text_is_seen(text: str) -> None:
    assert not ok("not_garbled", text)


def test_hard_checks_come_first_and_are_marked() -> None:
    results = checks.run_checks("", [{"type": "contains", "any": ["x"]}, {"type": "not_empty"}], code_check.run_python)
    assert [r.type for r in results] == ["not_empty", "not_garbled", "no_repetition", "contains"]
    assert [r.ok for r in results] == [False, True, True, False]
    assert [r.hard for r in results] == [True, True, True, False]


def test_prompt_file_round_trip() -> None:
    line = {"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": [{"type": "contains", "any": ["y"]}]}
    assert prompt_set.parse(json.dumps(line) + "\n\n", "p.jsonl") == [line]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    chat = {"messages": turns}
    assert prompt_set.messages(chat) == turns
    assert prompt_set.shown(chat) == "system: s\nuser: u"


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
    line = {"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": []} | change
    with pytest.raises(QuantbenchError, match=r"p\.jsonl, line 1") as error:
        prompt_set.parse(json.dumps(line), "p.jsonl")
    assert named in str(error.value)


def test_line_ends_of_other_kinds_belong_to_the_text() -> None:
    line = {"id": "a", "class": "fact", "prompt": "x\u2028y\x85z", "max_tokens": 4, "checks": []}
    assert prompt_set.parse(json.dumps(line, ensure_ascii=False) + "\r\n", "p.jsonl") == [line]


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
        assert all(f"`{need['required'][0]}`" in rows[kind] for need in needs), kind
    assert all(any(f"`{name}`" in row for row in rows.values()) for name in checks_of if name != "type")


def test_bad_files_are_named() -> None:
    line = json.dumps({"id": "a", "class": "fact", "prompt": "x", "max_tokens": 4, "checks": []})
    with pytest.raises(QuantbenchError, match=r"line 2.*twice"):
        prompt_set.parse(f"{line}\n{line}", "p.jsonl")
    with pytest.raises(QuantbenchError, match="not JSON"):
        prompt_set.parse("{", "p.jsonl")
    with pytest.raises(QuantbenchError, match="no prompts"):
        prompt_set.parse("\n", "p.jsonl")
