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
    "math_value": {"value": "3/4", "form": "number"},
    "exact_text": {"value": "a b"},
    "near_text": {"any": ["a b"], "min": 80},
    "starts_with": {"any": ["a"]},
    "ends_with": {"any": ["a"]},
    "letter_case": {"value": "upper"},
    "ordered_list": {"items": [1, "a"]},
    "list_length": {"min": 1, "max": 2},
    "json_value": {"equals": {"a": [1, "x", True, None]}, "path": ["a", 0]},
    "refuses": {},
    "complies": {},
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
        st.text("1234x^*/()+-=${}\\ .,%fracsqrt"),
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
    ("exact_number", {"value": 7200}, ["about $7{,}200", "7\\,200", "7'200", "7_200", "7\u202f200", "US$7,200.00"],
     ["7,20"]),
    ("exact_number", {"value": -8}, ["−8 °C", "–8", "-$8", "x = −8.", "- it is −8"], ["5−8", "4-8", "range 2–8"]),
    ("exact_number", {"value": 6.5e7}, ["6.5e7 km", "6.5E+07", "6.5 × 10^7", "$6.5 \\times 10^{7}$", "6.5·10⁷",
     "65,000,000"], ["6.5e8", "6.5 × 10^8", "6.5 x 7"]),
    ("exact_number", {"value": 0.002}, ["2e-3", "2 × 10^{-3}", "2·10⁻³", ".002", "2e−3."], ["2e3"]),
    ("exact_number", {"value": 1e6}, ["10^6", "10**6", "1{,}000{,}000", "10⁶ of them"], ["10^7"]),
    ("exact_number", {"value": 400}, ["1,2,3,400", "[200,300, 400]", "5,6,400.", "1,234,5 and 400"], ["3,400"]),
    ("exact_number", {"value": 30}, ["The area is 30 m^2.", "\\boxed{30}", "**30**", "30\r\n"], ["30^2"]),
    ("exact_number", {"value": 12}, [
        "5 + 7 = 12.\n\nQuestion: What is 2 + 2?\nAnswer: 4", "12\n\nQ: 2 + 2?\nA: 4",
        "It is 12.\nUser: and 2 + 2?\nIt is 4.",
        "#### 12\n\nHow much is 2 + 2? It is\n#### 4", "12\n\n**Problem 2:** 2 + 2\n4",
        "Question: What is 5 + 7?\nAnswer: 12",
        "Sure.\nQuestion: What is 5 + 7?\nAnswer: 12", "#### Step 1\n5 + 7\n#### Step 2\nIt is 12",
     ], ["4\n\nQuestion: What is 5 + 7?\nAnswer: 12", "#### 4\n#### 12"]),
    ("contains", {"any": ["paris"]}, ["PARIS"], ["Rome"]),
    ("contains", {"any": ["PARIS"], "match_case": True}, ["PARIS"], ["paris"]),
    ("contains", {"all": ["Emma", "lamp"]}, ["emma's lamp"], ["Emma"]),
    ("json_schema", OBJECT, ['Sure: {"a": 1} and more', '```json\n{"a": 1}\n```'], ['[1, {"b": 2}]', '{"a": ', ""]),
    ("json_schema", OBJECT, [
        'Set {x}: {"a": 1}', '1. So:\r\n   ```json\r\n   {"a": 1}\r\n   ```', '~~~\n{"a": [1, 2]}\n~~~',
        'Use ```{"a": 1}```\n',
        '> ```json\n> {"a": 1}\n> ```', '```` json\n{"a": "`"}',
     ], ['{"b": {"a": 1}, "c', '[{"a": 1}, {"a":', '{"b": {"a": 1} oops}', "[" * 10**5]),
    ("sentences", {"min": 3, "max": 3}, ["One. Two! It costs 3.50 euros?"], ["One. Two."]),
    ("max_words", {"value": 3}, ["don't count twice"], ["one two three four"]),
    ("min_words", {"value": 1}, ["one"], [""]),
    ("no_repetition", {}, ["", "apple apple apple apple apple", "1, 2, 3, 4, 5, 6.", "-" * 30,
      "Great!!!", "1" * 20, "a | b\n--|" + "-" * 40, "f(" + "(" * 20 + ")" * 20 + ")", "Wait........",
      json.dumps([{"id": n, "name": "item", "ok": True} for n in range(99)], indent=1),
      "Here:\n```json\n" + json.dumps([["row", 0, 0]] * 99) + "\n```\nDone.",
      "All rows: " + json.dumps({"rows": ["same"] * 200}),
      "\n".join(json.dumps({"id": n, "name": "item", "ok": True}) for n in range(99))],
     ["word " * 40, "a" * 200, "abc, " + "I am. " * 30, "x\n" * 100,
      "!" * 16, "Paris is" + "!" * 40, "! " * 16, "?\n" * 20, "。" * 16, "Yes" + "G" * 30, "..." * 8,
      '{"a": 1}\n' * 90, '[{"a": 1}, ' * 90, json.dumps({"text": "I am. " * 99}), "```json\n[" + "1, " * 99]),
    ("not_empty", {}, ["x", "👍", "…", "<think>a</think>b</think>"], [
        "", " \n", "\u200b\ufeff", "\u202e ", "<think>a</think> </think>"]),
    ("not_garbled", {}, ["clean\n", "<|begin_of_thought|>a<|end_of_thought|>b"], [
        "a\ufffdb", "bell \x07", "a\x7f", "\x93a\x94", "a\ud800", "hi<|im_end|>", "</s>"]),
    ("not_garbled", {}, ["▁▂▃▅▇", "Ġgantija and Ċ", "a < b | c > d", "<html><body>", "x[0], [END]", "ĠENNAJO"], [
        "Rome.<｜end▁of▁sentence｜>", "<|endoftext|>", "<eos>", "<pad><pad>", "[PAD]", "<unk>", "a<end_of_utterance>",
        "<<SYS>>", "<0x0A>", "<extra_id_0>", "<|reserved_special_token_7|>", "▁The▁answer", "It▁is",
        "TheĠansĠwer", "Yes.ĊĊNo", "a ĊĊ"]),
])  # fmt: skip
def test_what_a_check_takes_and_what_not(kind: str, check: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    assert [text for text in right if not ok(kind, text, **check)] == []
    assert [text for text in wrong if ok(kind, text, **check)] == []


@pytest.mark.parametrize(("text", "language"), [
    ("La capital de Francia es París.", "es"),
    ("Die Hauptstadt von Norwegen ist Oslo.", "de"),
    ("The capital of France is Paris.", "en"),
    ("La maison est sur la colline et la porte est ouverte.", "fr"),
    ("O gato dorme no sofá e não quer sair.", "pt"),
    ("La gatta dorme sul divano e non vuole uscire.", "it"),
])  # fmt: skip
def test_language_of_a_sentence(text: str, language: str) -> None:
    assert [code for code in checks.LANGUAGES if ok("language", text, value=code)] == [language]


@settings(deadline=None)
@given(unit=st.text("abc ", min_size=1, max_size=20).filter(str.strip), lead=st.text(max_size=50))
def test_any_unit_repeated_often_is_a_loop(unit: str, lead: str) -> None:
    assert checks.loop_at_end(lead + unit * 100)


ANSWER = {"type": "exact_number", "value": 12}
ROME = {"type": "json_schema", "schema": {"type": "object", "required": ["city"]}}
CODE = {"type": "python", "tests": ["f(1, 2) == 3"]}


def holds(text: str, *listed: dict[str, Any]) -> bool:
    return all(result.ok for result in checks.run_checks(text, listed, code_check.run_python))


@pytest.mark.parametrize("check", [ANSWER, {"type": "max_words", "value": 9}, {"type": "not_contains", "any": ["x"]}])
@pytest.mark.parametrize("text", [
    "<think>5 + 7 is 12", "\n<think>\n12", "[THINK]12", "◁think▷12", "<thinking>\n12\n", "<think></think>",
    "12</think>\n", "<think>a</think>12 <think>no, 12",
])  # fmt: skip
def test_a_thought_without_its_answer_never_passes(text: str, check: dict[str, Any]) -> None:
    assert not holds(text, check)


@pytest.mark.parametrize(("text", "check"), [
    ("<think>Is it 4?</think>12", ANSWER),
    ("It is 4, or so.\n</think>\n\n12", ANSWER),
    ("<think>4</think> <think>5</think>12", ANSWER),
    ("<think>4</think>12</think>", ANSWER),
    ("<think>a<think>4</think>5</think>12", ANSWER),
    ("<think>4</think>12 <think>5</think>\n", ANSWER),
    ("<thought>4</thought>12", ANSWER),
    ("<reasoning>4</reasoning>12", ANSWER),
    ("<|begin_of_thought|>4<|end_of_thought|>12", ANSWER),
    ("The tag `</think>` ends it: 12", ANSWER),
    ("[THINK]4[/THINK]12", ANSWER),
    ("◁think▷4◁/think▷12", ANSWER),
    ("Models write <think> first; it is 12", ANSWER),
    ('<think>{"town": 1}?</think>{"city": "Rome"}', ROME),
    ('{"town": 1}</think>```json\r\n{"city": "Rome"}\r\n```', ROME),
    ("<think>```python\ndef f(): pass\n```</think>\n```python\ndef add(a, b): return a + b\n```", CODE),
])  # fmt: skip
def test_what_follows_a_thought_is_the_answer(text: str, check: dict[str, Any]) -> None:
    assert holds(text, check)


ADD = ["def add(a, b):", "    return a + b"]


@pytest.mark.parametrize("text", [
    "\r\n".join(["```python", *ADD, "```"]),
    "\r".join(["```python", *ADD, "```"]),
    "1. Code:\n" + "\n".join(f"   {line}" for line in ["```python", *ADD, "```"]),
    "- So:\n" + "\n".join(f"\t{line}" for line in ["```py", *ADD, "```"]),
    "> " + "\n> ".join(["```", *ADD, "```"]),
    "\n".join(["~~~ python", *ADD, "~~~", "It adds."]),
    "\n".join(["````python title=a.py", *ADD, "````"]),
    "Use ```add```, as in ```python\n" + "\n".join(ADD) + "```",
    "\n".join(["```python", *ADD]),
    "\n".join(f"    {line}" for line in ADD),
    "\n".join([*ADD, "", "Question: Write a function that subtracts."]),
    "\ufeff" + "\n".join(ADD),
    "\n".join(["Here is the function:", "", *ADD, "", "This function adds two numbers."]),
    "\n".join(["```bash", "pip install nothing", "```", "Then:", "```python", *ADD, "```"]),
    "\n".join(["```python", "import math", "```", "```python", *ADD, "```", "```python", "print(add(1, 2) + )", "```"]),
    "\n".join([
        "```python", ADD[0], '    """Adds; not ```a``` alone.', "    ```", "    add(1, 2)", "    ```", '    """',
        ADD[1], "```",
    ]),
    "\n".join([
        "```python", *ADD[:1], f"{ADD[1]}```", "which adds, unlike", "```python", "def add(a, b): return a - b", "```",
    ]),
])  # fmt: skip
def test_code_is_found_however_it_is_fenced(text: str) -> None:
    assert holds(text, CODE)


@pytest.mark.parametrize("kind", sorted(ANY_CHECK))
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        "!",
        "`",
        "[1,",
        "1,111,",
        " ",
        "```\n",
        '{"a":',
        "<think>",
        "\n\n",
        "#### 1\n",
        "**",
        '"',
        "\\(",
        "\\[",
        "$",
        "a,",
        "- a\n",
        ": ",
        "x^2+",
        "\\boxed{",
        "i can't ",
    ],
)
def test_a_check_of_a_long_text_takes_time_in_proportion(kind: str, unit: str) -> None:
    """Ends at all: what grows with the square takes minutes here."""
    checks.CHECKS[kind](unit * (200_000 // len(unit)) + "x", ANY_CHECK[kind])


@pytest.mark.parametrize(("prompt", "opened"), [
    ("<|assistant|><think>\n", True), ("…[THINK]", True), ("<think>\n\n</think>\n\n", False),
    ("<think> is a tag", False),
    ("assistant\n", False),
])  # fmt: skip
def test_a_template_may_open_the_thought(prompt: str, opened: bool) -> None:
    assert checks.opens_thought(prompt) is opened


@pytest.mark.parametrize(("text", "state"), [
    ("12", "none"), ("Models write <think> first; it is 12", "none"), ("", "none"),
    ("<think>5</think>12", "ended"), ("5</think>", "ended"), ("[THINK]4[/THINK]12", "ended"),
    ("<think>5 + 7", "open"), ("\n◁think▷12", "open"), ("<think>a</think>12 <think>no, 12", "open"),
])  # fmt: skip
def test_whether_an_answer_has_a_thought_and_ends_in_it(text: str, state: str) -> None:
    assert checks.thought(text) == state


def test_code_that_is_off_is_neither_right_nor_wrong() -> None:
    result = checks.run_checks("def add(a, b): return a + b", [CODE], None)[-1]
    assert (result.type, result.ok, result.detail) == ("python", None, "not run: `quality.code` is off")


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
        ({"checks": [{"type": "language", "value": "xx"}]}, "checks.0.value: 'xx' is not one of"),
        ({"checks": [{"type": "letter_case", "value": "title"}]}, "checks.0.value: 'title' is not one of"),
        ({"checks": [{"type": "near_text", "any": ["a"]}]}, "'min' is a required property"),
        ({"checks": [{"type": "json_value", "path": ["a"]}]}, "'equals' is a required property"),
        ({"checks": [{"type": "ordered_list"}]}, "'items' is a required property"),
        ({"level": 6}, "level: 6 is greater than the maximum of 5"),
        ({"cluster": 6}, "cluster: 6 is not of type 'string'"),
        ({"checks": [{"type": "regex", "pattern": "a", "flags": "i"}]}, "checks.0: Additional properties"),
        ({"checks": [{"type": "contains"}]}, "checks.0: a check of type contains needs `all` or `any`"),
        ({"checks": [{"type": "sentences"}]}, "checks.0: a check of type sentences needs `min` or `max`"),
        ({"checks": [{"type": "json_schema", "schema": {"type": "nonsense"}}]}, "schema"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"checks": [{"type": "python", "tests": ["assert f(2) == 4"]}]}, "write it as f(2) == 4, without `assert`"),
        ({"checks": [{"type": "python", "tests": ["f(2) =="]}]}, "not an expression (SyntaxError"),
        ({"checks": [{"type": "python", "tests": ["1 == 1"]}]}, "it does not call f"),
        (
            {"checks": [{"type": "python", "tests": ["f(2) == Stack().pop()"]}]},
            "Stack: only f, Python's builtins and math",
        ),
        ({"checks": [{"type": "python", "tests": ["f(lambda x: x) == 1"]}]}, "a lambda cannot be handed to f"),
        ({"colour": 1}, "colour"),
        ({"checks": [{"type": "near_text", "any": ["a"], "min": 101}]}, "101 is greater than the maximum of 100"),
        ({"checks": [{"type": "sentences", "min": 3, "max": 2}]}, "min 3 is above max 2"),
        ({"checks": [{"type": "starts_with", "any": ["**"]}]}, "'**' is nothing but"),
        ({"checks": [{"type": "exact_text", "value": "`` "}]}, "'`` ' is nothing but"),
        ({"checks": [{"type": "math_value", "value": "one half"}]}, "no answer is found equal to it"),
        ({"checks": [{"type": "math_value", "value": "sin(2)"}]}, "no answer is found equal to it"),
        (
            {"checks": [{"type": "json_schema", "schema": {"$ref": "#/$defs/a"}}]},
            "$ref '#/$defs/a' is not in the schema",
        ),
        (
            {"checks": [{"type": "json_schema", "schema": {"items": {"$ref": "https://a.invalid/b"}}}]},
            "none is fetched",
        ),
        ({"messages": []}, "the prompt needs `prompt` or `messages`, and not both"),
    ],
)
def test_bad_prompt_lines_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(QuantbenchError, match=r"p\.jsonl, line 1") as error:
        prompt_set.parse(json.dumps(LINE | change), "p.jsonl")
    assert named in str(error.value)


