"""JSON Schema with defaults, and messages that name the key."""

from __future__ import annotations

import copy
import datetime
import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Union

import msgspec
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from quantbench.errors import QuantbenchError

Json = dict[str, Any]

_SWITCHES: Final = {"on": True, "yes": True, "off": False, "no": False}
"""What YAML takes for booleans, and `--config` delivers as text."""
_TYPES: Final[dict[str, Any]] = {"integer": int, "number": int | float, "boolean": bool, "null": None}
_FORMATS = FormatChecker(formats=["date"])


def deep_merge(*layers: Mapping[str, Any]) -> Json:
    """Merge nested mappings, later layers win; lists and scalars are replaced. Inputs stay unchanged."""
    merged: Json = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
                merged[key] = deep_merge(merged[key], value)
            else:
                merged[key] = copy.deepcopy(dict(value)) if isinstance(value, Mapping) else copy.deepcopy(value)
    return merged


def completed(value: Any, schema: Mapping[str, Any]) -> Any:
    """`value` with scalars read as the schema wants them and its defaults filled in, in the schema's key order."""
    if isinstance(value, Mapping):
        properties, further = schema.get("properties", {}), schema.get("additionalProperties")
        other = further if isinstance(further, Mapping) else {}
        filled = {}
        for key, sub in properties.items():
            if key in value or ("default" in sub and not schema.get("x-no-defaults")):
                filled[key] = completed(value[key] if key in value else copy.deepcopy(sub["default"]), sub)
        return filled | {key: completed(item, other) for key, item in value.items() if key not in properties}
    if isinstance(value, list):
        return [completed(item, schema.get("items", {})) for item in value]
    return _scalar(value, schema)


def _scalar(value: Any, schema: Mapping[str, Any]) -> Any:
    """One scalar as the schema wants it.

    `--config` delivers text: "4" becomes 4, "true" true, and "null" null where null is allowed. YAML makes a date of
    2026-11-01 and a boolean of a bare no: they become text again where text is wanted.
    """
    kinds, choices = schema.get("type", []), schema.get("enum", ())
    kinds, text = [kinds] if isinstance(kinds, str) else kinds, str(value).lower()
    if isinstance(value, datetime.date) and "string" in kinds:
        return value.isoformat()
    if "yes" in choices and text in ("true", "false"):
        return "yes" if text == "true" else "no"
    if not isinstance(value, str):
        return value
    if text == "null" and ("null" in kinds or None in choices):
        return None
    wanted = [_TYPES[kind] for kind in kinds if kind in _TYPES]
    if "string" in kinds or not wanted:
        return value
    if "boolean" in kinds and text in _SWITCHES:
        return _SWITCHES[text]
    try:
        return msgspec.convert("null" if text == "none" else value, Union[tuple(wanted)], strict=False)  # noqa: UP007
    except msgspec.ValidationError:
        return value


def validate(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Json:
    """Return the config with defaults; raise QuantbenchError with one line per fault that names the key."""
    if odd := list(_beyond_json(config)):
        raise QuantbenchError(f"config: {'; '.join(odd)}", remedy="correct these keys")
    filled: Json = completed(config, schema)
    faults = sorted(
        Draft202012Validator(schema, format_checker=_FORMATS).iter_errors(filled), key=lambda e: list(map(str, e.path))
    )
    if faults:
        lines = "; ".join(_explain(fault) for fault in faults)
        raise QuantbenchError(f"config: {lines}", remedy="see config/README.md for every key")
    return filled


def _beyond_json(value: Any, where: str = "") -> Iterator[str]:
    """What YAML can say and JSON Schema does not see: names that are no texts, numbers that are none."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{where}: {value} is not a number to reckon with"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{where or 'top level'}: YAML reads the name {key!r} as {type(key).__name__}; write it in quotes"
            yield from _beyond_json(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _beyond_json(item, f"{where}.{number}")


def _explain(fault: ValidationError) -> str:
    wanted: Any = fault.validator_value
    where = ".".join(str(part) for part in fault.absolute_path)
    at = f"{where}: " if where else ""
    if fault.validator == "additionalProperties" and isinstance(fault.instance, Mapping):
        rules: Any = fault.schema
        known = list(rules.get("properties", {}))
        unknown = [str(key) for key in fault.instance if key not in known]
        before = f"{where}." if where else ""
        return ", ".join(f"unknown key '{before}{key}'{_instead(key, known)}" for key in unknown)
    if fault.validator == "required" and isinstance(fault.instance, Mapping):
        missing = [key for key in wanted if key not in fault.instance]
        return f"{at}missing key{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}"
    if fault.validator == "type":
        kinds = wanted if isinstance(wanted, str) else " or ".join(wanted)
        return f"{at}wants {kinds}, got {_shown(fault.instance)}"
    if fault.validator == "enum":
        words = ["null" if value is None else str(value) for value in wanted]
        return f"{at}{_shown(fault.instance)} is not one of {', '.join(words)}{_hint(str(fault.instance), words)}"
    if fault.validator == "pattern" and isinstance(fault.schema, Mapping) and "x-says" in fault.schema:
        return f"{at}{_shown(fault.instance)} is not allowed; write {fault.schema['x-says']}"
    if fault.validator == "format":
        return f"{at}{_shown(fault.instance)} is not a date; write it like 2026-11-01"
    if fault.validator in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        sign = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}[fault.validator]
        return f"{at}{_shown(fault.instance)} must be {sign} {wanted}"
    return f"{at}{fault.message}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hint(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _instead(key: str, known: list[str]) -> str:
    """What may have been meant by an unknown key."""
    if key.partition(":")[0] in known:
        return " (a space is missing behind the colon)"
    if hint := _hint(key, known):
        return hint
    return f" (known: {', '.join(known)})" if known else ""
