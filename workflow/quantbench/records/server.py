"""A server: its spec, and what is kept of it in `servers/`: ready.json, session.json, startup.json, lanes.json."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, ClassVar, Literal

from quantbench.records.base import Number, OpenRecord, Record
from quantbench.records.block import Hardware, ServedWith

Mode = Literal["sleep", "resident", "restart", "endpoint"]
"""How a lane changes models: `serving.server.mode_of`."""


class ServerSettings(Record, frozen=True, kw_only=True):
    """`server` of the configuration as one model has it; null is the engine's own choice."""

    command: tuple[str, ...] = ("vllm",)
    max_model_len: int = 4096
    gpu_memory_utilization: Number = 0.85
    max_num_seqs: int = 64
    dtype: str = "bfloat16"
    quantization: str | None = None
    load_format: str = "auto"
    kv_cache_gib: Number | None = None
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    prefix_caching: bool = False
    threads: int | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    start_timeout_s: Number = 900


class Claimed(Record, frozen=True, kw_only=True):
    """What the configuration says of a model's quantization; bits per quantized weight."""

    quantization: str = "none"
    bits: Number | None = None


class ServerSpec(Record, frozen=True, kw_only=True):
    """All that defines a server, and nothing else (`Plan.server_spec`).

    devices: as its lane names them (`observe.given`). port: 0 where none is configured, until the server is started.
    """

    model: str
    lane: str = ""
    devices: tuple[str, ...] = ()
    mode: Literal["auto", "sleep", "resident", "restart"] = "auto"
    endpoint: str | None = None
    port: int = 0
    source: str
    served_name: str = ""
    platform: Literal["cuda", "cpu"] = "cuda"
    claimed: Claimed = Claimed()
    settings: ServerSettings = ServerSettings()

    @property
    def hash(self) -> str:
        """12 hex digits that name this exact server, on whichever port it listens."""
        told = {key: value for key, value in self.as_dict().items() if key != "port"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def url(self) -> str:
        """Base URL without a trailing slash (and without /v1). Our servers listen on the loopback interface only."""
        if self.endpoint:
            return self.endpoint.rstrip("/").removesuffix("/v1")
        return f"http://{HOST}:{self.port}"


HOST = "127.0.0.1"


class Versions(Record, frozen=True, kw_only=True):
    """What served; None where the server is not ours or does not tell."""

    vllm: str | None = None
    torch: str | None = None
    driver: str | None = None
    python: str | None = None


class Quantization(Record, frozen=True, kw_only=True):
    """How the model is quantized: what the config claims, what the log and the files show.

    label: such as W4A16. bits_per_weight is of the linear layers; `bits_source` says of what it was reckoned.
    verified: None for an endpoint, which is not ours to look into. evidence: sentences for a person.
    """

    claimed: str
    method: str | None = None
    label: str | None = None
    kernel: str | None = None
    bits_per_weight: float | None = None
    bits_source: Literal["checkpoint", "memory"] | None = None
    verified: bool | None = None
    evidence: tuple[str, ...] = ()


class Memory(Record, frozen=True, kw_only=True):
    """What the server says of its memory, GiB; a null has its reason in `missing`."""

    weights_gib: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_tokens: Number | None = None
    max_concurrency: float | None = None
    activation_peak_gib: float | None = None
    cuda_graphs_gib: float | None = None
    non_torch_gib: float | None = None
    checkpoint_gib: float | None = None
    missing: dict[str, str] = {}


class Vram(Record, frozen=True, kw_only=True):
    """Memory before the start and after it, MiB: of the whole device (nvml), or of the server's processes (rss)."""

    source: Literal["nvml", "rss"]
    before_mib: float
    after_mib: float
    delta_mib: float
    total_mib: float


class Startup(Record, frozen=True, kw_only=True):
    """Seconds per phase of one start; compile_cache: cold, warm or off (eager)."""

    total_s: float | None = None
    weights_s: float | None = None
    compile_s: float | None = None
    warmup_s: float | None = None
    graphs_s: float | None = None
    engine_init_s: float | None = None
    compile_cache: str | None = None
    missing: dict[str, str] = {}


class Settings(Record, frozen=True, kw_only=True):
    """Settings that the engine says it runs with; a null has its reason in `missing`.

    inherited_env: variables of the caller that the engine reads and the configuration does not set.
    """

    max_model_len: int | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    enforce_eager: bool | None = None
    prefix_caching: bool | None = None
    attention_backend: str | None = None
    cuda_graphs: str | None = None
    speculative: bool | None = None
    sampling_defaults_overridden: bool | None = None
    jit_monitor: bool | None = None
    missing: dict[str, str] = {}
    inherited_env: dict[str, str] = {}


class Completion(Record, frozen=True, kw_only=True):
    """The test completion of a start."""

    prompt: str = ""
    text: str = ""
    tokens: int | None = None
    e2e_ms: float | None = None


class Logits(Record, frozen=True, kw_only=True):
    """Whether a completion with logprobs has only numbers."""

    finite: bool | None = None
    seen: str | None = None
    missing: dict[str, str] = {}


class Tokenizer(Record, frozen=True, kw_only=True):
    """Hashes of the ids of probe texts, by the server's /tokenize; a null has its reason in `missing`."""

    probe_sha256: str | None = None
    chat_probe_sha256: str | None = None
    chat_bos_count: int | None = None
    chat_is_plain: bool | None = None
    missing: dict[str, str] = {}


class Identity(Record, frozen=True, kw_only=True):
    """vLLM's version and the model's files as they were known when the start was planned."""

    vllm: str | None = None
    source_id: str | None = None


class Revision(Record, frozen=True, kw_only=True):
    """Of a model of the hub: which revision was asked for (a branch, tag or commit), and the commit that it was."""

    asked: str
    commit: str


class Step(Record, frozen=True, kw_only=True):
    """What one decode step of a model reads and multiplies, counted from its files as it is served.

    shared_bytes: of weights that every step reads; expert_bytes: of all experts, of which a token takes `experts_used`
    of `experts`. kv_*: bytes per token of the KV cache, in layers that keep all tokens and in those that keep `window`.
    multiplied: weights that each token meets, by precision (bf16 for any 16 bits, fp8, int8, fp4); head: those of
    lm_head besides, which meet the last token of a prompt only.
    """

    shared_bytes: float
    expert_bytes: float = 0.0
    experts: int = 0
    experts_used: int = 0
    kv_full: float = 0.0
    kv_sliding: float = 0.0
    window: int = 0
    multiplied: dict[str, float]
    head: float = 0.0
    max_num_seqs: int
    missing: dict[str, str] = {}


class Peaks(Record, frozen=True, kw_only=True):
    """What the devices of a server can do at best, together: 10⁹ bytes and, by precision, 10¹² operations per second.

    bandwidth_source: NVML's bus width (bits) and highest memory clock (MHz), both of the first device, a data sheet
    (`card`), or a short copy (of a CPU). Operations are of the data sheet. missing: why something is not known.
    """

    bandwidth_gbs: float | None = None
    bandwidth_source: Literal["nvml", "card", "copy"] | None = None
    memory_bus_bits: int | None = None
    memory_clock_mhz: int | None = None
    tflops: dict[str, float] = {}
    missing: dict[str, str] = {}


class Unpacked(Record, frozen=True, kw_only=True):
    """The GGUF file that a model was unpacked from; package to wheel_sha256 where it came in a Python package.

    type: GGML's, of most of its linear weights, such as Q4_1; bits_per_weight: theirs, scales included.
    """

    file: str
    file_sha256: str
    type: str
    bits_per_weight: float | None
    name: str | None = None
    licence: str | None = None
    package: str | None = None
    version: str | None = None
    wheel_sha256: str | None = None

    @property
    def bits(self) -> int | None:
        """Bits of a weight without its scales, as the type is named (Q4_1: 4); None for a name without them."""
        digits = re.match(r"[A-Z]+(\d+)", self.type)
        return int(digits[1]) if digits else None


class Ready(Record, frozen=True, kw_only=True):
    """What is served. unpacked: the GGUF file that its folder was made of."""

    retired: ClassVar = ("gpu_name", "memory.consumed_gib")

    model: str
    spec_hash: str
    source: str
    source_id: str | None = None
    revision: Revision | None = None
    unpacked: Unpacked | None = None
    served_name: str
    url: str
    hardware: Hardware | None = None
    lane: str
    devices: tuple[str, ...]
    versions: Versions
    mode: str
    started_at: str | None
    log: str | None
    quantization: Quantization
    memory: Memory
    vram: Vram | None
    startup: Startup
    settings: Settings
    test_completion: Completion
    logits: Logits = Logits()
    tokenizer: Tokenizer
    system_fingerprint: str | None
    identity: Identity = Identity()
    served_with: ServedWith | None = None
    step: Step | None = None
    peaks: Peaks | None = None


class Event(OpenRecord, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a server's life (`events.jsonl`), t in Unix seconds; each kind of event has some of the other keys.

    seconds: what it took. mode: of a start; action, measured_s: of a lease; lane, cell: of a block of the arm `model`.
    returncode and memory (MiB): of a stop; `memory_returned` is null where it is unknown, for `memory_reason`.
    """

    t: float
    event: str
    model: str = ""
    seconds: float | None = None
    why: str | None = None
    mode: str | None = None
    action: str | None = None
    measured_s: float | None = None
    lane: str | None = None
    cell: str | None = None
    returncode: int | None = None
    memory_before_mib: float | None = None
    memory_held_mib: float | None = None
    memory_after_stop_mib: float | None = None
    memory_returned: bool | None = None
    memory_reason: str | None = None
    others_resident: tuple[str, ...] = ()


class Session(Record, frozen=True, kw_only=True):
    """The whole life of one model's server.

    held_s: what leases held of the lane with the servers up; measured_s: what of it lies inside blocks; starting_s:
    leases that had to start a server first. memory_*: around the last stop, MiB.
    """

    model: str
    mode: str | None
    events: tuple[Event, ...]
    memory_before_mib: float | None = None
    memory_after_stop_mib: float | None = None
    memory_returned: bool | None = None
    measured_s: float | None = None
    held_s: float | None = None
    starting_s: float | None = None


class MeasuredStart(Startup, frozen=True, kw_only=True):
    """One start of `startup_rounds`: in which round, and which state of the compile cache it was to find."""

    round: int
    wanted: Literal["cold", "warm"]


class MeasuredStarts(Record, frozen=True, kw_only=True):
    """`servers/{model}/startup.json`."""

    model: str
    starts: tuple[MeasuredStart, ...]
    served_with: ServedWith | None = None


class LaneRecord(Record, frozen=True, kw_only=True):
    """An entry of `servers/lanes.json`: a lane that had to fall back to restarting its servers, and why."""

    mode: Mode
    reason: str = ""


class Unfit(Record, frozen=True, kw_only=True):
    """An entry of `servers/unfit.json`: a model that does not fit, and is not measured.

    weights_gib: of all its weights, as they lie in memory; card_gib: of each of its `gpus`. None where not known, as of
    a model that the configuration says not to fit.
    """

    source: str = ""
    gpus: int = 1
    weights_gib: float | None = None
    card_gib: float | None = None


class IsoFit(Record, frozen=True, kw_only=True):
    """An entry of `servers/iso_memory.json`: with how many requests of `length` tokens in flight a model is measured.

    fits: how many its KV cache holds, as it was known when this was chosen; source: by whom. limit: its server's
    max_num_seqs, above which none runs.
    """

    length: int
    concurrency: int
    fits: int
    limit: int
    source: Literal["server", "arithmetic"]


class Provenance(Record, frozen=True, kw_only=True):
    """`models/{gpu}/{model}/provenance.json`: how a model was made here, and what came of it.

    intermediate_size: of the grown demo model; quantize: the recipe of a quantized one; unpacked: the GGUF file of one
    that lost its exact weights before it came here. sha256: of each weight file; inputs: of each file that it was made
    with (program, calibration text, the base's record, the demo's files, a GGUF file).
    """

    model: str
    source: str
    intermediate_size: int | None = None
    quantize: dict[str, Any] | None = None
    unpacked: Unpacked | None = None
    weights_bytes: int = 0
    sha256: dict[str, str] = {}
    inputs: dict[str, str] = {}
