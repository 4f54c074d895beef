"""What the plan wants blocks and servers to be measured with: what is kept is compared with it, wherever it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantbench.config.configuration import Plan
from quantbench.errors import QuantbenchError
from quantbench.records.base import convert
from quantbench.records.block import BlockKnobs, MeasuredWith, ServedWith
from quantbench.records.cell import Cell, served_model

KEY = "measured_with"
"""Where the configuration that jobs get has it."""


@dataclass(frozen=True)
class Expected:
    """servers: by model. prompts: SHA-256 of the prompt file, by workload."""

    plan: Plan
    servers: Mapping[str, ServedWith]
    prompts: Mapping[str, str | None]
    _blocks: dict[tuple[str, Cell], MeasuredWith | None] = field(default_factory=dict, compare=False, repr=False)

    def block(self, arm: str, cell: Cell) -> MeasuredWith | None:
        """For a block of this cell; None for a cell that this configuration cannot measure."""
        if (arm, cell) not in self._blocks:  # each block of a cell asks this
            self._blocks[arm, cell] = self._block(arm, cell)
        return self._blocks[arm, cell]

    def _block(self, arm: str, cell: Cell) -> MeasuredWith | None:
        server = self.servers.get(served_model(arm))
        if server is None or cell.workload not in self.prompts:
            return None
        try:
            knobs = convert(self.plan.block_knobs(cell), BlockKnobs)
        except QuantbenchError:
            return None
        return MeasuredWith(server=server, knobs=knobs, prompts=self.prompts[cell.workload])

    def wanted(self, arm: str, cell: Cell) -> MeasuredWith:
        """The same for a block that is to be measured, so that there is one."""
        if (wanted := self.block(arm, cell)) is None:
            raise QuantbenchError(f"{arm} {cell.key} is not in the configuration", remedy="ask for a tuple that is")
        return wanted

    def as_config(self) -> dict[str, Any]:
        """As plain values, for the configuration of jobs."""
        return {"servers": {name: s.as_dict() for name, s in self.servers.items()}, "prompts": dict(self.prompts)}


def of_config(config: Mapping[str, Any]) -> Expected | None:
    """What a job's configuration has; None where it has nothing of it."""
    return of_run(config) if KEY in config else None


def of_run(config: Mapping[str, Any]) -> Expected:
    """The same for a job that measures."""
    given = config[KEY]
    servers = {name: convert(server, ServedWith) for name, server in given["servers"].items()}
    return Expected(Plan(dict(config)), servers, given["prompts"])
