"""A model folder's files: config.json and the headers of its safetensors (no weights are read)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

MODELOPT_FILE = "hf_quant_config.json"
_MAX_HEADER = 100 * 1024**2


def config(folder: Path | str) -> dict[str, Any]:
    """The folder's config.json; {} where there is none or it cannot be read.

    Where it says nothing of a quantization, that of hf_quant_config.json (ModelOpt's) is put in, as vLLM does; its
    `_file` names where it stands.
    """
    value = _object(Path(folder) / "config.json")
    beside = {} if "quantization_config" in value or not value else _object(Path(folder) / MODELOPT_FILE)
    return value | ({"quantization_config": {"_file": MODELOPT_FILE, **beside}} if beside else {})


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def tensors(folder: Path | str) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Name → (dtype as in the safetensors format, e.g. "BF16", shape) over all *.safetensors; None where unreadable."""
    named: dict[str, tuple[str, tuple[int, ...]]] = {}
    try:
        for path in sorted(Path(folder).glob("*.safetensors")):
            named |= {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in _header(path)[1].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return named or None


_PROJECTION = re.compile(r"\b(?:q|k|v|o|qkv|gate|up|gate_up|down)_proj\.weight\Z")


def projection_inputs(folder: Path | str) -> dict[str, int]:
    """Inputs of each projection of attention and MLP by its tensor's name, as far as the headers tell; else empty."""
    found = tensors(folder) or {}
    return {name: shape[1] for name, (_, shape) in found.items() if len(shape) == 2 and _PROJECTION.search(name)}


def damage(path: Path) -> str:
    """What is wrong with a safetensors file, as far as its header and its length tell; empty if nothing."""
    try:
        begin, header = _header(path)
        size = path.stat().st_size
        whole = begin + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "is no safetensors file, or its header is damaged"
    if size < whole:
        return f"is cut short: {size} bytes of {whole}"
    return f"has {size - whole} bytes that belong to no tensor" if size > whole else ""


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """(where the tensors begin in bytes, name → entry); ValueError for what is no header."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MAX_HEADER:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(file.read(size))
    return 8 + size, {name: entry for name, entry in header.items() if name != "__metadata__"}
