"""What bounds a cell: memory bandwidth, compute, kernels, the host, the server's front end, or our own client.

The roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009) of one decode step. A step reads every weight that
its tokens touch and the KV cache of all requests in flight, and multiplies each token with the weights: whatever the
kernels, it takes no less than the bytes / bandwidth and the operations / peak. Prompt tokens ride along in the steps;
their arithmetic is spread over the tokens of the answers. Not counted: activations, attention's own arithmetic, and
communication between GPUs. So a floor is a floor, and a share is the least that it can be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from quantbench.records.block import BlockContext
from quantbench.records.codes import code
from quantbench.records.measurement import BoundBy
from quantbench.records.server import Peaks, Ready, Step

MOST: Final = 0.5
"""Share of a step's time from which memory and compute bound it: no other cause can then take more. Highest measured
on an H200: 0.67 (7B in BF16, one request at a time), where a plain copy reaches 0.89."""
IDLE_PCT: Final = 90
"""Utilisation (NVML: share of the time in which a kernel ran) below which the GPU waits for its host. Measured: 62 to
73 % with 1.5B on an H100, 93 to 100 % with 7B on an H200 up to 32 requests (docs/reference)."""
ABOVE: Final = 1.05
"""A share beyond this tells of a wrong peak or a wrong count, such as weights that fit into a CPU's cache."""
HOST_MS: Final = 2.0
"""Assumed before a run: what vLLM's own work takes per step. Seen with CUDA graphs: 2.2 ms a step at one request with
1.5B on an H200, where bandwidth allows 0.6; 3.1 at 16 requests on an H100, BF16 and FP8 alike, where it allows 0.9."""

CONTEXT: Final = 512
"""Assumed before a run: tokens that a request in flight holds on average."""


@dataclass(frozen=True)
class Load:
    """What steps serve: requests in flight, tokens that each holds on average, prompt tokens per output token."""

    concurrency: float
    context: float = 0.0
    prefill: float = 0.0


@dataclass(frozen=True)
class Floor:
    """What one step needs at least, in ms: of the memory, and of the arithmetic (None where its peak is not known)."""

    memory_ms: float
    decode_ms: float | None
    prefill_ms: float | None

    @property
    def compute_ms(self) -> float | None:
        """All arithmetic."""
        return None if self.decode_ms is None or self.prefill_ms is None else self.decode_ms + self.prefill_ms

    @property
    def floor_ms(self) -> float:
        """The least time, where reading and arithmetic overlap as they can at best."""
        return max(self.memory_ms, self.compute_ms or 0.0)

    @property
    def apart_ms(self) -> float:
        """The same where prompts have steps of their own, so that their arithmetic comes on top of the reading."""
        return max(self.memory_ms, self.decode_ms or 0.0) + (self.prefill_ms or 0.0)

    @property
    def larger(self) -> BoundBy:
        """Which of the two takes longer."""
        return "compute" if (self.compute_ms or 0.0) > self.memory_ms else "memory"


@dataclass(frozen=True)
class Bound:
    """What bounds a cell, and the shares of the measured time that its floors take; `reason`: a code for what is blank.

    step_ms: measured time per token of a request, prompts included; floor_ms: the least that it can be.
    """

    bound: BoundBy | None = None
    bandwidth_share: float | None = None
    compute_share: float | None = None
    step_ms: float | None = None
    floor_ms: float | None = None
    reason: str | None = None


def floor(step: Step, peaks: Peaks, load: Load) -> Floor | None:
    """The roofline of a step; None where the bandwidth is not known."""
    if not peaks.bandwidth_gbs:
        return None
    touched = 1 - (1 - step.experts_used / step.experts) ** load.concurrency if step.experts else 0.0
    held = step.kv_full * load.context + step.kv_sliding * min(load.context, step.window)
    moved = step.shared_bytes + touched * step.expert_bytes + load.concurrency * held
    per_token = _operations_ms(step, peaks, step.head)
    at_prompt = _operations_ms(step, peaks, 0.0)
    return Floor(
        memory_ms=moved / peaks.bandwidth_gbs / 1e6,
        decode_ms=None if per_token is None else load.concurrency * per_token,
        prefill_ms=None if at_prompt is None else load.concurrency * load.prefill * at_prompt,
    )


def _operations_ms(step: Step, peaks: Peaks, head: float) -> float | None:
    """Of one token, a multiplication and an addition per weight. head: weights of lm_head that it meets, in 16 bit."""
    weights = step.multiplied | {"bf16": step.multiplied.get("bf16", 0.0) + head}
    if any(weight and not peaks.tflops.get(kind) for kind, weight in weights.items()):
        return None
    return sum(2 * weight / peaks.tflops[kind] / 1e9 for kind, weight in weights.items() if weight)


