"""The quality prompt file: one JSON object per line, validated before any server is asked."""

from __future__ import annotations

import ast
import builtins
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from quantbench.errors import QuantbenchError
from quantbench.quality import readings, symbolic
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
_BARE = ("near_text", "starts_with", "ends_with")
"""Checks that look at the bare text of their `any`."""
_STRINGS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}


_VALUES: dict[str, dict[str, Any]] = {
    "language": {"type": "string", "enum": list(LANGUAGES)},
    "math_value": {"type": "string"},
    "exact_text": {"type": "string", "minLength": 1},
    "letter_case": {"type": "string", "enum": ["upper", "lower"]},
}
"""What `value` is, where it is no number."""


_ALSO: dict[str, dict[str, Any]] = {"near_text": {"required": ["min"], "properties": {"min": {"maximum": 100}}}}


def _needs(kind: str) -> dict[str, Any]:
    """The schema of a check of this type, beside that of every check."""
    value = {"properties": {"value": _VALUES.get(kind, {"type": "number"})}}
    needed = [{"required": [key]} for key in _REQUIRED[kind]]
    return {"allOf": [value, {"anyOf": needed}, _ALSO.get(kind, {})]}


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
            },
        },
    },
}
REMEDY = "config/README.md lists the fields and the checks under “Quality prompts”"
_VALIDATOR = Draft202012Validator(SCHEMA)
_OF_KIND = {kind: Draft202012Validator(_needs(kind)) for kind in _REQUIRED}


def parse(text: str, name: str) -> list[Prompt]:
    """Prompts in file order. `name` is the file as the user knows it, used in messages only.

    Raises QuantbenchError that names the line for bad JSON, an unknown check or key, a bad pattern or schema, or
    an id used twice.
    """
    return list(_parsed(text, name))


@lru_cache(maxsize=8)
def _parsed(text: str, name: str) -> tuple[Prompt, ...]:
    """Once per process: a plan looks at a file more than once, and each line takes a millisecond."""
    prompts: dict[str, Prompt] = {}
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
        problem = _problem(prompt) or (f"id {prompt['id']!r} is used twice" if prompt["id"] in prompts else "")
        if problem:
            raise QuantbenchError(f"{name}, line {number}: {problem}", remedy=REMEDY)
        prompts[prompt["id"]] = prompt
    if not prompts:
        raise QuantbenchError(f"{name}: no prompts", remedy="one JSON object per line: id, class, prompt, …")
    return tuple(prompts.values())


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
    if error := best_match(_VALIDATOR.iter_errors(prompt)):
        return _said(error, ())
    checks: list[dict[str, Any]] = prompt["checks"] if isinstance(prompt, dict) else []
    for number, check in enumerate(checks):
        of_kind = _OF_KIND.get(check["type"])
        if of_kind and (error := best_match(of_kind.iter_errors(check))):
            return _said(error, ("checks", number))
    return next(filter(None, map(_check_problem, checks)), "")


def _said(error: ValidationError, above: tuple[str | int, ...]) -> str:
    where = ".".join(str(part) for part in (*above, *error.absolute_path))
    return f"{where}: {_words(error)}" if where else _words(error)


def _check_problem(check: dict[str, Any]) -> str:
    """Why no answer, or every one, would pass a check, or it cannot be run."""
    try:
        re.compile(check.get("pattern", ""))
    except re.error as bad:
        return f"pattern {check['pattern']!r}: {bad}"
    if "schema" in check:
        try:
            Draft202012Validator.check_schema(check["schema"])
        except SchemaError as bad:
            return f"schema: {bad.message}"
        if absent := next(_unresolved(check["schema"]), None):
            return f"schema: $ref {absent!r} is not in the schema itself, and none is fetched"
    for test in check.get("tests", ()):
        if problem := _test_problem(test):
            return f"test {test!r}: {problem}"
    if check.get("min", 0) > check.get("max", math.inf):
        return f"min {check['min']} is above max {check['max']}: no answer would pass"
    kind = check["type"]
    if kind == "math_value" and not symbolic.readable(check["value"]):
        return f"value {check['value']!r}: no answer is found equal to it; write a number, a root or a polynomial"
    texts = [check["value"]] if kind == "exact_text" else check.get("any", []) if kind in _BARE else []
    if undressed := next((text for text in texts if not readings.bare(text)), None):
        return f"{undressed!r} is nothing but quotes, spaces or Markdown's marks, which {kind} passes over; use regex"
    return ""


def _unresolved(schema: Any) -> Iterator[str]:
    """References that lead nowhere in the schema."""
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    parts = [schema]
    while parts:
        part = parts.pop()
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        ref = part.get("$ref") if isinstance(part, dict) else None
        if not isinstance(ref, str):
            continue
        try:
            resolver.lookup(ref)
        except Unresolvable:
            yield ref


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