def test_a_reference_within_a_schema_is_followed() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "required": ["b"]}}}
    assert prompt_set.parse(json.dumps(LINE | {"checks": [{"type": "json_schema", "schema": schema}]}), "p.jsonl")
    assert ok("json_schema", '{"b": 1}', schema=schema)
    assert not ok("json_schema", '{"c": 1}', schema=schema)


@pytest.mark.timeout(60)
def test_a_large_file_is_read_in_proportion() -> None:
    lines = [json.dumps(LINE | {"id": f"i{n}"}) for n in range(10_000)]
    assert len(prompt_set.parse("\n".join(lines), "p.jsonl")) == len(lines)


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


@pytest.mark.parametrize("check", [
    {"type": "regex", "pattern": "(a+)+b"},
    {"type": "json_schema", "schema": {"properties": {"x": {"pattern": "^(a+)+b"}}}},
])  # fmt: skip
def test_a_pattern_that_never_ends_is_a_check_that_was_not_run(check, monkeypatch):
    monkeypatch.setattr(checks, "CHECK_CPU_S", 0.2)
    found = checks.run_checks(json.dumps({"x": "a" * 60}), [check], None)[-1]
    assert found.ok is None
    assert "0.2 s" in found.detail
    assert checks.run_checks("aab", [{"type": "regex", "pattern": "(a+)+b"}], None)[-1].ok
