"""The quality prompt file: one JSON object per line, validated before any server is asked."""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match

from quantbench.errors import QuantbenchError
from quantbench.quality.checks import CHECKS, LANGUAGES

Prompt = dict[str, Any]

_REQUIRED: dict[str, tuple[str, ...]] = {
    "contains": ("all", "any"),
    "not_contains": ("any",),
    "regex": ("pattern",),
    "exact_number": ("value",),
    "json_schema": ("schema",),
    "max_words": ("value",),
    "min_words": ("value",),
    "sentences": ("min", "max"),
    "language": ("value",),
    "math_value": ("value",),
    "exact_text": ("value",),
    "near_text": ("any",),
    "starts_with": ("any",),
    "ends_with": ("any",),
    "letter_case": ("value",),
    "ordered_list": ("items",),
    "list_length": ("min", "max"),
    "json_value": ("equals",),
    "python": ("tests",),
}
"""Of which keys a check needs one."""
_STRINGS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}


_VALUES: dict[str, dict[str, Any]] = {
    "language": {"type": "string", "enum": list(LANGUAGES)},
    "math_value": {"type": "string"},
    "exact_text": {"type": "string", "minLength": 1},
    "letter_case": {"type": "string", "enum": ["upper", "lower"]},
}
"""What `value` is, where it is no number."""


_ALSO: dict[str, dict[str, Any]] = {"near_text": {"required": ["min"]}}


def _needs(kind: str) -> dict[str, Any]:
    value = _VALUES.get(kind, {"type": "number"})
    needed = [{"required": [key]} for key in _REQUIRED[kind]]
    return {
        "if": {"properties": {"type": {"const": kind}}},
        "then": {"anyOf": needed, "properties": {"value": value}, **_ALSO.get(kind, {})},
    }


_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "additionalProperties": False,
    "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "class", "max_tokens", "checks"],
    "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": r"^[\w.-]{1,64}\Z"},
        "class": {"type": "string", "pattern": r"^\w{1,64}\Z"},
        "cluster": {"type": "string", "minLength": 1},
        "for_model": {"type": "string"},
        "language": {"type": "string"},
        "prompt": {"type": "string"},
        "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
        "max_tokens": {"type": "integer", "minimum": 1},
        "source": {"type": "string"},
        "level": {"type": "integer", "minimum": 1, "maximum": 5},
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "additionalProperties": False,
                "properties": {
                    "type": {"enum": sorted([*CHECKS, "python"])},
                    "all": _STRINGS,
                    "any": _STRINGS,
                    "tests": _STRINGS,
                    "pattern": {"type": "string", "format": "regex"},
                    "schema": {"type": "object"},
                    "function": {"type": "string"},
                    "items": {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1},
                    "path": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "equals": {},
                    "form": {"enum": ["number", "expanded"]},
                    "match_case": {"type": "boolean"},
                    "whole_words": {"type": "boolean"},
                    "ignore_case": {"type": "boolean"},
                    "value": {"type": ["number", "string"]},
                    "tolerance": {"type": "number", "minimum": 0},
                    "min": {"type": "integer", "minimum": 0},
                    "max": {"type": "integer", "minimum": 0},
                },
                "allOf": [_needs(kind) for kind in _REQUIRED],
            },
        },
    },
}
REMEDY = "config/README.md lists the fields and the checks under “Quality prompts”"
_VALIDATOR = Draft202012Validator(SCHEMA)


def parse(text: str, name: str) -> list[Prompt]:
    """Prompts in file order. `name` is the file as the user knows it, used in messages only.

    Raises QuantbenchError that names the line for bad JSON, an unknown check or key, a bad pattern or schema, or
    an id used twice.
    """
    return list(_parsed(text, name))


