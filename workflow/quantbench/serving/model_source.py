"""Where a model's files are: a folder (or file) here, or a snapshot in the hub's cache; and whether they are whole.

Nothing is fetched. A hub model is the snapshot that the engine loads, which is the one its revision points to and not
the newest. The four lines for that are our own: huggingface_hub would bring ten packages and 0.3 s of import into
every job, and its `snapshot_download(local_files_only=True)` does not look whether the files are there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import Hub
from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint, gguf
from quantbench.records.base import read
from quantbench.records.server import Provenance, Revision, ServerSettings, ServerSpec, Unpacked

_TEXTS = (".json", ".jinja", ".model", ".txt", ".py")
_COMMIT = re.compile(r"[0-9a-f]{40}")
PROVENANCE = "provenance.json"
"""The record of a folder that was made here."""
_NAMED = 3
"""So many files are named; of more it is said how many."""


def find_source(spec: ServerSpec) -> Path | None:
    """The model's folder (or file): local, or its snapshot in the hub's cache; None where it is not here."""
    local = Path(spec.source or "no source")
    if local.exists():
        return local
    folder = snapshot(spec.source, engine_of(spec).hub(spec))
    return folder if folder.is_dir() else None


def snapshot(model_id: str, hub: Hub) -> Path:
    """The folder of this revision of a model in a hub's cache; a revision without a ref of its name is a commit."""
    repository = _repository(model_id, hub)
    ref = repository / "refs" / hub.revision
    commit = ref.read_text(encoding="utf-8", errors="replace").strip() if ref.is_file() else ""
    return repository / "snapshots" / (commit or hub.revision)


def _repository(model_id: str, hub: Hub) -> Path:
    return hub.cache / f"models--{model_id.replace('/', '--')}"


def is_local(source: str) -> bool:
    """A source that is a path, not the id of a hub model: also one below a folder that is here."""
    return source.startswith((".", "/", "~", "models/")) or source.count("/") != 1 or Path(source).parent.is_dir()


def revision(spec: ServerSpec) -> Revision | None:
    """Which revision of a hub model is here; None for a folder, and where it is not in the cache."""
    path = find_source(spec)
    hub = engine_of(spec).hub(spec)
    if path is None or path.parent != _repository(spec.source, hub) / "snapshots":
        return None
    return Revision(asked=hub.revision, commit=path.name)


def unpacked(spec: ServerSpec) -> Unpacked | None:
    """The GGUF file that a model's folder was unpacked from here; None for others, foreign records too."""
    folder = find_source(spec)
    try:
        return read(folder / PROVENANCE, Provenance).unpacked if folder and (folder / PROVENANCE).is_file() else None
    except QuantbenchError:
        return None


def check_source(spec: ServerSpec, *, own: bool = False) -> None:
    """Raise QuantbenchError if the model is not here, or not whole: a folder with config.json and all its weights.

    own: it is known that no rule makes this folder, wherever it lies.
    """
    source, model = spec.source, spec.model
    path = find_source(spec)
    if path is None:
        hub = engine_of(spec).hub(spec)
        asked = "" if hub.revision == "main" else f" (revision {hub.revision})"
        name, _, other = source.removeprefix("https://huggingface.co/").partition("@")
        if name.count("/") == 1 and name != source and not is_local(name):
            key = f"; what is behind the @ is a revision: models.{model}.revision" if other else ""
            raise QuantbenchError(
                f"models.{model}.source: '{source}' is no id of a hub model",
                remedy=f"name {name} as models.{model}.source{key}",
            )
        raise QuantbenchError(
            f"models.{model}.source: '{source}' is neither a folder here nor in the hub cache {hub.cache}{asked}"
            + _others(source, hub),
            remedy=f"make that folder, or correct models.{model}.source"
            if is_local(source)
            else f"get it with: {_download(spec)}, or correct models.{model}.source",
        )
    if path.suffix == ".gguf" and path.is_file():
        try:
            gguf.whole(path)
        except ValueError as error:
            remedy = PULL if checkpoint.is_pointer(path) else f"get the file again, or correct models.{model}.source"
            raise QuantbenchError(f"models.{model}.source: {path} {error}", remedy=remedy) from None
    if path.is_dir() and (fault := _fault_of(path, spec)):
        remedy = fault[1] or _remedy(spec, path, fault[2], own)
        raise QuantbenchError(f"models.{model}.source: {fault[0]}", remedy=remedy)


Fault = tuple[str, str, Sequence[Path]]
"""What is wrong, what to do about it if that is special, and the files that have to come."""


def _fault_of(folder: Path, spec: ServerSpec) -> Fault | None:
    """What a model's folder lacks or has damaged; None if nothing. Dummy weights are not read from files."""
    dummy = spec.settings.load_format == "dummy"
    held = checkpoint.weights(folder, spec.settings.load_format)
    texts = [path for path in folder.iterdir() if path.suffix in _TEXTS]
    dangling = [path for path in sorted([*texts, *(() if dummy else held.files)]) if _dangles(path)]
    if dangling:
        many = f" (and so are {len(dangling) - 1} others)" if len(dangling) > 1 else ""
        return f"{dangling[0]} is a link to a file that is not there{many}", "", dangling
    if not (folder / "config.json").exists() and not is_mistral(folder):
        return f"{folder} has no config.json" + _unlike(folder), _remedy_of_gguf(folder), [folder / "config.json"]
    if (folder / "config.json").exists() and (why := checkpoint.config_fault(folder)):
        return f"{folder / 'config.json'} {why}", "", [folder / "config.json"]
    if dummy:
        return None
    if held.damaged:
        return f"{held.damaged} is damaged: it has no weight_map of names", "", [held.damaged]
    if held.missing:
        names = ", ".join(path.name for path in held.missing[:_NAMED])
        more = f" and {len(held.missing) - _NAMED} more" if len(held.missing) > _NAMED else ""
        verb = "is" if len(held.missing) == 1 else "are"
        return f"{folder}: {names}{more}, which {held.named_by}, {verb} missing{_begun(folder)}", "", held.missing
    if not held.files:
        return f"{folder} has no weights" + (_unlike(folder) or _begun(folder)), _remedy_of_gguf(folder), ()
    damaged = ((path, checkpoint.damage(path)) for path in held.files)
    return next(((f"{path} {damage}", "", [path]) for path, damage in damaged if damage), None)


