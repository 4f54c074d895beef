"""One block as it is kept: `raw/{arm}/{workload}/c{c}_t{t}/b{n}.json`, and the client's calibration."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from quantbench.records.base import Number, OpenRecord, Record
from quantbench.records.cell import InCell, served_model
from quantbench.records.metric import BLOCK_METRICS

Status = Literal["ok", "fail", "warn", "unknown"]
Part = Literal["engine", "front_end", "client", "unknown"]


class Hardware(Record, frozen=True, kw_only=True):
    """The devices as they name themselves, from NVML or /proc/cpuinfo."""

    names: tuple[str, ...]
    uuids: tuple[str, ...] = ()
    driver: str | None = None


class ClientFacts(Record, frozen=True, kw_only=True):
    """What the load client knows of itself: CPU in s and as a share of a core, lag of its event loop, connections.

    stalled_s: how long its loop stood still in all, counting what took it 50 ms or more; the longest time, and when it
    began in the block. suspended_s: how long the machine slept; clock_step_s: by how much its wall clock was set.
    """

    cpu_s: float | None = None
    cpu_share: float | None = None
    loop_lag_p50_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    connections_opened: int | None = None
    resent: int | None = None
    transport: str | None = None
    parse_cpu_s: float | None = None
    coalesced_share: float | None = None
    concurrency_held: float | None = None
    stalled_s: float | None = None
    longest_stall_s: float | None = None
    longest_stall_at_s: float | None = None
    suspended_s: float | None = None
    clock_step_s: float | None = None


class Silence(Record, frozen=True, kw_only=True):
    """A stretch of a block without a token on any connection: how long, and when it began in the block.

    Time in which the client itself stood still is not part of it. prompt_tokens: of the requests that waited for their
    first token then; 0 where all were in mid-reply. taken_in: of those among them whose first token ended the silence;
    None in blocks that were measured before it was known.
    """

    s: float
    at_s: float
    prompt_tokens: int
    taken_in: int | None = None


class Counters(Record, frozen=True, kw_only=True):
    """What a server counts; null where it does not tell."""

    prefix_cache_queries: Number | None = None
    prefix_cache_hits: Number | None = None
    preemptions: Number | None = None
    generation_tokens: Number | None = None
    prompt_tokens: Number | None = None
    queue_time_sum_s: Number | None = None
    queue_time_count: Number | None = None
    prefill_time_sum_s: Number | None = None
    decode_time_sum_s: Number | None = None
    requests_succeeded: Number | None = None
    corrupted_requests: Number | None = None
    spec_decode_drafts: Number | None = None
    spec_decode_draft_tokens: Number | None = None
    spec_decode_accepted_tokens: Number | None = None


class Page(Counters, frozen=True, kw_only=True):
    """The server's /metrics page at one moment, counters since its start."""

    requests_running: Number | None = None
    requests_waiting: Number | None = None
    kv_usage: Number | None = None
    process_start_time: float | None = None
    engine_tokens: dict[str, Number] | None = None
    kv_cache_tokens: Number | None = None
    max_concurrency: Number | None = None
    num_gpu_blocks: Number | None = None
    block_size: Number | None = None
    cache_dtype: str | None = None


class Delta(Counters, frozen=True, kw_only=True):
    """Counters of the page after the block less those before it; `restarted` where they cannot be subtracted."""

    restarted: bool = False


class Peak(Record, frozen=True, kw_only=True):
    """The highest values of gauges that were read while the block ran."""

    running: Number | None = None
    waiting: Number | None = None
    kv_usage: Number | None = None


class Incident(Record, frozen=True, kw_only=True):
    """A log line of the block that means trouble: jit, graph_capture, nan, error, oom or engine_dead."""

    id: str
    line: str


class BlockKnobs(InCell, frozen=True, kw_only=True):
    """What a block's result depends on beside the server and the prompts (`Plan.block_knobs`); times in s."""

    protocol: int
    style: Literal["interactive", "batch"]
    endpoint: Literal["completions", "chat"]
    template: str | None
    min_seconds: Number
    min_requests: int
    warmup_requests: int
    warmup_max_tokens: int | None
    timeout_s: Number


