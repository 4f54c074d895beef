"""A model folder's files: config.json and the headers of its safetensors (no weights are read)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MAX_HEADER = 100 * 1024**2


def config(folder: Path | str) -> dict[str, Any]:
    """The folder's config.json; {} where there is none or it cannot be read."""
    try:
        value = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def tensors(folder: Path | str) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Name → (dtype as in the safetensors format, e.g. "BF16", shape) over all *.safetensors; None where unreadable."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    try:
        for path in sorted(Path(folder).glob("*.safetensors")):
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                if size > _MAX_HEADER:
                    return None
                header = json.loads(file.read(size))
            found |= {k: (v["dtype"], tuple(v["shape"])) for k, v in header.items() if k != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found or None


def weight_bytes(folder: Path | str) -> int | None:
    """Bytes of all weight files (safetensors, else .bin); None where there are none."""
    for pattern in ("*.safetensors", "*.bin"):
        sizes = [path.stat().st_size for path in Path(folder).glob(pattern)]
        if sizes:
            return sum(sizes)
    return None
