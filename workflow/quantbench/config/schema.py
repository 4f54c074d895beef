"""JSON Schema with defaults, and messages that name the key."""

from __future__ import annotations

import copy
import datetime
import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from quantbench.errors import QuantbenchError

Json = dict[str, Any]

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


def fill_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return `value` with the schema's defaults filled in, at every depth, in the schema's key order."""
    if not isinstance(value, Mapping):
        return value
    properties: Mapping[str, Any] = schema.get("properties", {})
    further = schema.get("additionalProperties")
    filled: Json = {}
    for key, sub in properties.items():
        if key in value:
            filled[key] = fill_defaults(value[key], sub)
        elif "default" in sub and not schema.get("x-no-defaults"):
            filled[key] = fill_defaults(copy.deepcopy(sub["default"]), sub)
    for key, item in value.items():
        if key not in properties:
            filled[key] = fill_defaults(item, further) if isinstance(further, Mapping) else item
    return filled


def values_from_text(value: Any, schema: Mapping[str, Any]) -> Any:
    """Read scalars as the schema wants them.

    `--config` delivers text: "4" becomes 4, "true" true, and "null" null where null is allowed. YAML makes a date of
    2026-11-01 and a boolean of a bare no: they become text again where text is wanted.
    """
    if isinstance(value, Mapping):
        further = schema.get("additionalProperties")
        properties = schema.get("properties", {})
        return {
            key: values_from_text(item, properties.get(key, further if isinstance(further, Mapping) else {}))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [values_from_text(item, schema.get("items", {})) for item in value]
    if isinstance(value, str):
        return _from_text(value, schema)
    if isinstance(value, datetime.date) and "string" in _kinds(schema):
        return value.isoformat()
    if isinstance(value, bool) and "yes" in schema.get("enum", ()):
        return "yes" if value else "no"
    return value


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _from_text(text: str, schema: Mapping[str, Any]) -> Any:
    kinds, choices = _kinds(schema), schema.get("enum", ())
    if text.lower() == "null" and ("null" in kinds or None in choices):
        return None
    if "yes" in choices and text.lower() in ("true", "false"):
        return "yes" if text.lower() == "true" else "no"
    return _scalar(text, kinds) if kinds and "string" not in kinds else text


def _scalar(text: str, kinds: list[str]) -> Any:
    if text.lower() in ("true", "false") and "boolean" in kinds:
        return text.lower() == "true"
    if text.lower() in ("null", "none") and "null" in kinds:
        return None
    for kind, convert in (("integer", int), ("number", int), ("number", float)):
        if kind in kinds:
            try:
                return convert(text)
            except (ValueError, OverflowError):
                continue
    return text


def validate(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Json:
    """Return the config with defaults; raise QuantbenchError with one line per fault that names the key."""
    if odd := list(_beyond_json(config)):
        raise QuantbenchError(f"config: {'; '.join(odd)}", remedy="correct these keys")
    filled: Json = fill_defaults(values_from_text(config, schema), schema)
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
