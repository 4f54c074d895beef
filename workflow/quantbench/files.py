"""Atomic files: a reader sees the old file or the new one, never half of one.

Modes: whatever belongs to a result is as open as the umask allows (0666, scripts 0777, folders 0777, each less the
umask). What may hold the environment of a server is for its user alone under any umask: folders of servers in the state
folder (0700), and logs of servers (0600, `private`), as nobody knows what a server prints.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from quantbench.errors import QuantbenchError


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on an error it is removed.

    Raises QuantbenchError naming the file if it cannot be written: no room, no right, a read-only disk.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> QuantbenchError:
    """The error for a file or folder that cannot be written."""
    return QuantbenchError(
        f"{path} cannot be written: {error.strerror or error}",
        remedy="make room on that disk, or make the folder writable for you; then run the same command again",
    )


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic(path) as part:
        part.write_bytes(content)


def write_script(path: Path | str, text: str) -> None:
    """Write an executable text file atomically."""
    with atomic(path) as part:
        part.touch(mode=0o777)
        part.write_bytes(os.fsencode(text))  # paths in it may be no UTF-8


def write_json(path: Path | str, value: Any) -> None:
    """Write indented UTF-8 JSON atomically; keys keep their order, NaN becomes null."""
    with atomic(path) as part:
        part.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def read_json(path: Path | str, *keys: str) -> Any:
    """Read one JSON file; with `keys`, an object that has all of them.

    Raises QuantbenchError naming the file if it holds anything else, OSError if it cannot be read.
    """
    try:
        value = orjson.loads(Path(path).read_bytes())
    except orjson.JSONDecodeError as error:
        raise damaged(path, f"not JSON: {error}") from None
    lacking = [key for key in keys if not isinstance(value, dict) or key not in value]
    if lacking:
        raise damaged(path, f"without {', '.join(lacking)}")
    return value


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path | str, how: str) -> QuantbenchError:
    """The error for a file of ours that is not as we wrote it."""
    return QuantbenchError(
        f"{path} is damaged: {how}",
        remedy="put it back as it was, or delete it: the next run makes it again, and what rests on it",
    )
