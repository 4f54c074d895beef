"""A cell: one point of the grid. Everything that is measured, compared, priced and shown is so of one cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from quantbench.records.base import Record

AA_SUFFIX: Final = "__aa"
"""The arm that measures the baseline a second time, as if it were a variant; `__` cannot occur in a model's name."""
_KEY = re.compile(r"(.+)/c([1-9]\d*)_t([1-9]\d*)")


def served_model(arm: str) -> str:
    """The model behind an arm: `bf16__aa` is served by `bf16`."""
    return arm.removesuffix(AA_SUFFIX)


@dataclass(frozen=True, order=True, slots=True)
class ClosedLoop:
    """A load: so many requests in flight, each answered one replaced at once."""

    concurrency: int

    @property
    def key(self) -> str:
        """ "c16", as in paths."""
        return f"c{self.concurrency}"

    @property
    def label(self) -> str:
        """ "c=16", as in prose."""
        return f"c={self.concurrency}"


Load = ClosedLoop
"""Another kind of load (an open loop of some rate) joins here: a class with `key` and `label`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One (workload, load, max_tokens). Cells sort by workload, max_tokens, load."""

    workload: str
    load: Load
    max_tokens: int

    @classmethod
    def of(cls, workload: str, concurrency: int, max_tokens: int) -> Cell:
        """A cell of a closed loop."""
        return cls(str(workload), ClosedLoop(int(concurrency)), int(max_tokens))

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Cell:
        """The cell of a mapping with the columns workload, concurrency, max_tokens."""
        return cls.of(row["workload"], row["concurrency"], row["max_tokens"])

    @classmethod
    def parse(cls, key: str) -> Cell | None:
        """The inverse of `key`; None for anything else."""
        match = _KEY.fullmatch(key)
        return cls.of(match[1], int(match[2]), int(match[3])) if match else None

    @property
    def concurrency(self) -> int:
        """Requests in flight."""
        return self.load.concurrency

    @property
    def point(self) -> str:
        """ "c16_t128": the cell within its workload."""
        return f"{self.load.key}_t{self.max_tokens}"

    @property
    def key(self) -> str:
        """ "chat/c16_t128": the cell in paths, in `extra_blocks` and in errors."""
        return f"{self.workload}/{self.point}"

    @property
    def columns(self) -> dict[str, Any]:
        """The cell as columns of a table."""
        return {"workload": self.workload, "concurrency": self.concurrency, "max_tokens": self.max_tokens}

    @property
    def order(self) -> tuple[str, int, Load]:
        """The order in which cells are listed."""
        return self.workload, self.max_tokens, self.load

    def __lt__(self, other: Cell) -> bool:
        return self.order < other.order

    def label(self, *, with_tokens: bool) -> str:
        """ "c=8", or "c=8 (max_tokens=128)" where cells differ in it."""
        return f"{self.load.label} (max_tokens={self.max_tokens})" if with_tokens else self.load.label


class InCell(Record, frozen=True, kw_only=True):
    """A record that is of one cell; on disk the cell is three keys."""

    workload: str
    concurrency: int
    max_tokens: int

    @property
    def cell(self) -> Cell:
        """The cell that it is of."""
        return Cell.of(self.workload, self.concurrency, self.max_tokens)