@lru_cache(maxsize=8)
def _parsed(text: str, name: str) -> tuple[Prompt, ...]:
    """Once per process: a plan looks at a file more than once, and each line takes a millisecond."""
    prompts: list[Prompt] = []
    # Not splitlines(): JSON may hold a raw U+2028 and other line ends inside a string.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            prompt = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise QuantbenchError(
                f"{name}, line {number}: not JSON ({error})", remedy="write one JSON object per line"
            ) from None
        problem = _problem(prompt) or _duplicate(prompt, prompts)
        if problem:
            raise QuantbenchError(f"{name}, line {number}: {problem}", remedy=REMEDY)
        prompts.append(prompt)
    if not prompts:
        raise QuantbenchError(f"{name}: no prompts", remedy="one JSON object per line: id, class, prompt, …")
    return tuple(prompts)


def chosen(prompts: Sequence[Prompt], limit: int | None, level: int | None = None) -> list[Prompt]:
    """As many prompts as `limit`, in file order, taken in turn from each class; all for None. None above `level`.

    A prompt without a level is below all. What a limit takes, a larger one takes too.
    """
    seen: Counter[str] = Counter()
    turns = []
    for place, prompt in enumerate(prompts):
        if level is not None and prompt.get("level", 0) > level:
            continue
        turns.append((seen[prompt["class"]], place))
        seen[prompt["class"]] += 1
    return [prompts[place] for place in sorted(place for _, place in sorted(turns)[:limit])]


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The conversation to send: `messages` as they are, or `prompt` as one user turn."""
    return prompt.get("messages") or [{"role": "user", "content": prompt["prompt"]}]


def shown(prompt: Prompt) -> str:
    """The prompt as one text for the tables: the only turn, or all turns with their roles."""
    turns = messages(prompt)
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _problem(prompt: object) -> str:
    error = best_match(_VALIDATOR.iter_errors(prompt))
    if error:
        where = ".".join(str(part) for part in error.absolute_path)
        return f"{where}: {_words(error)}" if where else _words(error)
    checks: list[dict[str, Any]] = prompt["checks"] if isinstance(prompt, dict) else []
    for check in checks:
        try:
            re.compile(check.get("pattern", ""))
            Draft202012Validator.check_schema(check.get("schema", {}))
        except re.error as bad:
            return f"pattern {check['pattern']!r}: {bad}"
        except SchemaError as bad:
            return f"schema: {bad.message}"
        for test in check.get("tests", ()):
            if problem := _test_problem(test):
                return f"test {test!r}: {problem}"
    return ""


def _test_problem(test: str) -> str:
    """Why a test cannot be judged from outside, where only arguments and values of `f` are known."""
    try:
        tree = ast.parse(test, mode="eval")
        compile(tree, "test", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as bad:
        return f"not an expression ({type(bad).__name__}: {bad}); write it as f(2) == 4, without `assert`"
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    if "f" not in used:
        return "it does not call f, so every answer would pass it"
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    if unknown := sorted(used - bound - {"f", "math"} - set(dir(builtins))):
        return f"{', '.join(unknown)}: only f, Python's builtins and math are known to a test"
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    handed = [part for c in calls if isinstance(c.func, ast.Name) and c.func.id == "f" for part in ast.walk(c)]
    if any(isinstance(part, ast.Lambda) for part in handed):
        return "a lambda cannot be handed to f: arguments and values are plain data"
    return ""


def _words(error: ValidationError) -> str:
    """What is missing, where the library would print the whole line instead."""
    wanted: Any = error.validator_value
    if error.validator in ("anyOf", "oneOf"):
        keys = " or ".join(f"`{need['required'][0]}`" for need in wanted)
        kind = error.instance.get("type") if isinstance(error.instance, dict) else None
        given = "" if error.validator == "anyOf" else ", and not both"
        return f"{f'a check of type {kind}' if kind else 'the prompt'} needs {keys}{given}"
    return error.message


def _duplicate(prompt: Prompt, before: Sequence[Prompt]) -> str:
    return f"id {prompt['id']!r} is used twice" if any(p["id"] == prompt["id"] for p in before) else ""
