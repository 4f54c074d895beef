"""JSON Schema with defaults, and messages that name the key and say what to write."""

from __future__ import annotations

import copy
import datetime
import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Union

import msgspec

from quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Json = dict[str, Any]

_SWITCHES: Final = {"on": True, "yes": True, "off": False, "no": False}
"""What YAML takes for booleans, and `--config` delivers as text."""
_OFF: Final = ("off", "no", "false", "none", "null")
_PERCENT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


class Fault(NamedTuple):
    """What is wrong, with its key, and what to do about it."""

    what: str
    remedy: str


_TYPES: Final[dict[str, Any]] = {"integer": int, "number": int | float, "boolean": bool, "null": None}
_NO_TEXT: Final = "has a character that no file and no program takes"


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


def filled(config: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[Json, list[Fault]]:
    """The config with defaults, and what is wrong with it, by key."""
    if odd := list(_beyond_json(config)):
        return {}, odd
    whole: Json = completed(config, schema)
    return whole, faults_of(whole, schema)


def faults_of(value: Any, schema: Mapping[str, Any]) -> list[Fault]:
    """Where a value does not meet a schema."""
    from jsonschema import Draft202012Validator, FormatChecker  # here, as a job needs none of it, and there are many

    found = Draft202012Validator(schema, format_checker=FormatChecker(formats=["date"])).iter_errors(value)
    return [_explain(fault, schema) for fault in sorted(found, key=lambda fault: list(map(str, fault.path)))]


def raise_for(faults: Iterable[Fault], of: str = "config") -> None:
    """Raise QuantbenchError with all faults `of` a file in one line, and all remedies in one; nothing for none."""
    if faults := list(faults):
        whats, remedies = (dict.fromkeys(words) for words in zip(*faults, strict=True))
        raise QuantbenchError(f"{of}: {'; '.join(whats)}", remedy="; ".join(remedies))


def hint(word: str, known: Iterable[str]) -> str:
    """The known word that may have been meant, in brackets with a space before; empty if none is near."""
    known = sorted(known)
    begun = [name for name in known if len(word) > 2 and name.startswith(word)]
    near = begun or difflib.get_close_matches(word, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _beyond_json(value: Any, where: str = "") -> Iterator[Fault]:
    """What YAML can say and JSON Schema does not see: names that are no texts, numbers that are none."""
    if isinstance(value, float) and not math.isfinite(value):
        yield Fault(f"{where}: {value} is not a number to reckon with", f"write {where} as a finite number")
    elif isinstance(value, str) and not _is_text(value):
        yield Fault(f"{where}: {_shown(value)} {_NO_TEXT}", f"correct {where}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                what = f"{where or 'top level'}: YAML reads the name {key!r} as {type(key).__name__}"
                yield Fault(what, f"write it in quotes: {_in_quotes(key)}")
            elif not _is_text(key):
                yield Fault(f"{where or 'top level'}: the name {_shown(key)} {_NO_TEXT}", "correct that name")
            yield from _beyond_json(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _beyond_json(item, f"{where}.{number}")


def _in_quotes(value: Any) -> str:
    """A text that YAML reads as something else, as it is to be written; a boolean has several names."""
    if isinstance(value, bool):
        return " or ".join(
            f'"{word}"' for word in (*(w for w in _SWITCHES if _SWITCHES[w] is value), json.dumps(value))
        )
    return f'"{"null" if value is None else value}"'


def _is_text(value: str) -> bool:
    """No NUL, which ends a text for every program, and no half of a surrogate pair, which UTF-8 cannot write."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _explain(fault: ValidationError, root: Mapping[str, Any]) -> Fault:
    wanted: Any = fault.validator_value
    rules: Any = fault.schema
    value: Any = fault.instance
    where = ".".join(str(part) for part in fault.absolute_path)
    at = f"{where}: " if where else ""
    match fault.validator:
        case "additionalProperties":
            known = list(rules.get("properties", {}))
            unknown = [str(key) for key in value if key not in known]
            before = f"{where}." if where else ""
            words = ", ".join(f"unknown key '{before}{key}'{_instead(key, known, root)}" for key in unknown)
            return Fault(words, f"correct or remove {', '.join(before + key for key in unknown)}")
        case "required":
            missing = [key for key in wanted if key not in value]
            words = f"{at}missing key{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}"
            return Fault(words, f"add {', '.join(f'{where}.{key}' if where else key for key in missing)}")
        case "type":
            kinds = wanted if isinstance(wanted, str) else " or ".join(wanted)
            words, other = f"{at}wants {kinds}, got {_shown(value)}", _for_this_value(where, value, root)
            if other:
                return Fault(f"{words} (did you mean '{other}'?)", f"write {other}: {value}")
            return Fault(words, _how_to_write(where, value, rules))
        case "enum":
            choices = ["null" if choice is None else str(choice) for choice in wanted]
            words = f"{at}{_shown(value)} is not one of {', '.join(choices)}{hint(str(value), choices)}"
            return Fault(words, f"write one of them for {where}")
        case "pattern" if "x-says" in rules:
            words = f"{at}{_shown(value)} is not allowed; write {rules['x-says']}"
            name = "propertyNames" in fault.absolute_schema_path
            return Fault(words, f"rename {_shown(value)} in {where}" if name else f"correct {where}, or leave it out")
        case "format":
            words = f"{at}{_shown(value)} is not a date; write it like 2026-11-01"
            return Fault(words, f"write {where} like 2026-11-01, in quotes on a command line")
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            sign = _SIGNS[fault.validator]
            return Fault(f"{at}{_shown(value)} must be {sign} {wanted}", f"write a number {sign} {wanted} for {where}")
        case "uniqueItems":
            return Fault(f"{at}{_shown(value)} names one thing twice", f"write each once in {where}")
        case "minItems" | "minProperties":
            return Fault(f"{at}{_shown(value)} is empty", f"write at least one into {where}, or leave the key out")
        case "multipleOf":
            return Fault(f"{at}{_shown(value)} is not a multiple of {wanted}", f"write a multiple of it for {where}")
    return Fault(f"{at}{fault.message[:200]}", f"correct {where}")


def _how_to_write(where: str, value: Any, rules: Mapping[str, Any]) -> str:
    """What to write in place of a value of another type; as far as can be guessed, with this very value."""
    kinds = rules.get("type", [])
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if kind == "array":
        parts = value.split(",") if isinstance(value, str) else [value]
        items = [_scalar(part.strip() if isinstance(part, str) else part, rules.get("items", {})) for part in parts]
        return f"write {where}: {json.dumps(items, default=str)}"
    if kind == "object" and "x-off" in rules and (value is None or str(value).lower() in _OFF):
        return f"write {where}: {rules['x-off']}"
    if kind == "object":
        takes = (key for key, sub in rules.get("properties", {}).items() if _accepts(sub, value))
        inner = next(takes, None) if value is not None and not isinstance(value, bool) else None
        named = f"{{{inner}: {value}}}" if inner else _keys_of(rules)
        return f"write {where}: {named}"
    if "string" in kinds and isinstance(value, bool):
        return f"write {where} in quotes, as it was meant: {_in_quotes(value)}"
    if kind == "number" and isinstance(value, str) and (share := _PERCENT.fullmatch(value)):
        return f"write {where}: {float(share[1]) / 100:g}"
    return f"write {' or '.join([_KINDS[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)])} for {where}"


_KINDS = {
    "integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null", "string": "a text",
    "array": "a list such as [1, 2]", "object": "keys of its own",
}  # fmt: skip


def _keys_of(rules: Mapping[str, Any]) -> str:
    names = list(rules.get("properties", {}))
    return f"{{key: value}} with keys of {', '.join(names)}" if names else "{name: value}, or leave it out"


def _accepts(schema: Mapping[str, Any], value: Any) -> bool:
    return not faults_of(completed(value, schema), schema)


def _for_this_value(key: str, value: Any, root: Mapping[str, Any]) -> str:
    """Another top-level key of nearly this name that takes the value: `block=8` was meant to be `blocks=8`."""
    top = root.get("properties", {})
    near = difflib.get_close_matches(key, [name for name in top if name != key]) if key in top else []
    return next((name for name in near if _accepts(top[name], value)), "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _instead(key: str, known: list[str], root: Mapping[str, Any]) -> str:
    """What may have been meant by an unknown key."""
    if key.partition(":")[0] in known:
        return " (a space is missing behind the colon)"
    if near := hint(key, known):
        return near
    if elsewhere := [path for path in _key_paths(root) if path.endswith(f".{key}")]:
        return f" (it belongs elsewhere: {', '.join(elsewhere[:3])})"
    return f" (known: {', '.join(known)})" if known else ""


def _key_paths(schema: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, sub in schema.get("properties", {}).items():
        yield before + key
        yield from _key_paths(sub, f"{before}{key}.")
    if isinstance(further := schema.get("additionalProperties"), Mapping):
        yield from _key_paths(further, f"{before}*.")
