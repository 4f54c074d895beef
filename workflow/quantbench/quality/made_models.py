"""Folders of models that are made here: built beside their place by a program, checked, then moved in whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from quantbench.config import model_plan
from quantbench.config.configuration import Plan
from quantbench.errors import QuantbenchError
from quantbench.files import sha256
from quantbench.observe import checkpoint, programs
from quantbench.records.base import convert, line, parse, read, write
from quantbench.records.server import Provenance, ServerSpec
from quantbench.serving import identity, model_source

MARKER, TWIN = model_source.PROVENANCE, f".{model_source.PROVENANCE}"
"""The record of a folder, and its second name while a job is at work on it: snakemake removes the first."""


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


def facts(plan: Plan, name: str, root: Path = Path()) -> Provenance:
    """How the plan makes a model, and of what; not yet what came of it."""
    model, files = plan.config["models"][name], model_plan.made_of(plan, name)
    inputs = {path: sha256(root / path) for path in files if (root / path).exists()}
    if plan.unpacked_here(name):
        for file in model_plan.gguf_file(plan, name):
            spec = convert(plan.server_spec(name) | {"source": str(root / file)}, ServerSpec)
            inputs |= {file: digest} if (digest := identity.source_id(spec)) else {}
        return Provenance(model=name, source=model["source"], inputs=inputs)
    if not model["quantize"]:
        return Provenance(model=name, source="demo", intermediate_size=model_plan.grow(plan, name), inputs=inputs)
    base = convert(plan.server_spec(model_plan.base(plan, name)), ServerSpec)
    if base.source not in inputs and (weights := identity.source_id(base)):
        inputs[base.source] = weights
    return Provenance(model=name, source=base.source, quantize=model_plan.recipe(plan, name), inputs=inputs)


def state(plan: Plan, name: str, root: Path = Path()) -> Literal["fits", "other", "missing"]:
    """Whether the folder of a model that is made here is as the plan makes it now.

    Not compared: what an earlier version did not write down, and inputs that are not here.
    """
    quantized = bool(plan.config["models"][name]["quantize"])
    if quantized and model_plan.base_record(plan, name) and state(plan, model_plan.base(plan, name), root) == "other":
        return "other"
    kept = recorded(root / plan.source(name))
    if kept is None:
        return "missing"
    wanted = facts(plan, name, root)
    inputs = {path: digest for path, digest in kept.inputs.items() if path in wanted.inputs}
    same = (
        _recipe(kept) == _recipe(wanted)
        and _package_fits(plan, kept)
        and inputs == {path: wanted.inputs[path] for path in inputs}
    )
    return "fits" if same else "other"


def recorded(folder: Path) -> Provenance | None:
    """The record of a folder that has all its weights; None where there is none."""
    path = next((folder / name for name in (MARKER, TWIN) if (folder / name).exists()), None)
    try:
        record = read(path, Provenance) if path else None
    except QuantbenchError:
        return None
    if record is None:
        return None
    weights = [folder / name for name in record.sha256]
    there = all(file.exists() for file in weights)
    return record if there and sum(file.stat().st_size for file in weights) == record.weights_bytes else None


def keep_record(marker: Path) -> None:
    """Before a job makes the folder anew: the record stays under its second name until the folder is replaced."""
    if marker.exists():
        shutil.copy2(marker, marker.with_name(TWIN))


def put_back(marker: Path) -> None:
    """Afterwards: the folder that was not replaced has its record again, the new one has one name for it."""
    twin = marker.with_name(TWIN)
    if twin.exists() and not marker.exists():
        twin.rename(marker)
    twin.unlink(missing_ok=True)


def _package_fits(plan: Plan, kept: Provenance) -> bool:
    """Whether the package that a model was unpacked from is the one that its hash names, where it names one."""
    if not kept.unpacked or not plan.unpacked_here(kept.model):
        return True
    return model_plan.unpacked(plan, kept.model)["sha256"] in (None, kept.unpacked.wheel_sha256)


def _recipe(record: Provenance) -> tuple[object, ...]:
    return record.source, record.intermediate_size, record.quantize


def build(marker: Path | str, command: Sequence[str], log: Path | str, made: Provenance, remedy: str = "") -> None:
    """Run `command` with the new folder as its last argument; on success the folder of `marker` is replaced.

    `marker` is the folder's provenance.json: `made` with the SHA-256 of every weight file and their bytes. The
    program's output goes to `log`. A folder that was made so already, of the same inputs, gets its record again.
    One at a time: comparisons of a fleet share models/, and who comes later finds made what another one has made.
    Raises QuantbenchError when it fails or leaves no weights.
    """
    folder = Path(marker).parent
    note = folder.with_name(f".{folder.name}.made")
    note.parent.mkdir(parents=True, exist_ok=True)
    with note.open("a+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _build(folder, command, Path(log), made, remedy, note)


def _build(folder: Path, command: Sequence[str], log: Path, made: Provenance, remedy: str, note: Path) -> None:
    kept = recorded(folder) or _noted(note)
    if kept and made.inputs and replace(kept, weights_bytes=0, sha256={}) == made and _intact(folder, kept):
        write(folder / MARKER, kept)
        (folder / TWIN).unlink(missing_ok=True)
        return
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
        record = replace(made, weights_bytes=bytes_, sha256=hashes)
        write(part / MARKER, record)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        note.write_bytes(line(record))  # in place: the lock is on this very file
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _intact(folder: Path, record: Provenance) -> bool:
    weights = {folder / name: digest for name, digest in record.sha256.items()}
    return all(path.exists() and sha256(path) == digest for path, digest in weights.items())


def _noted(note: Path) -> Provenance | None:
    """The record of the folder as it was last made: snakemake removes that within it before a job makes it again."""
    try:
        return parse(note.read_bytes(), Provenance, note)
    except QuantbenchError:
        return None


def require_quantized(folder: Path | str) -> None:
    """The folder must say in config.json how it is quantized; an unquantized copy would be compared with itself."""
    if not checkpoint.config(folder).get("quantization_config"):
        raise QuantbenchError(f"{folder}: config.json has no quantization_config, so nothing was quantized")


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
