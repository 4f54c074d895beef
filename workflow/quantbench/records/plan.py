"""What the judging and reporting jobs get of the configuration: the types of their narrow params."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from quantbench.records.base import Number, Record
from quantbench.records.cell import Cell
from quantbench.records.comparison import Primary
from quantbench.records.metric import Style
from quantbench.records.server import Unfit

Factor = Literal["weights", "kv_cache", "speculative", "gpus", "engine", "max_model_len"]


class ArmPlan(Record, frozen=True, kw_only=True):
    """What is declared of a model: the GPUs that serve it, and all in which it may differ from the baseline."""

    gpus: int = 1
    differs_in: tuple[Factor, ...] = ("weights",)


BASELINE = ArmPlan(differs_in=())
"""The model that others are declared to differ from."""
VARIANT = ArmPlan()
"""What a model is that declares nothing."""


def start_of(block: int, blocks: int, starts: int) -> int:
    """Which start (1, 2, …) of its server block `block` (1, 2, …) of a cell is of.

    The `blocks` of the plan are divided over the starts in order; those that came later are of the last one.
    """
    return min(starts, 1 + (block - 1) * starts // blocks)


class IsoPlan(Record, frozen=True, kw_only=True):
    """`iso_memory` of a workload: each model with as many requests of `length` tokens in flight as fit it.

    concurrency and limits (max_num_seqs) by model. measured: false where the same number fits all models.
    """

    length: int
    max_tokens: int
    concurrency: dict[str, int]
    limits: dict[str, int]
    measured: bool = True

    def cell(self, workload: str, model: str) -> Cell | None:
        """Where a model is measured; None where it is not."""
        of = self.concurrency.get(model) if self.measured else None
        return None if of is None else Cell.of(workload, of, self.max_tokens)


class ComparisonPlan(Record, frozen=True, kw_only=True):
    """What the verdict depends on beside the blocks; precision: the wanted half-width, None where none is.

    starts: how often each server is started for its blocks. until_decided: of blocks beyond `blocks`
    those that do not tell how they came, came by `judge.rounds`.
    """

    baseline: str
    gpu_name: str
    variants: tuple[str, ...]
    primary: Primary
    margin: float
    precision: float | None
    blocks: int
    most_blocks: int
    starts: int = 1
    until_decided: bool = False
    arms: dict[str, ArmPlan] = {}
    iso_memory: dict[str, IsoPlan] = {}

    def gpus(self, model: str) -> int:
        """How many GPUs serve a model."""
        return self.arms[model].gpus if model in self.arms else 1


class WorkloadPlan(Record, frozen=True, kw_only=True):
    """A workload: its style, and the (concurrency, max_tokens) of its grid."""

    style: Style
    cells: tuple[tuple[int, int], ...]


class ReportPlan(Record, frozen=True, kw_only=True):
    """What pages and decisions depend on beside the result files; no price, which is in cost.json.

    baseline: what the variants are compared with. Where the declared one is `unfit`, it is a variant that stands in.
    quality_margins: the loss of answers that is held to be harmless, by use; `default` for others.
    """

    gpu: str
    gpu_name: str
    baseline: str
    variants: tuple[str, ...]
    labels: dict[str, str]
    load_formats: dict[str, str] = {}
    server_differences: dict[str, dict[str, Any]] = {}
    arms: dict[str, ArmPlan] = {}
    unfit: dict[str, Unfit] = {}
    declared_baseline: str = ""
    workloads: dict[str, WorkloadPlan]
    primary: Primary
    margin: float
    predictions: dict[str, str | Number | None] = {}
    iso_memory: dict[str, IsoPlan] = {}
    quality_margins: dict[str, float] = field(default_factory=lambda: {"chat": 0.02, "default": 0.05})

    def arm(self, model: str) -> ArmPlan:
        """What is declared of a model."""
        return self.arms.get(model, BASELINE if model == self.baseline else VARIANT)

    def grid(self, workload: str) -> list[Cell]:
        """The grid of a workload."""
        return [Cell.of(workload, concurrency, tokens) for concurrency, tokens in self.workloads[workload].cells]
