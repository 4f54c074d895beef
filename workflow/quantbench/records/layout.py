"""Where everything lies: all paths of a run, once. Nothing here looks at a disk.

A path is a template with the wildcards of snakemake's rules: `Results("h100").pattern("cell")` is what a rule names,
`Results("h100").cell(arm, cell)` one of its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantbench.records.cell import Cell

POINT: Final = "c{concurrency}_t{max_tokens}"
PATHS: Final[dict[str, str]] = {
    # name: path below results/{gpu}
    "serve_sh": "servers/{model}/serve.sh",
    "ready": "servers/{model}/ready.json",
    "session": "servers/{model}/session.json",
    "startup": "servers/{model}/startup.json",
    "server_log": "servers/{model}/server.log",
    "lanes": "servers/lanes.json",
    "unfit": "servers/unfit.json",
    "iso_fits": "servers/iso_memory.json",
    "block": f"raw/{{arm}}/{{workload}}/{POINT}/b{{block}}.json",
    "records": f"raw/{{arm}}/{{workload}}/{POINT}/b{{block}}.parquet",
    "measured": f"raw/{{arm}}/{{workload}}/{POINT}/measured.json",
    "calibration": "client/calibration_c{concurrency}.json",
    "cell": f"cells/{{arm}}/{{workload}}/{POINT}.csv",
    "capacity": "capacity/{workload}_{model}.csv",
    "comparison": "comparison/{workload}.csv",
    "verdict": "comparison/verdict.json",
    "iso_memory": "comparison/iso_memory.csv",
    "impact": "comparison/chat_vs_batch.csv",
    "memory": "memory.csv",
    "startup_table": "startup.csv",
    "further": "further.json",
    "measurement": "measurement.json",
    "answers": "answers/{model}.json",
    "answered_with": "servers/{model}/answered_with.json",
    "quality": "quality_{variant}.json",
    "quality_details": "quality_details_{variant}.json",
    "first_quality": "quality.json",
    "first_quality_details": "quality_details.json",
    "collected": "suites/{suite}/{model}.json",
    "collected_with": "suites/{suite}/{model}.with.json",
    "kept_items": "suites/{suite}/{model}.kept.jsonl",
    "suite_score": "suites/{suite}/{variant}.score.json",
    "cost": "cost.json",
    "decision": "decision.json",
    "page": "report/{page}.md",
    "report": "report/report.html",
    "plots": "report/plots",
}
TUPLE_LOG: Final = f"logs/{{gpu}}/measure_tuple/{{arm}}/{{workload}}/{POINT}.log"
"""What the job of a tuple, and the process that measures for it, have to say; below the working folder."""


def is_place_of(path: Path, arm: str, cell: Cell, number: int) -> bool:
    """Whether a file of a block lies where just this block belongs."""
    return "/".join((*path.parts[-4:-1], path.stem)) == f"{arm}/{cell.key}/b{number}"


@dataclass(frozen=True)
class Results:
    """The result files of one profile. `below` is the folder that holds `results/`, for those who look at the disk."""

    gpu: str
    below: Path = Path()

    @property
    def root(self) -> str:
        """The folder of the profile's results, relative to the working folder."""
        return f"results/{self.gpu}"

    def pattern(self, name: str) -> str:
        """The path of a kind of file, wildcards in braces."""
        return f"{self.root}/{PATHS[name]}"

    def path(self, name: str, cell: Cell | None = None, **wildcards: str | int) -> str:
        """The path of one file; with "*" for a wildcard a pattern of several."""
        of_cell = cell.columns if cell else {}
        return f"{self.root}/{PATHS[name].format(**of_cell, **wildcards)}"

    def file(self, name: str, cell: Cell | None = None, **wildcards: str | int) -> Path:
        """The same, on the disk."""
        return self.below / self.path(name, cell, **wildcards)


@dataclass(frozen=True)
class Folder(Results):
    """The same files in a folder of any name: results that were kept, copied or downloaded. `below` is the folder."""

    @property
    def root(self) -> str:
        """The folder itself."""
        return "."
