"""What a server is, by content: the files that it loads, the engine's version, the hardware. Names do not count."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantbench.engines.choose import engine_of
from quantbench.observe import given, gpu
from quantbench.records.base import OpenRecord, convert, read
from quantbench.records.block import Hardware
from quantbench.records.server import Identity, ServerSpec
from quantbench.serving import model_source

_WHOLE, _SAMPLES, _PIECE = 2**22, 128, 4096
_TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class _Planned(OpenRecord, frozen=True, kw_only=True):
    """What a plan reads of ready.json, which may be of another version."""

    model: str
    identity: Identity = Identity()
    served_with: Mapping[str, Any] | None = None


def source_id(spec: ServerSpec) -> str | None:
    """12 hex digits for the model's files; None for an endpoint and where they are not here.

    Names and sizes; small files whole; of large weight files the beginning, where the header is, and 128 pieces that
    lie evenly in the rest. Times do not count, so a copy is the same model. A change that misses all pieces is missed.
    """
    source = None if spec.endpoint else model_source.find_source(spec)
    if source is None:
        return None
    weights = [source] if source.is_file() else model_source.weight_files(source, spec.settings.load_format)
    texts = [] if source.is_file() else [path for name in _TEXTS if (path := source / name).exists()]
    if not weights and not texts:  # a snapshot of links whose files are elsewhere
        return None
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


def planned(server: Mapping[str, Any], ready: Path, *, made_here: bool) -> dict[str, str | None]:
    """{vllm, source_id} of a `Plan.server_spec` as a start would see them: start_server runs again when one changes.

    Where they are unknown (results looked at on another machine) it is what ready.json has of the last start, so
    that nothing is measured again for that. What is made here has its own record.
    """
    spec = convert(server, ServerSpec)
    if spec.endpoint:
        return Identity().as_dict()
    last = recorded(ready)
    version, files = engine_of(spec).installed(spec).vllm, None if made_here else source_id(spec)
    return Identity(vllm=version or last.vllm, source_id=files or last.source_id).as_dict()


def recorded(ready: Path) -> Identity:
    """What ready.json has of the last start; nothing where there is none. Raises QuantbenchError if it is damaged."""
    return read(ready, _Planned).identity if ready.exists() else Identity()


def was_served(ready: Path, spec: Mapping[str, Any]) -> bool:
    """Whether the last start was of this spec (`Plan.measured_spec`), or is of a version that did not tell.

    Raises QuantbenchError if the record is damaged.
    """
    served = read(ready, _Planned).served_with if ready.exists() else None
    return ready.exists() and (served is None or served.get("spec") == spec)


def hardware(spec: ServerSpec) -> Hardware | None:
    """The devices of a server of ours.

    names holds one name per device (`NVIDIA H100 80GB HBM3`; of the CPU its model and how many of them Linux shows),
    sorted; empty where NVML does not report them.
    """
    if spec.endpoint:
        return None
    if "cpu" in spec.devices:
        return Hardware(names=_cpu())
    cards = gpu.available(",".join(map(given.real, spec.devices)))
    return Hardware(
        names=tuple(sorted(card["name"] for card in cards if card["name"])),
        uuids=tuple(sorted(card["uuid"] for card in cards if card["uuid"])),
        driver=next((card["driver"] for card in cards), None),
    )


def _cpu() -> tuple[str, ...]:
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        names = []
    return (f"{names[0].strip()} x {len(names)}",) if names else ()
