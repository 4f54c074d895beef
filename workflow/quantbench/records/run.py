"""A run: all result files of one profile, typed, in one object. Judging and reporting read nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison, Verdict
from quantbench.records.cost import CorrectCost, Cost, CostRow, Saving
from quantbench.records.decision import Decision
from quantbench.records.measurement import CellUse, Measurement
from quantbench.records.metric import PER_GPU, SPEED
from quantbench.records.natural import Natural
from quantbench.records.plan import ReportPlan
from quantbench.records.quality import QualityDetails
from quantbench.records.server import Ready, Startup
from quantbench.records.suite import GateUse, GateVerdict, SuiteScore
from quantbench.records.tables import CapacityRow, ImpactRow, MemoryRow, StartupRow


@dataclass(frozen=True)
class Run:
    """Absent parts (no quality, no price, not judged yet) are empty or None.

    capacity: rows of all capacity tables. quality: {variant: details}. suites: {variant: the scores of its suites, in
    the order of the configuration}. command: the words of the snakemake line that repeats the run.
    """

    plan: ReportPlan
    verdict: Verdict
    capacity: Sequence[CapacityRow]
    memory: Sequence[MemoryRow]
    ready: Mapping[str, Ready]
    measurement: Measurement
    startup: Sequence[StartupRow] = ()
    impact: Sequence[ImpactRow] = ()
    quality: Mapping[str, QualityDetails] = field(default_factory=dict)
    suites: Mapping[str, Sequence[SuiteScore]] = field(default_factory=dict)
    cost: Cost | None = None
    decision: Decision | None = None
    command: Sequence[str] = ()

    @property
    def baseline(self) -> str:
        """The model that all others are compared with."""
        return self.plan.baseline

    @property
    def variants(self) -> list[str]:
        """The quantized models, in order."""
        return list(self.plan.variants)

    @property
    def models(self) -> list[str]:
        """The baseline and the variants."""
        return [self.baseline, *self.variants]

    @property
    def trusted(self) -> bool:
        """Whether the A/A control found no difference of the baseline from itself."""
        return self.verdict.trusted

    @property
    def on_cpu(self) -> bool:
        """Whether the models ran without a card: what their memory was read from is their processes'."""
        return {row.vram_source for row in self.memory} == {"rss"}

    @property
    def most_blocks(self) -> int:
        """`refine.max_blocks`: a comparison that needs more blocks is out of reach."""
        return self.verdict.precision.most_blocks

    def label(self, model: str) -> str:
        """A model's name in prose."""
        return self.plan.labels.get(model) or model

    def workloads(self, style: str | None = None) -> list[str]:
        """Workloads in the order of the configuration, of one style if given."""
        return [name for name, entry in self.plan.workloads.items() if style in (None, entry.style)]

    def style(self, workload: str) -> str:
        """interactive or batch."""
        return self.plan.workloads[workload].style

    def cells(self, workload: str) -> Sequence[Cell]:
        """Cells of a workload that any model has, by max_tokens and load."""
        return self._cells_of.get(workload, ())

    def lengths(self, workload: str) -> Sequence[int]:
        """The max_tokens of a workload's cells, rising."""
        return self._lengths_of.get(workload, ())

    def place(self, cell: Cell) -> str:
        """ "c=8", with max_tokens where the workload has several."""
        return cell.label(with_tokens=len(self.lengths(cell.workload)) > 1)

    # What pages ask for once per cell is looked up, not searched for.
    @cached_property
    def _cells_of(self) -> dict[str, tuple[Cell, ...]]:
        cells = sorted({row.cell for row in self.capacity})
        return {name: tuple(some) for name, some in groupby(cells, key=lambda cell: cell.workload)}

    @cached_property
    def _lengths_of(self) -> dict[str, list[int]]:
        return {name: sorted({cell.max_tokens for cell in cells}) for name, cells in self._cells_of.items()}

    def deciding_cell(self, workload: str) -> Cell | None:
        """The declared primary cell; elsewhere the grid's highest concurrency, at its lowest max_tokens."""
        if workload == self.plan.primary.workload:
            return self.plan.primary.cell
        return max(self.plan.grid(workload), key=lambda cell: (cell.load, -cell.max_tokens), default=None)

    def compared(
        self, workload: str | None = None, variant: str | None = None, metric: str | None = None
    ) -> Iterator[Comparison]:
        """Comparisons that match what is given, by cell."""
        for row in self._rows:
            if workload in (None, row.workload) and variant in (None, row.variant) and metric in (None, row.metric):
                yield row

    @cached_property
    def _rows(self) -> list[Comparison]:
        return sorted(self.verdict.rows, key=lambda row: (row.max_tokens, row.concurrency))

    @cached_property
    def _row_of(self) -> dict[tuple[str, Cell | None, str], Comparison]:
        return {(row.variant, row.cell, row.metric): row for row in self._rows}

    @cached_property
    def _capacity_of(self) -> dict[tuple[str, Cell | None], CapacityRow]:
        return {(row.model, row.cell): row for row in self.capacity}

    def row(self, variant: str, cell: Cell | None, metric: str) -> Comparison | None:
        """The comparison of one metric in one cell, None where there is none."""
        return self._row_of.get((variant, cell, metric))

    def speed_row(self, variant: str, cell: Cell | None) -> Comparison | None:
        """The comparison that says whether a variant is faster: per GPU where another number of them serves it."""
        return self.row(variant, cell, PER_GPU) or self.row(variant, cell, SPEED)

    @cached_property
    def _use_of(self) -> dict[tuple[str, Cell | None], CellUse]:
        return {(use.model, use.cell): use for use in self.measurement.cells}

    @cached_property
    def _cost_of(self) -> dict[tuple[str, Cell | None], CostRow]:
        return {(row.model, row.cell): row for row in self.cost.rows} if self.cost else {}

    @cached_property
    def _saving_of(self) -> dict[tuple[str, Cell | None], Saving]:
        return {(row.variant, row.cell): row for row in self.cost.savings} if self.cost else {}

    @cached_property
    def _correct_of(self) -> dict[tuple[str, Cell | None], CorrectCost]:
        return {(row.variant, row.cell): row for row in self.cost.correct} if self.cost else {}

    def capacity_row(self, model: str, cell: Cell | None) -> CapacityRow | None:
        """The tuple of one model and cell."""
        return self._capacity_of.get((model, cell))

    def memory_of(self, model: str) -> MemoryRow:
        """A model's memory; all blank where it is not known."""
        known = (row for row in self.memory if row.model == model)
        return next(known, MemoryRow(model=model, label=self.label(model)))

    def startup_of(self, model: str) -> Startup:
        """The start that the run needed; all blank where it is not known."""
        return self.ready[model].startup if model in self.ready else Startup()

    def measured_cell(self, model: str, cell: Cell | None) -> CellUse | None:
        """How one model's cell was measured."""
        return self._use_of.get((model, cell))

    def ceiling(self, variant: str, cell: Cell | None) -> float | None:
        """How many times faster than the baseline a variant could be, by the least that their steps need."""
        base, own = self.measured_cell(self.baseline, cell), self.measured_cell(variant, cell)
        if not (base and own and base.floor_ms and own.floor_ms):
            return None
        return base.floor_ms / own.floor_ms

    def gate(self, variant: str, use: GateUse) -> GateVerdict | None:
        """The gate's word on a use; None before the run is judged, and where no answers were compared."""
        verdicts = self.decision.gate.get(variant, ()) if self.decision else ()
        return next((verdict for verdict in verdicts if verdict.use == use), None)

    def cost_row(self, model: str, cell: Cell | None) -> CostRow | None:
        """What a model's tokens cost in a cell."""
        return self._cost_of.get((model, cell))

    def saving(self, variant: str, cell: Cell | None) -> Saving | None:
        """What a variant saves in a cell."""
        return self._saving_of.get((variant, cell))

    def natural(self, variant: str) -> Natural | None:
        """How a variant's answers end, where they were compared."""
        pairs = self.cost.natural if self.cost else ()
        return next((pair for pair in pairs if pair.variant == variant), None)

    def correct_cost(self, variant: str, cell: Cell | None) -> CorrectCost | None:
        """What a correct answer of a variant costs in a cell."""
        return self._correct_of.get((variant, cell))
