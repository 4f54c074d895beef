"""A prompt set as a file: JSON lines, one object with `prompt`, `text` or `messages` each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from quantbench.errors import QuantbenchError

_KINDS = ("prompt", "text", "messages")


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The entries, each with an `id` (its line number if it has none). Raises QuantbenchError naming file and line."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise QuantbenchError(f"cannot read prompts {path}: {error.strerror}", remedy="correct the path") from error
    prompts = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise QuantbenchError(f"{path} holds no prompt", remedy='write {"prompt": "…"} on each line')
    return prompts


def _entry(path: Path, number: int, line: bytes) -> dict[str, Any]:
    place = f"{path}, line {number}"
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise QuantbenchError(f"{place} is not JSON: {error}", remedy="write one JSON object per line") from error
    if not isinstance(entry, dict) or not set(_KINDS) & set(entry):
        raise QuantbenchError(f"{place} needs one of {', '.join(_KINDS)}", remedy='write {"prompt": "…"} on each line')
    return {"id": str(number), **entry}
