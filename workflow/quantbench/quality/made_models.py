"""Folders of models that are made here: built beside their place by a program, checked, then moved in whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint, programs
from quantbench.records.base import write
from quantbench.records.server import Provenance, ServerSpec
from quantbench.serving import model_source

MARKER = "provenance.json"


def find(name: str, source: str) -> Path:
    """Folder of a model that is here already (local, or in the hub's cache). Nothing is fetched.

    Raises QuantbenchError with the command that gets it.
    """
    spec = ServerSpec(model=name, source=source)
    model_source.check_source(spec)
    folder = model_source.find_source(spec)
    if folder is None or not folder.is_dir():
        raise QuantbenchError(f"models.{name}.source: {source} is not a model folder")
    return folder


def build(marker: Path | str, command: Sequence[str], log: Path | str, made: Provenance, remedy: str = "") -> None:
    """Run `command` with the new folder as its last argument; on success the folder of `marker` is replaced.

    `marker` is the folder's provenance.json: `made` with the SHA-256 of every weight file and their bytes. The
    program's output goes to `log`. Raises QuantbenchError when it fails or leaves no weights.
    """
    folder, log = Path(marker).parent, Path(log)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run([*command, str(part)], log, made.model, remedy)
        weights = model_source.weight_files(part)
        if not weights or not checkpoint.config(part):
            raise QuantbenchError(f"{folder}: the program left no weights or no config.json", log=log)
        hashes = {path.name: sha256(path) for path in weights}
        bytes_ = sum(path.stat().st_size for path in weights)
        write(part / MARKER, replace(made, weights_bytes=bytes_, sha256=hashes))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_quantized(folder: Path | str) -> None:
    """The folder must say in config.json how it is quantized; an unquantized copy would be compared with itself."""
    if not checkpoint.config(folder).get("quantization_config"):
        raise QuantbenchError(f"{folder}: config.json has no quantization_config, so nothing was quantized")


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(command: Sequence[str], log: Path, model: str, remedy: str = "") -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Offline: whatever is missing must fail with its name, not be fetched behind the user's back.
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("w", encoding="utf-8") as out:
        out.write(" ".join(command) + "\n")
        out.flush()
        try:
            done = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, check=False
            )
        except OSError as error:
            why, remedy = programs.not_started(command[0], "vllm_python or llmcompressor_python", error)
            out.write(f"quantbench: {why}\n")
            raise QuantbenchError(why, remedy=remedy, log=log) from None
    if done.returncode:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise QuantbenchError(
            f"models.{model}: {Path(command[1]).name} failed: {lines[-1] if lines else 'no output'}",
            remedy=remedy
            or f"correct models.{model} (quantize.group_size, scheme, method; grow), or what it is made from",
            log=log,
        )
