"""JSON that is not as it was: another shape, another type, keys gone or new, huge, deep, cut or no JSON at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**400, 1e308, "", "x", "1", "../..", "\x00", "\u202e", [], [1], [None], {}, {"a": {}},
)  # fmt: skip
TEXTS = (
    b"",
    b"[]",
    b"{}",
    b"null",
    b"NaN",
    b'{"one": null}',
    b"1e999",
    b"\xff",
    b'"\\ud800"',
    b"[" * 5000,
    b'{"a":' * 5000,
)


def damaged_json(value: Any) -> st.SearchStrategy[bytes]:
    """The text of a value after one to three changes, cut, or something else altogether."""
    whole = json.dumps(value).encode()
    cut = st.integers(0, len(whole) - 1).map(lambda end: whole[:end])
    return st.one_of(_changed(value), cut, st.sampled_from(TEXTS))


@st.composite
def _changed(draw: st.DrawFn, value: Any) -> bytes:
    root = {"": copy.deepcopy(value)}
    for _ in range(draw(st.integers(1, 3))):
        node, key = draw(st.sampled_from(list(_places(root))))
        how = draw(st.sampled_from(["junk", "junk", "gone", "new"]))
        if how == "gone" and node is not root:
            del node[key]
        elif how == "new" and isinstance(node[key], dict):
            node[key]["strange"] = 1
        else:
            node[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
    return json.dumps(root[""]).encode()


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])
