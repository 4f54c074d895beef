"""Atomic files: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on an error it is removed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_script(path: Path | str, text: str) -> None:
    """Write an executable text file atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
        part.chmod(0o755)


def write_json(path: Path | str, value: Any) -> None:
    """Write indented UTF-8 JSON atomically; keys keep their order, NaN becomes null."""
    with atomic(path) as part:
        part.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def read_json(path: Path | str) -> Any:
    """Read one JSON file."""
    return orjson.loads(Path(path).read_bytes())
