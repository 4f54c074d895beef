"""What the judging and reporting jobs get of the configuration: the types of their narrow params."""

from __future__ import annotations

from typing import Any

from quantbench.records.base import Number, Record
from quantbench.records.cell import Cell
from quantbench.records.comparison import Primary
from quantbench.records.metric import Style


class ComparisonPlan(Record, frozen=True, kw_only=True):
    """What the verdict depends on beside the blocks; precision: the wanted half-width, None where none is."""

    baseline: str
    gpu_name: str
    variants: tuple[str, ...]
    primary: Primary
    margin: float
    precision: float | None
    blocks: int
    most_blocks: int


class WorkloadPlan(Record, frozen=True, kw_only=True):
    """A workload: its style, and the (concurrency, max_tokens) of its grid."""

    style: Style
    cells: tuple[tuple[int, int], ...]


class ReportPlan(Record, frozen=True, kw_only=True):
    """What pages and decisions depend on beside the result files; no price, which is in cost.json."""

    gpu: str
    gpu_name: str
    baseline: str
    variants: tuple[str, ...]
    labels: dict[str, str]
    load_formats: dict[str, str] = {}
    server_differences: dict[str, dict[str, Any]] = {}
    workloads: dict[str, WorkloadPlan]
    primary: Primary
    margin: float
    predictions: dict[str, str | Number | None] = {}

    def grid(self, workload: str) -> list[Cell]:
        """The grid of a workload."""
        return [Cell.of(workload, concurrency, tokens) for concurrency, tokens in self.workloads[workload].cells]
