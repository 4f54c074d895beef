"""What servers have answered, item by item, in a file that is only ever appended to.

It is no output of a rule: it outlives what Snakemake deletes before a job, a job that is killed, and a change of the
configuration. A line is a server, or an answer of the last server above it.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from quantbench.files import unwritable
from quantbench.judge import provenance
from quantbench.records import base
from quantbench.records.block import ServedWith
from quantbench.records.suite import KeptItem


class KeptItems(MutableMapping[str, Any]):
    """The answers of one server; those of others stay in the file. What is set is written at once.

    wanted: the server whose answers count. `begin` says which one is asked before anything is set.
    """

    def __init__(self, path: Path, wanted: ServedWith) -> None:
        self.path, self.server = path, wanted
        self._items: dict[str, Any] = {}
        fits = False
        for line in _lines(path):
            if line.server is not None:
                fits = not provenance.server_differences(line.server, wanted)
                self.server = line.server if fits else self.server
            elif fits:
                self._items[line.key] = line.value

    def begin(self, server: ServedWith) -> None:
        """From here on this server answers."""
        self.server = server
        self._append(b"\n" + base.line(KeptItem(server=server)))  # what a killed job has half written ends here

    def _append(self, line: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def __setitem__(self, key: str, value: Any) -> None:
        self._append(base.line(KeptItem(key=key, value=value)))
        self._items[key] = value

    def __delitem__(self, key: str) -> None:
        raise TypeError("what was answered stays")

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def _lines(path: Path) -> Iterator[KeptItem]:
    """The lines that are whole: the last of a job that was killed may not be."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with suppress(msgspec.DecodeError):
            yield msgspec.json.decode(line, type=KeptItem)
