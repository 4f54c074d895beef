"""Rows of the tables of a run: the tuple CSV, memory.csv, startup.csv, comparison/chat_vs_batch.csv."""

from __future__ import annotations

from typing import Any, Literal

from quantbench.records.base import Number, Record
from quantbench.records.cell import Cell, InCell
from quantbench.records.comparison import Code


class CapacityRow(InCell, frozen=True, kw_only=True):
    """One row of a capacity table: a model in a cell.

    values: the figures of the row by column name: the metrics of `metric.METRICS`, their limits (`…_lo`, `…_hi`), the
    client's and the server's columns. blocks: valid ones. reasons: ids of guards and codes on single figures.
    """

    gpu_name: str | None
    model: str
    values: dict[str, Any]
    blocks: int
    blocks_invalid: int = 0
    valid: bool
    reasons: tuple[str, ...] = ()

    def number(self, column: str) -> Number | None:
        """A figure, None where it is blank or no number."""
        value = self.values.get(column)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


class MemoryRow(Record, frozen=True, kw_only=True):
    """A model's memory: MiB around the start, GiB by purpose, reductions against the baseline in percent.

    gpus: how many serve it; GiB by purpose are of each of them, tokens and MiB of all, reductions of the weights too.
    concurrency_at_length: how many requests of `length_tokens`, the longest of the run, the KV cache holds at once.
    missing: why a figure is blank. sources: who says the others (`nvml`, `rss`, `files`, `log`).
    """

    model: str
    label: str
    quantization: str | None = None
    kernel: str | None = None
    bits_per_weight: float | None = None
    vram_source: str | None = None
    vram_before_mib: float | None = None
    vram_after_mib: float | None = None
    vram_delta_mib: float | None = None
    vram_total_mib: float | None = None
    vram_delta_reduction_pct: float | None = None
    weights_gib: float | None = None
    weights_reduction_pct: float | None = None
    checkpoint_gib: float | None = None
    checkpoint_reduction_pct: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_tokens: Number | None = None
    max_concurrency: float | None = None
    activation_peak_gib: float | None = None
    cuda_graphs_gib: float | None = None
    non_torch_gib: float | None = None
    kv_cache_tokens_ratio: float | None = None
    length_tokens: int | None = None
    concurrency_at_length: int | None = None
    gpus: int = 1
    after_stop_mib: float | None = None
    memory_returned: bool | None = None
    sources: str = ""
    missing: str = ""


class StartupRow(Record, frozen=True, kw_only=True):
    """Seconds per start-up phase. source: `run` (the start that the run needed) or `startup_rounds` (medians)."""

    model: str
    label: str
    source: Literal["run", "startup_rounds"]
    compile_cache: str | None
    starts: int
    weights_s: float | None = None
    compile_s: float | None = None
    warmup_s: float | None = None
    graphs_s: float | None = None
    engine_init_s: float | None = None
    total_s: float | None = None
    total_min_s: float | None = None
    total_max_s: float | None = None


HelpsMore = Literal["chat", "batch", "not told apart", "unknown"]


class ImpactRow(Record, frozen=True, kw_only=True):
    """Chat against batch for one variant: both throughput ratios, their quotient (batch / chat) with its CI.

    hypothesis: id of a cause that would explain it; on disk the column holds its sentence. reason: why there is no
    quotient, as `side: why; …`.
    """

    baseline: str
    variant: str
    chat_workload: str | None = None
    chat_concurrency: int | None = None
    chat_max_tokens: int | None = None
    batch_workload: str | None = None
    batch_concurrency: int | None = None
    batch_max_tokens: int | None = None
    chat_ratio: float | None = None
    chat_ci_low: float | None = None
    chat_ci_high: float | None = None
    chat_code: Code | None = None
    batch_ratio: float | None = None
    batch_ci_low: float | None = None
    batch_ci_high: float | None = None
    batch_code: Code | None = None
    quotient: float | None = None
    quotient_ci_low: float | None = None
    quotient_ci_high: float | None = None
    helps_more: HelpsMore = "unknown"
    hypothesis: str | None = None
    evidence: str | None = None
    reason: str | None = None

    def side(self, side: Literal["chat", "batch"]) -> Cell | None:
        """The cell of one side."""
        workload = getattr(self, f"{side}_workload")
        concurrency, max_tokens = getattr(self, f"{side}_concurrency"), getattr(self, f"{side}_max_tokens")
        return None if workload is None else Cell.of(workload, concurrency, max_tokens)
