"""Where a model's files are: a folder (or file) here, or a snapshot in the hub's cache; and whether they are whole.

Nothing is fetched. A hub model is the snapshot that the engine loads, which is the one its revision points to and not
the newest. The four lines for that are our own: huggingface_hub would bring ten packages and 0.3 s of import into
every job, and its `snapshot_download(local_files_only=True)` does not look whether the files are there.
"""

from __future__ import annotations

from pathlib import Path

from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import Hub
from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint
from quantbench.records.server import ServerSpec

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_TEXTS = (".json", ".jinja", ".model", ".txt", ".py")


def find_source(spec: ServerSpec) -> Path | None:
    """The model's folder (or file): local, or its snapshot in the hub's cache; None where it is not here."""
    local = Path(spec.source or "no source")
    if local.exists():
        return local
    folder = snapshot(spec.source, engine_of(spec).hub(spec))
    return folder if folder.is_dir() else None


def snapshot(model_id: str, hub: Hub) -> Path:
    """The folder of this revision of a model in a hub's cache; a revision without a ref of its name is a commit."""
    repository = hub.cache / f"models--{model_id.replace('/', '--')}"
    ref = repository / "refs" / hub.revision
    return repository / "snapshots" / (ref.read_text().strip() if ref.is_file() else hub.revision)


def is_local(source: str) -> bool:
    """A source that is a path, not the id of a hub model: also one below a folder that is here."""
    return source.startswith((".", "/", "models/")) or source.count("/") != 1 or Path(source).parent.is_dir()


def check_source(spec: ServerSpec) -> None:
    """Raise QuantbenchError if the model is not here, or not whole: a folder with config.json and all its weights."""
    source, model = spec.source, spec.model
    path = find_source(spec)
    if path is None:
        hub = engine_of(spec).hub(spec)
        revision = "" if hub.revision == "main" else f" (revision {hub.revision})"
        raise QuantbenchError(
            f"models.{model}.source: '{source}' is neither a folder here nor in the hub cache {hub.cache}{revision}",
            remedy=f"make that folder, or correct models.{model}.source"
            if is_local(source)
            else f"get it with: {_download(spec)}, or correct models.{model}.source",
        )
    if path.is_dir() and (fault := _fault_of(path, dummy=spec.settings.load_format == "dummy")):
        raise QuantbenchError(f"models.{model}.source: {fault}", remedy=_remedy(spec, path))


def _fault_of(folder: Path, *, dummy: bool) -> str:
    """What a model's folder lacks or has damaged; empty if nothing. Dummy weights are not read from files."""
    texts = [path for path in folder.iterdir() if path.suffix in _TEXTS]
    weights = [] if dummy else next((paths for pattern in _WEIGHTS if (paths := list(folder.glob(pattern)))), [])
    if dangling := next((path for path in sorted([*texts, *weights]) if path.is_symlink() and not path.exists()), None):
        return f"{dangling} is a link to a file that is not there"
    if not (folder / "config.json").exists():
        return f"{folder} has no config.json"
    if dummy:
        return ""
    files = weight_files(folder)
    if not files:
        return f"{folder} has no weights"
    damaged = ((path, checkpoint.damage(path)) for path in files if path.suffix == ".safetensors")
    return next((f"{path} {damage}" for path, damage in damaged if damage), "")


def _remedy(spec: ServerSpec, path: Path) -> str:
    if path != Path(spec.source):
        return f"complete it with: {_download(spec)} (with --force-download if a file is damaged)"
    if (path / "provenance.json").exists():  # made here: its rule makes it again when the record is gone
        return f"remove the folder {path} and run again"
    return f"copy the model again, or correct models.{spec.model}.source"


def _download(spec: ServerSpec) -> str:
    revision = engine_of(spec).hub(spec).revision
    return f"hf download {spec.source}" + ("" if revision == "main" else f" --revision {revision}")


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's weight files that are there: safetensors if there are any, else the other formats."""
    by_format = (sorted(p for p in folder.glob(pattern) if p.exists()) for pattern in _WEIGHTS)
    return next((paths for paths in by_format if paths), [])


def checkpoint_mib(spec: ServerSpec) -> float | None:
    """Size of the weight files in MiB; None for dummy weights and where they cannot be found."""
    path = find_source(spec)
    if path is None or spec.settings.load_format == "dummy":
        return None
    paths = [path] if path.is_file() else weight_files(path)
    return round(sum(file.stat().st_size for file in paths) / 2**20, 2) if paths else None
