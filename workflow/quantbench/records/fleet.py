"""A fleet: the comparisons of its file, the marker of one that is done, and the rows of the joined table."""

from __future__ import annotations

from typing import Any

from quantbench.records.base import Record
from quantbench.records.cell import InCell
from quantbench.records.comparison import Code
from quantbench.records.decision import Action
from quantbench.records.metric import Style
from quantbench.records.suite import GateStatus


class Resources(Record, frozen=True, kw_only=True):
    """What one comparison needs of a scheduler; None is left to the scheduler's default."""

    gpus: int | None = None
    gpu_model: str | None = None
    cpus: int = 1
    mem_mb: int = 32_000
    runtime_min: int | None = None
    partition: str | None = None
    account: str | None = None


class Entry(Record, frozen=True, kw_only=True):
    """One comparison of a fleet file. configfiles: paths from the folder of the repository; config: goes over them."""

    configfiles: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    resources: Resources = Resources()


class Done(Record, frozen=True, kw_only=True):
    """`fleets/{fleet}/{comparison}.json`: a comparison whose run has succeeded.

    gpu: profile of its results; folder: where it ran; results: below that; command: the words that repeat it there.
    finished_at: ISO (UTC). versions: of the pipeline's parts; protocol and judged_by are those of the measuring and the
    judging code.
    """

    fleet: str
    comparison: str
    gpu: str
    folder: str
    results: str
    command: tuple[str, ...]
    finished_at: str
    protocol: int
    judged_by: str
    versions: dict[str, str] = {}


class Missing(Record, frozen=True, kw_only=True):
    """A comparison that is not done. last_words: why its run ended, as the run has said it; log: None: never begun."""

    comparison: str
    folder: str
    command: tuple[str, ...]
    log: str | None = None
    last_words: str = ""


class FleetRow(InCell, frozen=True, kw_only=True):
    """One model at one point of one comparison: a row of `joined/fleet.csv`, all of that comparison's own files.

    folder: of the comparison, from the folder of the repository. throughput_tok_s_lo, _hi: 95 % interval over its valid
    blocks. ratio: tokens/s (per GPU, where another number of GPUs serves the variant) against the baseline of the
    comparison, with its 95 % interval and code. deciding: the point that decides its workload. quality: the gate's word
    on the use that the workload's style stands for; quality_loss: share of the answers lost there. gate: its word on
    every use, as `use: word`. trusted: the A/A control found no difference. missing: why figures are
    blank, as `column: CODE`.
    """

    comparison: str
    folder: str
    gpu: str
    gpu_name: str
    model: str
    label: str
    baseline: str
    style: Style
    deciding: bool
    blocks: int
    valid: bool
    throughput_tok_s: float | None = None
    throughput_tok_s_lo: float | None = None
    throughput_tok_s_hi: float | None = None
    p95_ttft_ms: float | None = None
    currency: str | None = None
    cost_per_1m_tokens: float | None = None
    j_per_token: float | None = None
    weights_gib: float | None = None
    kv_cache_gib: float | None = None
    vram_delta_mib: float | None = None
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    code: Code | None = None
    quality: GateStatus | None = None
    quality_loss: float | None = None
    gate: tuple[str, ...] = ()
    action: Action | None = None
    trusted: bool = True
    vllm: str | None = None
    protocol: int
    judged_by: str
    missing: tuple[str, ...] = ()


class Joined(Record, frozen=True, kw_only=True):
    """What a fleet says together: `joined/` is made of it, and of nothing else."""

    fleet: str
    done: tuple[Done, ...]
    missing: tuple[Missing, ...]
    rows: tuple[FleetRow, ...]
