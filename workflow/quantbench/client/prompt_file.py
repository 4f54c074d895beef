"""A prompt set as a file: JSON lines, one object with `prompt`, `text` or `messages` each."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any, Final

import orjson

from quantbench.errors import QuantbenchError

_KINDS = ("prompt", "text", "messages")


_NO_TEXT: Final = {
    b"\x1f\x8b": "compressed by gzip", b"\x28\xb5\x2f\xfd": "compressed by zstd", b"PK\x03\x04": "a zip archive",
    b"PAR1": "a parquet file", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip
"""What a file is that begins so."""
_TURNS: Final = '{"messages": [{"role": "user", "content": "…"}]}'


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The entries, each with an `id` (its line number if it has none). Raises QuantbenchError naming file and line."""
    lines = content_of(path).splitlines()
    prompts = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise QuantbenchError(f"{path} holds no prompt", remedy='write {"prompt": "…"} on each line')
    return prompts


def content_of(path: Path) -> bytes:
    """A file of prompts as UTF-8, without a byte order mark.

    Raises QuantbenchError for what cannot be read, is no UTF-8, or has the prompts in a format of others.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise QuantbenchError(f"cannot read prompts {path}: {error.strerror}", remedy="correct the path") from error
    if why := _no_text(content):
        raise QuantbenchError(f"{path} is not UTF-8 text{why}", remedy="save it as UTF-8 text")
    if form := _foreign(_first(content)):
        raise QuantbenchError(f"{path} holds {form[0]}", remedy=f"write {form[1]}")
    return content


def _no_text(content: bytes) -> str:
    """What it is in place of UTF-8, as the end of a sentence; empty for UTF-8."""
    if found := next((words for begin, words in _NO_TEXT.items() if content.startswith(begin)), ""):
        return f", but {found}"
    if b"\0" in content[:4]:
        return ", but UTF-16 or UTF-32"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f": line {line} has a byte 0x{content[error.start]:02x}, as Latin-1 has them"
    return ""


def _first(content: bytes) -> Any:
    """The value on the first line, or all of the content if it is one value on several lines; None for neither."""
    for text in (content.lstrip().partition(b"\n")[0], content):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
    return None


def _foreign(value: Any) -> tuple[str, str] | None:
    """In which format of others the prompts are, and what to write instead; None for none that is known."""
    match value:
        case [first, *_] if form := _foreign(first):
            return f"{form[0]} in one JSON array", f"one object a line, and in it {form[1]}"
        case [*_]:
            return "one JSON array", 'one object a line, such as {"prompt": "…"} (jq -c ".[]" makes lines of an array)'
        case {"conversations": [*_]} if "messages" not in value:
            return "conversations of ShareGPT (`conversations`)", f"their turns as `messages`: {_TURNS}"
        case {"body": {"messages": [*_]}} if "messages" not in value:
            return "requests of OpenAI's batch API (`body.messages`)", f"`messages` of each body alone: {_TURNS}"
    return None


def _entry(path: Path, number: int, line: bytes) -> dict[str, Any]:
    place = f"{path}, line {number}"
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise QuantbenchError(f"{place} is not JSON: {error}", remedy="write one JSON object per line") from error
    if not isinstance(entry, dict) or not set(_KINDS) & set(entry):
        raise QuantbenchError(f"{place} needs one of {', '.join(_KINDS)}", remedy='write {"prompt": "…"} on each line')
    return {"id": str(number), **entry}
