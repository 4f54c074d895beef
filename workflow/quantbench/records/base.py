"""The base of every typed file, and how one is read and written.

msgspec and not pydantic: it coerces nothing (a "5" is no 5), names the key of a fault (`$.metrics.n`), reads 10 000
blocks in a second, and a record is as plain as a dataclass to mypy.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quantbench.errors import QuantbenchError
from quantbench.files import damaged, write_bytes

Number = int | float
Row = dict[str, Any]
"""One row of a CSV, as polars reads it."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping in a result file. Keys are those on disk, in their order; None is what nobody could tell."""

    def as_dict(self) -> dict[str, Any]:
        """The record as plain dicts and lists."""
        return dict(msgspec.to_builtins(self, enc_hook=_encode))


class OpenRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A record of which only some keys are ours to know; others are passed over."""


T = TypeVar("T")


def read(path: Path | str, kind: type[T]) -> T:
    """One JSON file as `kind`. Raises QuantbenchError naming the file and the key that is unknown or of another type.

    Keys that earlier versions wrote and nobody needs (`retired` of the record) are passed over. FileNotFoundError or
    NotADirectoryError if there is no such file.
    """
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    return parse(content, kind, path)


def unreadable(path: Path | str, error: OSError) -> QuantbenchError:
    """The error for a file that is there and cannot be read."""
    return QuantbenchError(
        f"{path} cannot be read: {error.strerror or error}",
        remedy="make it a file that you may read, or move it away; then run the same command again",
    )


def parse(content: bytes, kind: type[T], name: Path | str) -> T:
    """JSON text as `kind`; `name` is what an error calls it."""
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise damaged(name, str(error)) from None
    try:
        return convert(value, kind)
    except msgspec.ValidationError as error:
        raise damaged(name, _with_key(str(error), value, kind)) from None


def convert(value: Any, kind: type[T]) -> T:
    """Plain dicts and lists as `kind`. Raises msgspec.ValidationError naming the key."""
    return msgspec.convert(_without_retired(value, kind), kind, dec_hook=_decode)


def write(path: Path | str, value: Any) -> None:
    """Write one record (or a list or mapping of them) as indented UTF-8 JSON, atomically; NaN becomes null."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value, enc_hook=_encode), indent=2) + b"\n")


def line(value: Any) -> bytes:
    """One record as a line of a JSON-lines file."""
    return msgspec.json.encode(value, enc_hook=_encode) + b"\n"


def _with_key(fault: str, value: Any, kind: Any) -> str:
    """The fault with the key of a mapping at which it lies, where msgspec says `[...]`: the one that alone has it."""
    place = re.search(r"`\$([^`]*?)\[\.\.\.\]", fault)
    if not place:
        return fault
    node = value
    with contextlib.suppress(LookupError, TypeError):  # the place of what `from_json` reads is told from there
        for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", place[1]):
            node = node[name or int(index)]
    for key, entry in list(node.items()) if isinstance(node, dict) else ():
        whole, alone = dict(node), {key: entry}
        node.clear()
        node.update(alone)
        try:
            convert(value, kind)
        except msgspec.ValidationError as error:
            if str(error) == fault:
                return fault.replace("[...]", f"[{key!r}]", 1)
        node.clear()
        node.update(whole)
    return fault


def _without_retired(value: Any, kind: Any) -> Any:
    retired: tuple[str, ...] = getattr(kind, "retired", ())
    if not retired or not isinstance(value, dict):
        return value
    for dotted in retired:
        *parents, key = dotted.split(".")
        node: Any = value
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(key, None)
    return value


def _encode(value: Any) -> Any:
    if hasattr(value, "as_json"):
        return value.as_json()
    if hasattr(value, "item"):  # a number of numpy's
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} is no part of a result file")


def _decode(kind: Any, value: Any) -> Any:
    if hasattr(kind, "from_json"):
        return kind.from_json(value)
    raise NotImplementedError(f"{kind} is no part of a result file")
