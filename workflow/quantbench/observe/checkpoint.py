"""A model folder's files: config.json and the headers of its safetensors (no weights are read)."""

from __future__ import annotations

import codecs
import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from quantbench.observe import gguf

MODELOPT_FILE = "hf_quant_config.json"
_DTYPE_BITS: Final = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "BF16": 16, "F16": 16, "I16": 16, "U16": 16,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_MAX_HEADER = 100 * 1024**2


def config(folder: Path | str) -> dict[str, Any]:
    """The folder's config.json; {} where there is none or it cannot be read. Of a GGUF file what its header says of it.

    Where it says nothing of a quantization, that of hf_quant_config.json (ModelOpt's) is put in, as vLLM does; its
    `_file` names where it stands. `config_fault` says why one cannot be read.
    """
    if Path(folder).suffix == ".gguf" and Path(folder).is_file():
        return _of_gguf(Path(folder))
    value = _object(Path(folder) / "config.json")
    beside = {} if "quantization_config" in value or not value else _object(Path(folder) / MODELOPT_FILE)
    return value | ({"quantization_config": {"_file": MODELOPT_FILE, **beside}} if beside else {})


def _of_gguf(file: Path) -> dict[str, Any]:
    try:
        header = gguf.whole(file)
    except (OSError, ValueError):
        return {}
    bits = header.bits_per_weight
    stored = {"quant_method": "gguf", "type": header.type, "bits_per_weight": bits, "_file": file.name}
    return header.config | ({"quantization_config": stored} if bits is not None and bits < 16 else {})


def config_fault(folder: Path) -> str:
    """Why the folder's config.json, which is there, tells nothing; empty if it does."""
    path = folder / "config.json"
    try:
        content = path.read_bytes()
        if content.startswith(_POINTER):
            return "is a pointer of Git LFS and not the file itself"
        if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "begins with a byte order mark, which vLLM's reader refuses"
        value = json.loads(content.decode("utf-8"))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "is not UTF-8"
    except json.JSONDecodeError as error:
        return f"is not JSON: {error}" if content.strip() else "is empty"
    except (ValueError, RecursionError):
        return "is not JSON"
    return "" if isinstance(value, dict) else "is no JSON object"


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


_SAFETENSORS: Final = "*.safetensors"
_OTHER_FORMATS: Final = ("*.bin", "*.pt")
_INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_MISTRAL: Final = "consolidated*.safetensors"
_MISTRAL_INDEX: Final = "consolidated.safetensors.index.json"
_POINTER: Final = b"version https://git-"
_ADAPTER: Final = "adapter_model."
_OF_TRAINING: Final = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
"""What vLLM passes over, wherever such a name ends."""
_VARIANT: Final = re.compile(r"(?:model|pytorch_model)\.(?:fp16|bf16|fp32|int8|ema|non_ema)(?:-\d+-of-\d+)?\.\w+")
"""The same weights once more, in another precision."""
_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<n>\d{5})-of-(?P<of>\d{5})\.(?P<kind>safetensors|bin)")


@dataclass(frozen=True)
class Weights:
    """Which files hold a checkpoint's weights: those that belong to it (`files`, there or dangling) and `missing` ones.

    named_by: what says so, as the end of a sentence; empty where nothing does. damaged: an index that cannot be read.
    """

    files: tuple[Path, ...]
    missing: tuple[Path, ...] = ()
    named_by: str = ""
    damaged: Path | None = None

    @property
    def whole(self) -> bool:
        """Is there something, and all of it?"""
        return bool(self.files) and not self.missing and not self.damaged and all(path.exists() for path in self.files)


def weights(folder: Path | str, load_format: str = "auto") -> Weights:
    """The files that vLLM loads of a folder: its index decides, else the names; all of one format only.

    Mistral's own files (`consolidated*.safetensors`) count with `load_format` mistral, where there are no others, and
    where the others are not whole and vLLM takes the folder for one of Mistral's (params.json).
    """
    folder = Path(folder)
    mistral = _named(folder, _MISTRAL_INDEX) or _of_names(_matching(folder, _MISTRAL))
    if load_format == "mistral":
        return mistral
    indexed = (found for name in _INDEXES if (found := _named(folder, name)))
    plain = next(indexed, None) or _of_names(_without_index(folder))
    nothing = not (plain.files or plain.missing or plain.damaged)
    return mistral if mistral.whole and (nothing or (not plain.whole and (folder / "params.json").exists())) else plain


def _named(folder: Path, name: str) -> Weights | None:
    """What an index names; None where there is none."""
    index = folder / name
    if not index.exists():
        return None
    named = _object(index).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(file, str) for file in named.values()):
        return Weights((), damaged=index)
    paths = [folder / file for file in sorted(set(named.values()))]
    return Weights(
        tuple(path for path in paths if path.exists() or path.is_symlink()),
        tuple(path for path in paths if not path.exists() and not path.is_symlink()),
        f"{name} names",
    )