class ServedWith(Record, frozen=True, kw_only=True):
    """A server as far as results depend on it; null is what was not known.

    spec: `Plan.measured_spec`. made: how a model made here is made (`model_plan.made`). source_id: digest of its files.
    """

    spec: dict[str, Any]
    made: dict[str, Any] | None = None
    vllm: str | None = None
    source_id: str | None = None


class MeasuredWith(Record, frozen=True, kw_only=True):
    """All that a block's result depends on. prompts: SHA-256 of the prompt file."""

    server: ServedWith
    knobs: BlockKnobs
    prompts: str | None = None


class ServerFacts(Record, frozen=True, kw_only=True):
    """The server that answered the block: which one (its lease says so), its counters, its log.

    started_unix: when this server was started, s; of one that is not ours only `process_start_time` may tell.
    cached_tokens: prompt tokens that the ok replies' usage calls cached; null where none of them tells.
    """

    spec_hash: str | None = None
    source_id: str | None = None
    started_unix: float | None = None
    process_start_time: float | None = None
    fingerprints: tuple[str, ...] = ()
    cached_tokens: int | None = None
    before: Page = Page()
    after: Page = Page()
    delta: Delta = Delta()
    peak: Peak = Peak()
    incidents: tuple[Incident, ...] = ()

    @property
    def instance(self) -> float | None:
        """What tells one start of a server from another; None where nothing does."""
        return self.process_start_time if self.started_unix is None else self.started_unix


class ForeignProcess(Record, frozen=True, kw_only=True):
    """A process on the device that is not the server's."""

    pid: int | None = None
    name: str | None = None
    mib: Number | None = None


class Telemetry(Record, frozen=True, kw_only=True):
    """The devices while the block ran: power in W, energy in J, clocks in MHz; null with its reason in `missing`."""

    power_w_mean: Number | None = None
    energy_j: Number | None = None
    energy_from_power_j: Number | None = None
    sm_clock_mhz_mean: Number | None = None
    sm_clock_mhz_min: Number | None = None
    mem_clock_mhz_mean: Number | None = None
    temperature_c_max: Number | None = None
    utilisation_pct_mean: Number | None = None
    memory_used_mib_max: Number | None = None
    throttle_reasons: tuple[str, ...] | None = None
    foreign_processes: tuple[ForeignProcess, ...] | None = None
    samples: int = 0
    missing: dict[str, str] = {}


class HostLoad(Record, frozen=True, kw_only=True):
    """The client's host while the block ran; null with its reason in `missing`.

    cpus: CPUs that the client or a server may use; all counts are of these. server_here: whether the servers run on
    this host, too. …_cpu_cores: mean cores that the lane's servers, the client, and all others used;
    foreign_cpu_share: of the CPUs. steal_share: of the CPU time that was wanted, what another virtual machine got.
    cpu_freq_mhz: mean clock; in a virtual machine often a constant. quota_cores: the tightest CPU quota of a control
    group; throttled_share: of its periods, those in which it stopped the run's processes; throttled_s: for how long,
    over its CPUs. …_pressure: share of the time in which some task of the host waited for CPU or memory.
    """

    cpus: int | None = None
    server_here: bool | None = None
    server_cpu_cores: float | None = None
    client_cpu_cores: float | None = None
    foreign_cpu_cores: float | None = None
    foreign_cpu_share: float | None = None
    steal_share: float | None = None
    cpu_freq_mhz: float | None = None
    quota_cores: float | None = None
    throttled_share: float | None = None
    throttled_s: float | None = None
    cpu_pressure: float | None = None
    memory_pressure: float | None = None
    missing: dict[str, str] = {}


class LaneFacts(Record, frozen=True, kw_only=True):
    """How the block got its lane: name, mode (sleep, resident, restart, endpoint), action (reused, woken, started)."""

    lane: str | None = None
    mode: str | None = None
    action: str | None = None
    switch_s: float | None = None
    note: str = ""


class Bottleneck(Record, frozen=True, kw_only=True):
    """Which part limited the block, and the sentence that says how that is known."""

    part: Part = "unknown"
    sentence: str = ""


class GuardResult(Record, frozen=True, kw_only=True):
    """A guard's answer with the figures that it saw. `unknown` names the missing fact: neither pass nor fail."""

    id: str
    status: Status
    detail: str = ""


