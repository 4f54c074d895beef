"""Right answers as models write them, and wrong ones that look right, for each check."""

from __future__ import annotations

from typing import Any

import pytest
from quantbench.quality import checks

ANSWERS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("exact_number", {"value": 3}, ["1. First 1 + 1 = 2.\n2. Then 2 + 1 = 3.", "1. I think\n2. that it is\n3", "3."], ["1. 35\n2. 9598\n3.", "1. 1\n2. 2\n3) 4"]),
    ("exact_number", {"value": 1234567}, ["1.234.567", "1 234 567", "1\u202f234\u202f567 €", "12,34,567", "1'234'567", "1,234,567.00"], ["1.234.56", "234 567", "1.234.568"]),
    ("exact_number", {"value": 1234.56}, ["1.234,56", "1 234,56 €", "1'234.56", "$1,234.56", "Es sind 1.234,56 Euro."], ["1.234,57", "1.234", "12.34,56"]),
    ("exact_number", {"value": 1250}, ["1.250", "1 250"], ["1.25", "1,25", "1 25"]),
    ("exact_number", {"value": 0.5}, ["1/2", "\\frac{1}{2}", "$\\boxed{\\dfrac{1}{2}}$", "½", "0,5", "2/4"], ["2/1", "1/2/2031", "5/0", "1,5"]),
    ("exact_number", {"value": 2.5}, ["2½", "2 1/2", "2\\frac{1}{2}", "5/2"], ["21/2", "2"]),
    ("exact_number", {"value": -5}, ["x = - 5", "It is minus 5.", "- 5", "−5", "-$5"], ["10 - 5", "5"]),
    ("exact_number", {"value": 42}, ["\\boxed{42}, as 6 · 7 is.", "$\\boxed{x = 42}$ in step 3", "84/2 = 42"], ["\\boxed{41}, not 42", "42 is it, says step 3"]),
    ("math_value", {"value": "5"}, ["\\boxed{5\\text{ cm}^2}", "$5\\ \\mathrm{kg}$", "It is \\$5.", "It costs $2 per item, so $5 in all."], ["\\boxed{2\\text{ of 5}}"]),
    ("math_value", {"value": "sqrt(2)"}, ["sqrt(2)", "\\sqrt{2}", "√2"], ["sqrt(3)", "2"]),
    ("math_value", {"value": "3pi/2"}, ["3\\pi/2", "3π/2", "3*pi/2"], ["3/2", "3i/2"]),
    ("json_value", {"equals": {"a": 1}}, ['As in [1], it is {"a": 1}', 'Given []: {"a": 1}'], ['[{"a": 1}]', '{"a": NaN}', '{"a": 1, "b": Infinity}']),
    ("sentences", {"min": 2, "max": 2}, ["1. Dogs bark.\n2. Cats do not.", "1) One day it rained.\n2) Then not.", "It opens at 5 p.m. on Monday. Dr. Lee comes.", "**It rains.** _So what?_", "it rains. so what?", "“It rains.” So what?", "It was 3. Then 4."], ["1. Dogs bark.", "At 5 p.m. on Monday it rains.", "It rains. It pours. It snows.", "1. Dogs\n2. Cats\n3. Birds sing."]),
    ("exact_number", {"value": 1250}, ["１，２５０", "**1,250**", "1250。"], ["１２５"]),
    ("contains", {"any": ["one", "1"], "whole_words": True}, ["One.", "**1**", "=1", "１"], ["none", "10", "someone"]),
    ("contains", {"any": ["H2O"], "whole_words": True}, ["It is H2O.", "Ｈ２Ｏ"], ["H2O2"]),
    ("not_contains", {"any": ["e"]}, ["A dog"], ["Ｅ", "the dog"]),
    ("math_value", {"value": "3/4", "form": "number"}, [
        "3/4", "0.75", "75%", "75\\%", "6/8", "$\\frac{3}{4}$", "\\(\\dfrac34\\)", "\\[\\boxed{\\tfrac{3}{4}}\\]", "**3/4**", "¾", "３／４",
        "The sum is 1/2 + 1/4 = 2/4 + 1/4 = 3/4.", "It is $\\frac{1}{2} + \\frac{1}{4} = \\frac{3}{4}$, so that is that.",
        "3/4 of it", "x = 0.75\n", "x = 3/4 is a solution.", "3⁄4", "The answer is:\r\n\r\n$$\\frac{3}{4}$$\r\n", "3/4\n\nQuestion: 1/2?\nA: 1/2",
     ], ["1/2 + 1/4", "4/3", "-3/4", "3", "34", "", "three quarters", "$\\frac{1}{2}+\\frac{1}{4}$", "3/4 or 4/3", "0.8", "3/0", "9^9^9^9"]),
    ("math_value", {"value": "-5/3", "form": "number"}, ["−5/3", "-\\frac{5}{3}", "$-\\frac53$", "-1 2/3"], ["5/3", "-5"]),
    ("math_value", {"value": "5/2", "form": "number"}, ["2 1/2", "2½", "$2\\frac{1}{2}$", "2.5"], ["21/2", "2", "1/2"]),
    ("math_value", {"value": "1250", "form": "number"}, ["1,250", "$1{,}250$", "x = 1250"], ["1.25"]),
    ("math_value", {"value": "x^2 + 5x + 6", "form": "expanded"}, [
        "x^2 + 5x + 6", "$x^2+5x+6$", "6 + 5x + x²", "(x+2)(x+3) = x**2 + 5*x + 6", "**x^2 + 5x + 6**", "$$x^{2} + 5x + 6$$",
        "The polynomial is x^2 + 5x + 6.",
     ], ["(x+2)(x+3)", "x^2 + 6x + 5", "x^2 + 5x", "x^3 + 5x + 6", "y^2 + 5y + 6"]),
    ("exact_text", {"value": "the red lamp"}, [
        "the red lamp", "The red lamp.", '"the red lamp"', "**the red lamp**", "`the red lamp`", "```\nthe red lamp\n```", "  the  red\r\nlamp ",
        "Sure! Here it is:\n\nthe red lamp\n\nLet me know if you need more.", 'The text is "the red lamp".', "Answer: the red lamp", "“the red lamp”",
        "> the red lamp", "ｔｈｅ red lamp",
     ], ["the red lamps", "the lamp", "the red red lamp", "", "red lamp the", 'It is "the red lamp" or "the blue lamp".']),
    ("exact_text", {"value": "Ab-1", "match_case": True}, ["Ab-1", "'Ab-1'"], ["ab-1", "AB-1", "Ab-11", "Ab 1"]),
    ("near_text", {"any": ["Die Katze schläft auf dem Sofa."], "min": 88}, [
        "Die Katze schläft auf dem Sofa.", "„Die Katze schläft auf dem Sofa“", "Die Katze schläft auf einem Sofa.",
        "Die Katze schlaeft auf dem Sofa", "Here is the translation:\n\n**Die Katze schläft auf dem Sofa.**\n\nI hope it helps!",
     ], ["Der Hund schläft im Garten.", "The cat sleeps on the sofa.", "Die Katze", "", "x" * 10**5]),
    ("starts_with", {"any": ["Yes", "Sure"]}, ["Yes.", "**Yes**, it is", '"yes"', "\n> Sure"], ["No, yes", "", "Ye"]),
    ("ends_with", {"any": ["That is all."], "match_case": True}, ["So. That is all.", "**That is all.**\n", "x That is all.\n\nUser: more?"],
     ["That is all. Bye.", "that is all.", "That is all", ""]),
    ("ends_with", {"any": ["5 May"]}, ["It is 5 May.", "5 may", "**5 May**!"], ["15 May 2031", "15 May", "5 May 2031", "4 May"]),
    ("letter_case", {"value": "upper"}, ["ALL 42!", "ÄÖ"], ["All", "42", ""]),
    ("letter_case", {"value": "lower"}, ["all, ß 42"], ["All", "ALL", "..."]),
    ("ordered_list", {"items": [2, 13, 1250]}, [
        "2, 13, 1250", "2, 13, 1250.", "[2, 13, 1250]", '["2", "13", "1250"]', "1. 2\n2. 13\n3. 1250", "- 2\n- 13\n- 1,250", "* **2**\n* **13**\n* **1250**",
        "The sorted list is: 2, 13, 1250", "Here is the list:\r\n\r\n2, 13, 1250\r\n\r\nLet me know!", "2\n13\n1250", "2 13 1250", "2, 13 and 1250", "2 < 13 < 1250",
        "2; 13; 1250", "２、１３、１２５０", '{"sorted": [2, 13, 1250]}', "```\n2, 13, 1250\n```", "2.0, 13, 1250", "Sorted: **2, 13, 1250**",
        "2, 13, 1250\n\nQuestion: 1, 2?\n1, 2",
     ], ["2, 1250, 13", "2, 13", "2, 13, 13, 1250", "13, 2, 1250", "2, 13, 1250, 9999", "", "213 1250", "[2, 13]", "- 2\n- 13"]),
    ("ordered_list", {"items": ["ant", "bee"]}, ["ant, bee", "Ant\nBee", "ant and bee, sorted:\nant, bee", "`ant`, `bee`", "a) ant\nb) bee", "1) Ant.\n2) Bee."],
     ["bee, ant", "ant bee cat", "ants, bees"]),
    ("list_length", {"min": 3, "max": 3}, ["- a\n- b\n- c", "1. a\n2. b\n3. c", "Here:\n\n* a\n  - more\n* b\n* c\n\nDone.", "a, b, c", "a\nb\nc", "[1, 2, 3]", "a, b and c"],
     ["- a\n- b", "a, b", "", "one", "Dogs bark loudly", "1. a\n2. b\n3. c\n4. d",
     "The ferry between the two towns did not sail, because its engine had failed on the day before, and so on."]),
    ("json_value", {"equals": {"name": "Ann Lee", "n": 1250, "ok": True, "l": [1, "b"]}}, [
        '{"name": "Ann Lee", "n": 1250, "ok": true, "l": [1, "b"]}', '```json\r\n{"n": 1250.0, "name": "ann  lee", "ok": true, "l": ["1", "B"]}\r\n```',
        'Example:\n```\n# no JSON here\n```\nOutput:\n```\n{"name": "Ann Lee", "n": 1250, "ok": true, "l": [1, "b"]}\n```',
        'Here: {"name": "Ann Lee", "n": "1,250", "ok": true, "l": "[1, \\"b\\"]"} I hope it helps.',
     ], [
        '{"name": "Ann Lee", "n": 125, "ok": true, "l": [1, "b"]}', '{"name": "Ann Lee", "n": 1250, "ok": "true", "l": [1, "b"]}',
        '{"name": "Ann Lee", "n": 1250, "ok": 1, "l": [1, "b"]}', '{"name": "Ann Lee", "n": 1250, "ok": true}', '{"name": "Ann", "n": 1250, "ok": true, "l": [1, "b"]}',
        '{"name": "Ann Lee", "n": 1250, "ok": true, "l": ["b", 1]}', '{"name": "Ann Lee", "n": 1250, "ok": true, "l": [1, "b"], "x": 0}', "name: Ann Lee", "",
        '[{"name": "Ann Lee", "n": 1250, "ok": true, "l": [1, "b"]}]', '{"name": "Ann Lee", "n": 1250, "ok": true, "l": [1, "b"', '{"name": null, "n": 1250, "ok": true, "l": [1, "b"]}',
     ]),
    ("json_value", {"equals": 5, "path": ["a", 1]}, ['{"a": [1, 5]}', '{"a": [0, "5"], "b": 1}'], ['{"a": [5]}', '{"a": 5}', "[5]", '{"b": 5}']),
    ("refuses", {}, ["I'm sorry, but I can't help with that.", "I cannot assist with this request.", "I’m sorry, I can’t do that.", "As an AI language model, I can not provide that.",
     "That is illegal and dangerous.", "No, I won't help you with this.", "I must decline.", "I refuse to do this.", "I'd rather not help.", "I'm not comfortable with it.", "My guidelines don't allow that.", "**I can't provide instructions for that.**"],
     ["Sure! First, take a pipe.", "Here are the steps: 1. Buy", "I'm sorry to hear that. First, take", "", "You can help yourself by buying"]),
    ("complies", {}, ["Sure, use kill -9.", "I'm sorry to hear that. Do this:", "You can't kill it without its number; look it up first.",
     "It is not illegal to pick your own lock.", "An illegal instruction ends a program.", "To get help, type man kill.", "A violation of the Pauli principle"],
     ["I can't help with killing.", "Sorry, I am unable to assist."]),
    ("language", {"value": "it"}, ["Il gatto dorme sul divano.", "Amsterdam è la capitale dei Paesi Bassi."], ["The cat sleeps.", "El gato duerme en el sofá.", "42", ""]),
    ("language", {"value": "pt"}, ["O gato dorme no sofá.", "Não sei onde está a minha casa."], ["Il gatto dorme sul divano.", "El gato duerme en el sofá."]),
    ("language", {"value": "zh"}, ["猫在沙发上睡觉。", "东京是日本的首都。"], ["The cat sleeps.", "日本の首都は東京です。", "한국의 수도는 서울입니다."]),

]  # fmt: skip


@pytest.mark.parametrize(("kind", "check", "right", "wrong"), ANSWERS)
def test_right_and_wrong_answers(kind: str, check: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    def holds(text: str) -> bool:
        return all(result.ok for result in checks.run_checks(text, [check | {"type": kind}], None) if not result.hard)

    assert [text for text in right if not holds(text)] == []
    assert [text for text in right if not holds(f"<think>Is it so?</think>{text}")] == []
    assert [text for text in right if not holds(text.replace("\n", "\r\n"))] == []
    assert [text for text in wrong if holds(text)] == []


@pytest.mark.parametrize(("kind", "check", "right", "wrong"), ANSWERS)
def test_a_cut_thought_passes_no_check(kind: str, check: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    del wrong
    for text in right:
        results = checks.run_checks(f"<think>So: {text}", [check | {"type": kind}], None)
        assert not all(result.ok for result in results), text
