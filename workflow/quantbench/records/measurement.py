"""How a run was measured: `measurement.json`."""

from __future__ import annotations

from typing import Literal

from quantbench.records.base import Number, Record
from quantbench.records.block import Calibration, Part, Status
from quantbench.records.cell import InCell
from quantbench.records.server import Versions

BoundBy = Literal["memory", "compute", "kernels", "host", "front_end", "client"]


class RefusedBlock(InCell, frozen=True, kw_only=True):
    """A block that guards made invalid; details: the figures that they saw."""

    model: str
    block: int
    reasons: tuple[str, ...]
    details: tuple[str, ...]


class FarBlock(InCell, frozen=True, kw_only=True):
    """A valid block far from the others of its arm in its cell: its tok/s, and the median of theirs."""

    model: str
    block: int
    rate: float
    usual: float


class Blocks(Record, frozen=True, kw_only=True):
    """How many blocks there are, and which were refused."""

    total: int
    valid: int
    invalid: tuple[RefusedBlock, ...]
    cells: int
    fewest_per_cell: int
    most_per_cell: int


class Order(Record, frozen=True, kw_only=True):
    """How the arms followed each other: cells with more than one arm, and one of them as letters ("A B B A").

    Whether a comparison was interleaved stands in its row of verdict.json, and nowhere else.
    """

    cells: int
    example: str
    letters: dict[str, str]


class GuardCount(Record, frozen=True, kw_only=True):
    """In how many blocks a guard passed, failed, warned, could not tell; up to three details of failures."""

    id: str
    ok: int
    fail: int
    warn: int
    unknown: int
    details: tuple[str, ...] = ()


class Check(Record, frozen=True, kw_only=True):
    """A guard beyond single blocks: of a model's server, of a variant's comparison, or of the run."""

    id: str
    of: str
    status: Status
    detail: str


class LaneUse(Record, frozen=True, kw_only=True):
    """How lanes changed models: blocks per mode, wake-ups and their seconds, notes on fallbacks."""

    modes: dict[str, int]
    switches: int
    switch_s_median: float | None
    switch_s_max: float | None
    notes: tuple[str, ...] = ()


class Share(Record, frozen=True, kw_only=True):
    """Of the time that leases held lanes with the servers up, what lies inside measured blocks."""

    measured_s: float | None
    held_s: float | None
    share: float | None


class Wall(Record, frozen=True, kw_only=True):
    """Of the wall time from a lane's first block to the end of its last, what lies inside blocks.

    beside: share of it in which blocks of other lanes ran too, so that the host was loaded by both; None with one lane.
    """

    lane: str
    measured_s: float
    wall_s: float
    share: float | None
    longest_pause_s: float | None
    beside: float | None = None


class SessionUse(Record, frozen=True, kw_only=True):
    """What is said of one server's life."""

    mode: str | None
    memory_before_mib: float | None
    memory_after_stop_mib: float | None
    memory_returned: bool | None
    measured_s: float | None
    held_s: float | None
    events: dict[str, int]


class ClientUse(Record, frozen=True, kw_only=True):
    """The load client at its worst, over all blocks."""

    cpu_share_max: float | None
    loop_lag_p99_ms_max: float | None
    concurrency_held_min: float | None


class CellUse(InCell, frozen=True, kw_only=True):
    """One arm's cell: blocks, what limited most of them, telemetry means.

    bound: what bounds it (`observe.bound`). The shares are those of the measured time that reading and arithmetic take
    at least; step_ms: time per token of a request, floor_ms: the least that it can be. bound_reason: why one is blank.
    """

    model: str
    blocks: int
    valid: int
    bottleneck: Part
    bottleneck_blocks: int
    bottleneck_sentence: str | None
    preemptions: Number | None
    kv_usage_peak: float | None
    power_w_mean: float | None = None
    sm_clock_mhz_mean: float | None = None
    sm_clock_mhz_min: float | None = None
    temperature_c_max: float | None = None
    utilisation_pct_mean: float | None = None
    memory_used_mib_max: float | None = None
    bound: BoundBy | None = None
    bandwidth_share: float | None = None
    compute_share: float | None = None
    step_ms: float | None = None
    floor_ms: float | None = None
    bound_reason: str | None = None
    steal_share: float | None = None
    foreign_cpu_cores: float | None = None
    cpu_freq_mhz: float | None = None


class HostUse(Record, frozen=True, kw_only=True):
    """What the client's host did beside the blocks: CPUs, others' mean cores and the most of a block, worst shares.

    elsewhere: whether servers ran on hosts of their own, of which nothing is known.
    """

    cpus: int | None = None
    foreign_cpu_cores: float | None = None
    foreign_cpu_cores_max: float | None = None
    steal_share_max: float | None = None
    throttled_share_max: float | None = None
    elsewhere: bool = False


class ScatteredCell(InCell, frozen=True, kw_only=True):
    """An arm's cell whose valid blocks scatter: sd is that of their ln(tok/s)."""

    model: str
    blocks: int
    sd: float


class Offered(Record, frozen=True, kw_only=True):
    """A fact of blocks that goes with the scatter of their throughput, over cells: an explanation, not a proven cause.

    tau: Kendall's, with the sign of the fact; p_value: for all facts that were asked; blocks: those it is of.
    """

    fact: str
    tau: float
    p_value: float
    blocks: int


class Scatter(Record, frozen=True, kw_only=True):
    """Cells whose blocks scatter, the facts that varied enough to be asked, and what they offer, the surest first."""

    cells: tuple[ScatteredCell, ...] = ()
    asked: tuple[str, ...] = ()
    offered: tuple[Offered, ...] = ()


class ServerUse(Record, frozen=True, kw_only=True):
    """The servers' counters over all blocks, and the client's count of the same tokens."""

    prefix_cache_hits: Number | None
    preemptions: Number | None
    generation_tokens: Number | None
    client_tokens: Number
    incidents: dict[str, int]


class Gap(Record, frozen=True, kw_only=True):
    """A telemetry field that some blocks miss: how many, and the first reason given."""

    blocks: int
    reason: str


class Further(Record, frozen=True, kw_only=True):
    """`further.json`: what was measured beyond the plan while answers were open.

    budget_s, spent_s: seconds per lane. blocks: further blocks per model, by cell; empty where nothing was open or no
    round fitted. decided: how many of the `answers` (`judge.rounds.asked`) are decided now. measured: blocks by cell,
    of the arm that has fewest; prices: seconds of one more round (`judge.rounds.explained`).
    """

    budget_s: float
    spent_s: float
    blocks: dict[str, int]
    decided: int
    answers: int
    measured: dict[str, int] = {}
    prices: dict[str, float] = {}


class Measurement(Record, frozen=True, kw_only=True):
    """`measurement.json`. Times are ISO (UTC) or seconds."""

    gpu: str | None
    first_block_at: str | None
    last_block_at: str | None
    measured_s: float
    versions: dict[str, Versions]
    blocks: Blocks
    order: Order
    guards: tuple[GuardCount, ...]
    lane: LaneUse
    share: Share
    wall: tuple[Wall, ...]
    sessions: dict[str, SessionUse]
    client: ClientUse
    calibration: tuple[Calibration, ...]
    calibration_age_s: float | None
    cells: tuple[CellUse, ...]
    server: ServerUse
    telemetry_missing: dict[str, str]
    telemetry_gaps: dict[str, Gap]
    gpu_name: str = ""
    checks: tuple[Check, ...] = ()
    far: tuple[FarBlock, ...] = ()
    host: HostUse = HostUse()
    scatter: Scatter = Scatter()
    further: Further | None = None
