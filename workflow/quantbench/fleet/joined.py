"""What the comparisons of a fleet say together: one table, one plot, one page below `fleets/{fleet}/joined/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quantbench import files
from quantbench.fleet import folder, inner
from quantbench.fleet.comparisons import Fleet
from quantbench.records.base import read
from quantbench.records.fleet import Done, Missing


def paths(fleet: str) -> dict[str, str]:
    """The files of a fleet, by what they are."""
    below = f"fleets/{fleet}/joined"
    return {"complete": f"{below}/complete.json"}


def write(fleet: Fleet) -> list[str]:
    """Write them of the comparisons that are done; lines for the person at the terminal."""
    complete = Path(paths(fleet.name)["complete"])
    complete.unlink(missing_ok=True)
    done, missing = list(_done(fleet)), list(_missing(fleet))
    if not missing:
        files.write_json(complete, {"comparisons": [one.comparison for one in done]})
    return [f"{one.comparison} is missing: {one.last_words}" for one in missing]


def _marker(fleet: Fleet, comparison: str) -> Path:
    return Path(f"fleets/{fleet.name}/{comparison}/{folder.DONE}")


def _done(fleet: Fleet) -> Iterator[Done]:
    for name in fleet.entries:
        if _marker(fleet, name).exists():
            yield read(_marker(fleet, name), Done)


def _missing(fleet: Fleet) -> Iterator[Missing]:
    for name in fleet.entries:
        if not _marker(fleet, name).exists():
            log = fleet.folder(name) / folder.LOG
            yield Missing(
                comparison=name,
                folder=fleet.shown(name),
                command=fleet.command(name),
                log=f"{fleet.shown(name)}/{folder.LOG}" if log.exists() else None,
                last_words=inner.last_words_of(log),
            )