def is_mistral(folder: Path) -> bool:
    """A folder in Mistral's own format: params.json instead of config.json."""
    return (folder / "params.json").exists() and not (folder / "config.json").exists()


def _dangles(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _unlike(folder: Path) -> str:
    """What is there instead of a checkpoint that vLLM loads as a folder."""
    found: list[Path]
    if is_mistral(folder):
        return "; it is in Mistral's own format (params.json), whose weights are consolidated*.safetensors"
    if found := sorted(folder.glob("*.gguf")):
        return f", only {', '.join(path.name for path in found[:_NAMED])}"
    if found := sorted([*folder.glob("*.pth"), *folder.glob("original/*.pth")]):
        return f"; {found[0].relative_to(folder)} is in Meta's own format, which vLLM does not load"
    if (folder / "snapshots").is_dir() and folder.name.startswith("models--"):
        return f"; it is the hub cache's own: name the model {folder.name.removeprefix('models--').replace('--', '/')}"
    if found := sorted(folder.glob("adapter_model.*")):
        return f"; {found[0].name} is an adapter, no model: merge it into its base first"
    return ""


def _remedy_of_gguf(folder: Path) -> str:
    found = sorted(folder.glob("*.gguf"))
    return f"name one of its files as source, like {found[0]}" if found else ""


def _begun(folder: Path) -> str:
    """Downloads that were begun and not ended, in a hub's cache or in a folder that `hf download --local-dir` made."""
    places = (folder.parent.parent / "blobs", folder / ".cache/huggingface/download")
    begun = [path for place in places for path in place.glob("*.incomplete")]
    return f" (a download has not ended: {begun[0]})" if begun else ""


def _others(source: str, hub: Hub) -> str:
    """Which revisions of it the cache has instead."""
    repository = _repository(source, hub)
    refs = [path.relative_to(repository / "refs").as_posix() for path in repository.glob("refs/**/*") if path.is_file()]
    commits = [path.name for path in repository.glob("snapshots/*")]
    found = sorted(refs) or sorted(commits)
    return f"; of its revisions the cache has {', '.join(found[:_NAMED])}" if found else ""


PULL = "fetch the real files: git lfs pull, in the clone that they came from"
"""The remedy for a pointer of Git LFS in place of a file."""


def _remedy(spec: ServerSpec, path: Path, files: Sequence[Path], own: bool) -> str:
    if path != Path(spec.source):
        return f"complete it with: {_download(spec, path, files)} (with --force-download if a file is damaged)"
    made = re.fullmatch(rf"models/[^/]+/{re.escape(spec.model)}", spec.source)  # as `Plan.source` has it
    if made and not own and (path / PROVENANCE).exists():  # its rule makes it again when the record is gone
        return f"remove the folder {path} and run again"
    if any(map(checkpoint.is_pointer, files)):
        return PULL
    config = path / "config.json"
    if config in files and config.is_file() and config.stat().st_size:
        return f"save {config} as plain JSON, without byte order mark (BOM) or comments, or copy it again"
    names = ", ".join(file.name for file in files[:_NAMED])
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return f"copy {names or 'the model'}{more} again, or correct models.{spec.model}.source"


def _download(spec: ServerSpec, snapshot: Path | None = None, files: Sequence[Path] = ()) -> str:
    """The command that gets a hub model, or the rest of a snapshot: that very commit, as main may have moved on."""
    hub = engine_of(spec).hub(spec)
    wanted = snapshot.name if snapshot and _COMMIT.fullmatch(snapshot.name) else hub.revision
    words = ["hf", "download", spec.source] + (["--revision", wanted] if wanted != "main" else [])
    if snapshot and 0 < len(files) <= _NAMED:
        words += [word for file in files for word in ("--include", file.relative_to(snapshot).as_posix())]
    if hub.cache != engine_of(spec).hub(replace(spec, settings=ServerSettings())).cache:
        words += ["--cache-dir", str(hub.cache)]
    return shlex.join(words)


def weight_files(folder: Path, load_format: str = "auto") -> list[Path]:
    """The checkpoint's weight files that are there: those that its index names, else all of one format."""
    return [path for path in checkpoint.weights(folder, load_format).files if path.exists()]


def checkpoint_mib(spec: ServerSpec) -> float | None:
    """Size of the weight files in MiB; None for dummy weights and where they cannot be found."""
    path = find_source(spec)
    if path is None or spec.settings.load_format == "dummy":
        return None
    paths = [path] if path.is_file() else weight_files(path, spec.settings.load_format)
    return round(sum(file.stat().st_size for file in paths) / 2**20, 2) if paths else None
