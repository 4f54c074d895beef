"""What a server loads and what serves it, by content: a model that changes under its name is another model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantbench import files
from quantbench.serving import preflight

Spec = Mapping[str, Any]
_WHOLE, _SAMPLES, _PIECE = 2**22, 128, 4096
_TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def source_id(spec: Spec) -> str | None:
    """12 hex digits for the model's files; None for an endpoint and where they are not here.

    Names and sizes; small files whole; of large weight files the beginning, where the header is, and 128 pieces that
    lie evenly in the rest. Times do not count, so a copy is the same model. A change that misses all pieces is missed.
    """
    found = None if spec["endpoint"] else preflight.find_source(spec)
    if found is None:
        return None
    weights = [found] if found.is_file() else preflight.weight_files(found)
    texts = [] if found.is_file() else [path for name in _TEXTS if (path := found / name).exists()]
    digest = hashlib.sha256()
    for path in [*texts, *weights]:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        _sample(path, digest)
    return digest.hexdigest()[:12]


def _sample(path: Path, digest: Any) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        digest.update(file.read(_WHOLE))
        for piece in range(_SAMPLES if size > _WHOLE else 0):
            file.seek(_WHOLE + (size - _WHOLE - _PIECE) * piece // _SAMPLES)
            digest.update(file.read(_PIECE))


def planned(spec: Spec, ready: Path, *, made_here: bool) -> dict[str, str | None]:
    """{vllm, source_id} as a start would find them: what makes start_server run again when it changes.

    Where they cannot be told (results looked at on another machine) it is what ready.json keeps of the last start, so
    that nothing is measured again for that. What is made here has its own record.
    """
    if spec["endpoint"]:
        return {"vllm": None, "source_id": None}
    kept = (files.read_json(ready, "model").get("identity") if ready.exists() else None) or {}
    here = {"vllm": preflight.versions(spec)["vllm"], "source_id": None if made_here else source_id(spec)}
    return {key: here[key] or kept.get(key) for key in here}
