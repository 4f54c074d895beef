"""The configuration reference as Markdown, made from the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def reference(schema: Mapping[str, Any]) -> str:
    """One table row per key: dotted key, type, default, description."""
    head = "| key | type | default | meaning |\n|---|---|---|---|\n"
    return head + "\n".join(
        f"| `{key}` | {_kind(node)} | {_default(node)} | {' '.join(str(node['description']).split())} |"
        for key, node in _keys(schema, "")
    )


def _keys(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, node in schema.get("properties", {}).items():
        yield f"{prefix}{key}", node
        if not node.get("x-no-defaults"):
            yield from _keys(node, f"{prefix}{key}.")
            if isinstance(node.get("additionalProperties"), Mapping):
                yield from _keys(node["additionalProperties"], f"{prefix}{key}.*.")


def _kind(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return ", ".join("null" if value is None else str(value) for value in node["enum"])
    kinds = node.get("type", "any")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _default(node: Mapping[str, Any]) -> str:
    if "default" not in node:
        return ""
    value = node["default"]
    if value == {}:
        return ""
    return (
        f"`{value}`"
        if not isinstance(value, bool) and value is not None
        else f"`{str(value).lower()}`".replace("none", "null")
    )