class Percentile(Record, frozen=True):
    """A percentile with its limits in the unit of the sample, or the reason why not; n: the values it is of.

    In a block's file: over its requests that have the time, with order-statistic limits, in ms.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None


Beyond = Literal["round", "extra"]
"""How a block beyond those of the plan came: by a round for open answers, or by `extra_blocks`."""


class BlockContext(InCell, frozen=True, kw_only=True):
    """All that is known of one block beside its requests. The last four are judged anew whenever it is read.

    failure_words: by reason, what was said of the first request that failed for it. records_sha256: of the file of its
    requests, as hex digits; null in files of older versions.
    beyond: how a block beyond the plan's `blocks` came, by a round for open answers or by `extra_blocks` (as `refine`
    adds them); null for one of the plan, and in older results.
    """

    retired: ClassVar = ("gpu_name",)

    protocol: int = 1
    gpu: str
    hardware: Hardware | None = None
    model: str
    style: Literal["interactive", "batch"]
    block: int
    min_seconds: float
    started_at: str
    started_unix: float
    duration_s: float
    client: ClientFacts
    silences: tuple[Silence, ...] | None = None
    metrics: dict[str, Number | None]
    percentiles: dict[str, Percentile] = {}
    failure_reasons: dict[str, int] = {}
    failure_words: dict[str, str] = {}
    telemetry: Telemetry
    host: HostLoad = HostLoad()
    server: ServerFacts
    lane: LaneFacts
    measured_with: MeasuredWith | None = None
    records_sha256: str | None = None
    beyond: Beyond | None = None
    bottleneck: Bottleneck = Bottleneck()
    guards: tuple[GuardResult, ...] = ()
    valid: bool = True
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if strangers := set(self.metrics) - BLOCK_METRICS:
            raise ValueError(f"unknown metric {', '.join(sorted(strangers))}")
        if negative := [name for name, value in self.metrics.items() if value is not None and value < 0]:
            raise ValueError(f"metric {negative[0]} is below zero")

    @property
    def arm(self) -> str:
        """The arm that the block is of: a model, or the baseline's A/A."""
        return self.model

    @property
    def served(self) -> str:
        """The model that answered."""
        return served_model(self.model)

    def warned(self, guard: str) -> bool:
        """Whether a guard warned in this (judged) block."""
        return any(result.id == guard and result.status == "warn" for result in self.guards)


class KeptServer(OpenRecord, frozen=True, kw_only=True):
    """What a plan reads of a block's `server`."""

    source_id: str | None = None


class KeptBlock(OpenRecord, frozen=True, kw_only=True):
    """What a plan reads of a block's file: with what it was measured. Of any version, and quick to read."""

    model: str
    workload: str
    concurrency: int
    max_tokens: int
    block: int
    protocol: int = 1
    style: str
    min_seconds: float
    server: KeptServer
    measured_with: MeasuredWith | None = None


class BlockFiles(Record, frozen=True, kw_only=True):
    """A block's files: the SHA-256 of `b{n}.json`, and the size of `b{n}.parquet` in bytes."""

    context: str
    records: int


class MeasuredTuple(Record, frozen=True, kw_only=True):
    """`measured.json`, all blocks of a tuple are there. measured: the numbers of those that the job was for, the others
    were kept. blocks: what lay there then, by name (`b1`), so that a plan sees what is damaged or was exchanged since,
    of requests by their size; blocks of `measure_further` come later.
    """

    measured: tuple[int, ...]
    blocks: dict[str, BlockFiles]


class Calibration(Record, frozen=True, kw_only=True):
    """The load client against a server of known timing, at one concurrency (`client/calibration_c{c}.json`).

    Errors are client minus server in ms; limit_tok_s is the rate at which receiving would fill 80 % of a core.
    """

    measured_unix: float | None = None
    concurrency: int
    n: int = 0
    ttft_error_p50_ms: float | None
    ttft_error_p95_ms: float | None = None
    e2e_error_p50_ms: float | None = None
    cpu_share: float | None = None
    cpu_s_per_1k_tokens: float | None = None
    loop_lag_p50_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    concurrency_held: float | None = None
    tokens_per_s: float | None = None
    limit_tok_s: float | None