def _without_index(folder: Path) -> list[Path]:
    """Weights of the first format that there is; not those of a training, nor the same ones twice."""
    consolidated = set(_matching(folder, _MISTRAL))
    found = [path for path in _matching(folder, _SAFETENSORS) if path not in consolidated]
    formats = (_matching(folder, pattern) for pattern in _OTHER_FORMATS)
    found = found or next((paths for paths in formats if paths), [])
    return [path for path in found if not _VARIANT.fullmatch(path.name)] or found


def _matching(folder: Path, pattern: str) -> list[Path]:
    found = (path for path in folder.glob(pattern) if not path.name.startswith(_ADAPTER))
    return sorted(path for path in found if not path.name.endswith(_OF_TRAINING))


def _of_names(paths: list[Path]) -> Weights:
    """These files, and the shards that their own names say there are."""
    counted = {m["stem"]: m for path in paths if (m := _SHARD.fullmatch(path.name))}
    expected = (
        paths[0].with_name(f"{stem}-{n:05d}-of-{m['of']}.{m['kind']}")
        for stem, m in counted.items()
        for n in range(1, int(m["of"]) + 1)
    )
    missing = tuple(path for path in expected if path not in paths)
    return Weights(tuple(paths), missing, "the names of the others count" if missing else "")


def tensors(folder: Path | str) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Name → (dtype as in the safetensors format, e.g. "BF16", shape) of the weights; None where one is unreadable.

    Of a GGUF file by the names and with the types that `gguf.Gguf.named` gives them.
    """
    named: dict[str, tuple[str, tuple[int, ...]]] = {}
    try:
        if Path(folder).suffix == ".gguf" and Path(folder).is_file():
            return gguf.whole(folder).named
        for path in (path for path in weights(folder).files if path.suffix == ".safetensors"):
            named |= {name: (entry.dtype, entry.shape) for name, entry in _header(path)[1].items()}
    except (OSError, ValueError):
        return None
    return named or None


_PROJECTION = re.compile(r"\b(?:q|k|v|o|qkv|gate|up|gate_up|down)_proj\.weight\Z")


def projection_inputs(folder: Path | str) -> dict[str, int]:
    """Inputs of each projection of attention and MLP by its tensor's name, as far as the headers tell; else empty."""
    found = tensors(folder) or {}
    return {name: shape[1] for name, (_, shape) in found.items() if len(shape) == 2 and _PROJECTION.search(name)}


def damage(path: Path) -> str:
    """What is wrong with a weight file, as far as its header and its length tell; empty if nothing is known."""
    try:
        if is_pointer(path):
            return "is a pointer of Git LFS and not the file itself"
        if path.suffix != ".safetensors":
            return "" if path.stat().st_size else "is empty"
        begin, header = _header(path)
        size = path.stat().st_size
        if odd := next((name for name, entry in header.items() if not _as_long_as_its_shape(entry)), None):
            return f"has a damaged header: the place of {odd} is not as large as its shape"
        whole = begin + max((entry.data_offsets[1] for entry in header.values()), default=0)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is no safetensors file, or its header is damaged"
    if size < whole:
        return f"is cut short: {size} bytes of {whole}"
    return f"has {size - whole} bytes that belong to no tensor" if size > whole else ""


def _as_long_as_its_shape(entry: Entry) -> bool:
    begin, end = entry.data_offsets
    bits = _DTYPE_BITS.get(entry.dtype)
    return bits is None or -(-bits * count(entry.shape) // 8) == end - begin


def is_pointer(path: Path) -> bool:
    """Is this a pointer of Git LFS in place of the file? False for what cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


class Entry(msgspec.Struct, frozen=True):
    """A tensor in a header. dtype is empty for what is none: `__metadata__` lies among them."""

    dtype: str = ""
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    data_offsets: tuple[int, int] = (0, 0)


def _header(path: Path) -> tuple[int, dict[str, Entry]]:
    """(where the tensors begin in bytes, name → entry); ValueError for what is no header, or no entry of one."""
    state = path.stat()
    return _parsed(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _parsed(path: Path, _size: int, _changed: int) -> tuple[int, dict[str, Entry]]:
    """As `_header`; the same file is looked at for its damage, its tensors and its size."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MAX_HEADER:
            raise ValueError(f"a header of {size} bytes")
        try:
            header = msgspec.json.decode(file.read(size), type=dict[str, Entry])
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None
    header.pop("__metadata__", None)
    if any(entry.dtype == "" for entry in header.values()):
        raise ValueError("an entry that is no tensor")
    return 8 + size, header


def dtype_bits(dtype: str) -> float:
    """Of one value of a dtype of safetensors or type of GGML, scales included; those that are not listed have eight."""
    return _DTYPE_BITS.get(dtype) or gguf.BITS.get(dtype, 8)


def count(shape: tuple[int, ...]) -> int:
    """Values of a tensor."""
    return math.prod(shape)
