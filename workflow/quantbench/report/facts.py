"""Everything that a report may say, as read from the result files: one object, no file access. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Cell = tuple[int, int]  # concurrency, max_tokens


def cell_of(row: Mapping[str, Any]) -> Cell:
    """The cell of a row that names concurrency and max_tokens."""
    return int(row["concurrency"]), int(row["max_tokens"])


def cell_words(cell: Cell, among: Iterable[Cell]) -> str:
    """ "c=8", with max_tokens where `among` differ in it: "c=8 (max_tokens=128)"."""
    several = len({tokens for _, tokens in among}) > 1
    return f"c={cell[0]}" + (f" (max_tokens={cell[1]})" if several else "")


@dataclass(frozen=True)
class Facts:
    """The result files of one GPU. Absent parts (no quality, no price) are empty.

    config       the narrow dict for reports, see `report_plan.report`
    verdict      comparison/verdict.json
    capacity     {workload: {model: rows of capacity/{workload}_{model}.csv}}
    memory       rows of memory.csv
    ready        {model: ready.json}
    measurement  measurement.json
    startup      rows of startup.csv
    impact       rows of comparison/chat_vs_batch.csv
    quality      {variant: quality_details.json of that pair}
    cost         cost.json
    command      the words of the snakemake line that repeats the run, see `command_line`
    """

    config: Json
    verdict: Json
    capacity: Mapping[str, Mapping[str, list[Json]]]
    memory: list[Json]
    ready: Mapping[str, Json]
    measurement: Json
    startup: list[Json] = field(default_factory=list)
    impact: list[Json] = field(default_factory=list)
    quality: Mapping[str, Json] = field(default_factory=dict)
    cost: Json = field(default_factory=dict)
    command: Sequence[str] = ()

    @property
    def baseline(self) -> str:
        """Key of the model that all others are compared with."""
        return str(self.config["baseline"])

    @property
    def variants(self) -> list[str]:
        """Keys of the quantized models, in order."""
        return list(self.config["variants"])

    @property
    def models(self) -> list[str]:
        """The baseline and the variants."""
        return [self.baseline, *self.variants]

    @property
    def rows(self) -> list[Json]:
        """All comparison rows."""
        return list(self.verdict.get("rows", []))

    @property
    def gpu_name(self) -> str:
        """The machine, as in the gpu_name column."""
        return str(self.measurement.get("gpu_name") or self.config["gpu_name"])

    @property
    def most_blocks(self) -> int:
        """`refine.max_blocks`: a comparison that needs more blocks is out of reach."""
        return int(self.verdict["precision"]["most_blocks"])

    def label(self, model: str) -> str:
        """A model's name in prose."""
        return str(self.config["labels"].get(model) or model)

    def workloads(self, style: str | None = None) -> list[str]:
        """Workloads in the order of the config, of one style if given."""
        entries = self.config["workloads"]
        return [name for name, entry in entries.items() if style is None or entry["style"] == style]

    def cells(self, workload: str) -> list[Cell]:
        """Cells of a workload that any model has, by max_tokens and concurrency."""
        found = {cell_of(row) for rows in self.capacity.get(workload, {}).values() for row in rows}
        return sorted(found, key=lambda cell: (cell[1], cell[0]))

    def compared(
        self, workload: str | None = None, variant: str | None = None, metric: str | None = None
    ) -> Iterable[Json]:
        """Comparison rows that match what is given."""
        wanted = {"workload": workload, "variant": variant, "metric": metric}
        return (row for row in self.rows if all(v is None or row[k] == v for k, v in wanted.items()))

    def row(self, workload: str, variant: str, cell: Cell, metric: str) -> Json | None:
        """The comparison of one metric in one cell, None where there is none."""
        for row in self.compared(workload, variant, metric):
            if cell_of(row) == cell:
                return row
        return None

    def capacity_row(self, workload: str, model: str, cell: Cell) -> Json | None:
        """The tuple CSV's row of one model and cell."""
        for row in self.capacity.get(workload, {}).get(model, []):
            if cell_of(row) == cell:
                return row
        return None

    def deciding_cell(self, workload: str) -> Cell | None:
        """The declared primary cell; elsewhere the grid's highest concurrency, at its lowest max_tokens."""
        primary = self.config["primary"]
        if workload == primary["workload"]:
            return cell_of(primary)
        grid = [(int(c), int(t)) for c, t in self.config["workloads"][workload]["cells"]]
        return max(grid, key=lambda cell: (cell[0], -cell[1]), default=None)

    def place(self, workload: str, cell: Cell) -> str:
        """ "c=8", with max_tokens where the workload has several: "c=8 (max_tokens=128)"."""
        return cell_words(cell, self.cells(workload))

    def memory_of(self, model: str) -> Json:
        """The row of memory.csv, empty where absent."""
        return next((row for row in self.memory if row["model"] == model), {})

    def measured_cell(self, workload: str, model: str, cell: Cell) -> Json:
        """What measurement.json says about one model's cell, empty where absent."""
        wanted = (model, workload, *cell)
        keys = ("model", "workload", "concurrency", "max_tokens")
        return next((row for row in self.measurement.get("cells", []) if tuple(row[k] for k in keys) == wanted), {})