@dataclass(frozen=True)
class Expected:
    """What will bound decoding with so many requests in flight, and the least that a step takes. An estimate."""

    concurrency: int
    bound: BoundBy
    floor_ms: float


def expected(step: Step, peaks: Peaks, concurrency: int) -> Expected | None:
    """Before a run, with `CONTEXT` tokens a request: the host where a step needs less than `HOST_MS`."""
    least = floor(step, peaks, Load(min(concurrency, step.max_num_seqs), CONTEXT))
    if least is None:
        return None
    return Expected(concurrency, "host" if least.floor_ms < HOST_MS else least.larger, least.floor_ms)


def of_cell(blocks: Sequence[BlockContext], ready: Ready | None) -> Bound:
    """What bounds the blocks of one arm's cell (at least one), from their metrics and what their server's record tells.

    The part that limits most of them goes first (`observe.bottleneck`), as a slow client or front end makes all else
    look slow. Then memory or compute where they take `MOST` of the time, prompts apart; then the host where the GPU is
    idle for more than a tenth of it, else kernels that reach neither limit.
    """
    [(part, _)] = Counter(block.bottleneck.part for block in blocks).most_common(1)
    outside: BoundBy | None = "client" if part == "client" else "front_end" if part == "front_end" else None
    step, peaks = (ready.step, ready.peaks) if ready else (None, None)
    if ready is None or step is None or peaks is None:
        return Bound(outside, reason=code("bound_needs_step"))
    if ready.settings.speculative:
        return Bound(outside, reason=code("bound_of_drafts"))
    measured = _measured(blocks, step)
    if measured is None:
        return Bound(outside, reason=code("bound_needs_tokens"))
    load, step_ms = measured
    least = floor(step, peaks, load)
    if least is None:
        return Bound(outside, step_ms=step_ms, reason=code("bound_needs_bandwidth"))
    memory, compute = least.memory_ms / step_ms, least.compute_ms
    shares = {"memory": memory, "compute": None if compute is None else compute / step_ms}
    if max(memory, shares["compute"] or 0.0) > ABOVE:
        return Bound(outside, step_ms=step_ms, reason=code("bound_above_peak"))
    bound, reason = (outside, None) if outside else _inside(least, step_ms, blocks)
    return Bound(bound, memory, shares["compute"], step_ms, least.floor_ms, reason)


def _inside(least: Floor, step_ms: float, blocks: Sequence[BlockContext]) -> tuple[BoundBy | None, str | None]:
    """What bounds the engine; None and why, where it is not known."""
    if least.apart_ms >= MOST * step_ms:
        return least.larger, None
    if least.compute_ms is None:
        return None, code("bound_needs_compute")
    if all(block.bottleneck.part == "unknown" for block in blocks):
        return None, code("bound_needs_client")
    used = [block.telemetry.utilisation_pct_mean for block in blocks]
    known = [share for share in used if share is not None]
    if not known:
        return None, code("bound_needs_utilisation")
    return "host" if sum(known) / len(known) < IDLE_PCT else "kernels", None


def _measured(blocks: Sequence[BlockContext], step: Step) -> tuple[Load, float] | None:
    """The load of all blocks together and the time of a step in ms, of the steady part where each block has one."""
    total = {name: _sum(blocks, name) for name in ("n", "failures", "tokens_out", "tokens_in", "duration_s")}
    requests, tokens, seconds = (total["n"] or 0) - (total["failures"] or 0), total["tokens_out"], total["duration_s"]
    if requests <= 0 or not tokens or not seconds:
        return None
    rate = tokens / seconds
    steady = [(b.metrics.get("throughput_steady_tok_s"), b.metrics.get("steady_s")) for b in blocks]
    if all(one and length for one, length in steady):
        rate = sum((one or 0) * (length or 0) for one, length in steady) / sum(length or 0 for _, length in steady)
    running = min(blocks[0].concurrency, step.max_num_seqs)
    prompt, cached = total["tokens_in"] or 0, sum(b.server.delta.prefix_cache_hits or 0 for b in blocks)
    load = Load(running, (prompt + tokens / 2) / requests, max(0, prompt - cached) / tokens)
    return load, 1000 * running / rate


def _sum(blocks: Iterable[BlockContext], name: str) -> float | None:
    values = [block.metrics.get(name) for block in blocks]
    return None if None in values else float(sum(value or 0 for value in values))
