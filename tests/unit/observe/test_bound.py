"""bound: rooflines by hand, who bounds a cell, and what the kept runs of GPUs show."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import runs
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from quantbench import results
from quantbench.config import settings
from quantbench.engines.vllm.formats import claim_of
from quantbench.engines.vllm.layers import model_of
from quantbench.engines.vllm.needs import kv_of, step_of
from quantbench.observe import bound, cards
from quantbench.observe.bound import Bound, Load
from quantbench.records.base import read
from quantbench.records.block import BlockContext, Bottleneck, Delta, ServerFacts, Telemetry
from quantbench.records.cell import Cell
from quantbench.records.server import Peaks, Ready, Settings, Step
from source import ROOT

GB = 1e9
PEAKS = Peaks(bandwidth_gbs=1000, bandwidth_source="card", tflops={"bf16": 100, "fp8": 200})
STEP = Step(shared_bytes=2 * GB, multiplied={"bf16": 0.9 * GB}, head=0.1 * GB, kv_full=1e5, max_num_seqs=64)


def test_a_floor_is_bytes_by_bandwidth_and_operations_by_peak() -> None:
    least = bound.floor(STEP, PEAKS, Load(10, context=1000, prefill=3))
    assert least
    assert least.memory_ms == pytest.approx(2.0 + 10 * 1000 * 1e5 / 1e12 * 1e3), "weights once, KV of each request"
    assert least.decode_ms == pytest.approx(10 * 2 * 1e9 / 1e14 * 1e3)
    assert least.prefill_ms == pytest.approx(10 * 3 * 2 * 0.9e9 / 1e14 * 1e3), "lm_head meets no prompt"
    assert least.floor_ms == pytest.approx(least.memory_ms), "reading hides arithmetic"
    assert least.apart_ms == pytest.approx(least.memory_ms + least.prefill_ms), "but not that of steps of their own"
    assert bound.floor(STEP, Peaks(), Load(1)) is None


def test_precisions_have_peaks_of_their_own_and_an_unknown_peak_is_no_figure() -> None:
    def compute(**kinds: float) -> float | None:
        least = bound.floor(replace(STEP, multiplied=kinds, head=0), PEAKS, Load(1))
        assert least
        return least.compute_ms

    assert compute(bf16=1 * GB) == pytest.approx(2 * (compute(fp8=1 * GB) or 0))
    assert compute(bf16=1 * GB, int8=1) is None


def test_layers_with_a_window_hold_no_more_than_it() -> None:
    windowed = replace(STEP, kv_full=0, kv_sliding=1e5, window=100)
    near, far = (bound.floor(windowed, PEAKS, Load(1, context=n)) for n in (100, 5000))
    assert near == far


@given(st.integers(1, 64), st.integers(2, 256), st.data())
def test_experts_are_read_as_far_as_tokens_touch_them(running: int, experts: int, data: st.DataObject) -> None:
    used = data.draw(st.integers(1, experts))
    moe = replace(STEP, shared_bytes=0, kv_full=0, expert_bytes=1 * GB, experts=experts, experts_used=used)
    one, many = (bound.floor(moe, PEAKS, Load(n)) for n in (1, running))
    assert one
    assert many
    assert one.memory_ms == pytest.approx(used / experts)
    assert one.memory_ms * 0.999999 <= many.memory_ms <= min(1.000001, running * one.memory_ms * 1.000001)


CELL = Cell.of("chat", 4, 100)
BUSY = Telemetry(utilisation_pct_mean=99.0)


def block(step_ms: float, *, part: str = "engine", prompt: int = 0, **changes: Any) -> BlockContext:
    """20 requests of 100 tokens, 4 at once, with this time per token."""
    tokens = 2000
    metrics = {
        "n": 21, "failures": 1, "tokens_out": tokens, "tokens_in": 20 * prompt,
        "duration_s": tokens * step_ms / 4 / 1000,
    }  # fmt: skip
    facts: dict[str, Any] = {"metrics": metrics, "telemetry": BUSY, "bottleneck": Bottleneck(part=part)}
    return runs.block("m", CELL, **facts | changes)


def judged(*blocks: BlockContext, step: Step | None = STEP, peaks: Peaks | None = PEAKS, **changes: Any) -> Bound:
    return bound.of_cell(blocks, runs.ready("m", step=step, peaks=peaks, **changes))


IDLE = Telemetry(utilisation_pct_mean=70.0)


@pytest.mark.parametrize(
    ("found", "by", "reason"),
    [
        (judged(block(2.5)), "memory", None),
        (judged(block(4.0)), "memory", None),
        (judged(block(2.5, part="unknown")), "memory", None),
        (judged(block(20.0, prompt=20_000)), "compute", None),
        (judged(block(4.1)), "kernels", None),
        (judged(block(4.1, telemetry=IDLE)), "host", None),
        (judged(block(4.1, telemetry=Telemetry(utilisation_pct_mean=90.0))), "kernels", None),
        (judged(block(4.1, telemetry=Telemetry(utilisation_pct_mean=89.9))), "host", None),
        (judged(block(4.1), block(4.1, telemetry=Telemetry())), "kernels", None),
        (judged(block(4.1, telemetry=Telemetry())), None, "BOUND_NEEDS_UTILISATION"),
        (judged(block(4.1, part="unknown")), None, "BOUND_NEEDS_CLIENT"),
        (judged(block(4.1), peaks=replace(PEAKS, tflops={})), None, "BOUND_NEEDS_COMPUTE"),
        (judged(block(2.5), peaks=replace(PEAKS, tflops={})), "memory", None),
        (judged(block(2.5), peaks=Peaks()), None, "BOUND_NEEDS_BANDWIDTH"),
        (judged(block(2.5), peaks=None), None, "BOUND_NEEDS_STEP"),
        (judged(block(2.5), step=None), None, "BOUND_NEEDS_STEP"),
        (judged(block(2.5, metrics={"n": 1, "failures": 1, "tokens_out": 0})), None, "BOUND_NEEDS_TOKENS"),
        (judged(block(2.5), settings=Settings(speculative=True)), None, "BOUND_OF_DRAFTS"),
        (judged(block(1.0)), None, "BOUND_ABOVE_PEAK"),
        (judged(block(2.5, part="client")), "client", None),
        (judged(block(9.0, part="front_end"), block(9.0, part="front_end"), block(9.0)), "front_end", None),
        (judged(block(9.0, part="front_end"), step=None), "front_end", "BOUND_NEEDS_STEP"),
        (bound.of_cell([block(2.5)], None), None, "BOUND_NEEDS_STEP"),
    ],
)
def test_who_bounds_a_cell(found: Bound, by: str | None, reason: str | None) -> None:
    assert (found.bound, found.reason) == (by, reason)
    assert (found.bandwidth_share is None) == (reason in {
        "BOUND_NEEDS_STEP", "BOUND_NEEDS_BANDWIDTH", "BOUND_NEEDS_TOKENS", "BOUND_OF_DRAFTS", "BOUND_ABOVE_PEAK",
    })  # fmt: skip


def test_shares_are_of_the_measured_time() -> None:
    found = judged(block(4.0, prompt=50))
    assert found.step_ms == pytest.approx(4.0)
    assert found.bandwidth_share == pytest.approx((2.0 + 4 * 100 * 1e5 / 1e9) / 4.0), "prompt, half the answer"
    assert found.compute_share == pytest.approx(4 * (2 * 1 + 0.5 * 2 * 0.9) * 1e9 / 1e14 * 1e3 / 4.0)
    cached = block(4.0, prompt=50, server=ServerFacts(delta=Delta(prefix_cache_hits=1000)))
    assert judged(cached).compute_share == pytest.approx(4 * 2e9 / 1e14 * 1e3 / 4.0), "cached prompts cost nothing"
    queued = judged(block(4.0), step=replace(STEP, max_num_seqs=2))
    assert queued.step_ms == pytest.approx(2.0), "two at once, the others wait"


def test_the_steady_part_counts_where_each_block_has_one() -> None:
    steady = block(4.0).metrics | {"throughput_steady_tok_s": 2000.0, "steady_s": 1.0}
    assert judged(block(4.0, metrics=steady)).step_ms == pytest.approx(2.0)
    assert judged(block(4.0, metrics=steady), block(4.0)).step_ms == pytest.approx(4.0)


@given(st.floats(0.01, 1e4), st.integers(0, 100_000), st.none() | st.floats(0, 100))
def test_a_cell_has_a_bound_or_a_reason(step_ms: float, prompt: int, used: float | None) -> None:
    found = judged(block(step_ms, prompt=prompt, telemetry=Telemetry(utilisation_pct_mean=used)))
    assert (found.bound is None) == (found.reason is not None)


def test_before_a_run_the_host_bounds_what_a_step_reads_in_less_than_it_takes() -> None:
    fast = bound.expected(STEP, replace(PEAKS, bandwidth_gbs=1100), 1)
    slow = bound.expected(STEP, PEAKS, 1)
    many = bound.expected(replace(STEP, kv_full=0), PEAKS, 1000)
    assert fast
    assert slow
    assert many
    assert (fast.bound, slow.bound) == ("host", "memory")
    assert many.floor_ms == pytest.approx(2.0), "no more than max_num_seqs are in a step"
    assert bound.expected(STEP, Peaks(), 1) is None


# What was measured --------------------------------------------------------------------------------------------------

KEPT = {  # shape, card, quantization of the checkpoints (dummy weights: their records tell no shape)
    "h100": ("Qwen2.5-1.5B", "h100-80gb"),
    "h200-7b": ("Qwen2.5-7B", "h200-141gb"),
}
INT4 = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}


@cache
def kept(run: str, model: str) -> dict[str, Bound]:
    """{cell: its bound} of a kept run, from its blocks and the published shape; their records tell no step yet."""
    shape, key = KEPT[run]
    known = settings.read_yaml(ROOT / "config/shapes.yaml")
    quantizations = {**known["quantizations"], "gptq": INT4}
    config = known["shapes"][shape]
    if model in quantizations:
        config = config | {"quantization_config": quantizations[model]}
    claim = claim_of(config, "fp8" if model == "fp8" else None)
    layers = model_of(config, None, claim)
    assert layers
    folder = ROOT / "docs/reference" / run
    ready = read(folder / "servers" / model / "ready.json", Ready)
    step = step_of(layers, config, claim, kv_of(config), max_num_seqs=256, served=ready.quantization.label or "")
    if ready.step:  # else kept by an earlier version
        assert step
        assert (ready.step.shared_bytes, ready.step.kv_full) == pytest.approx(
            (step.shared_bytes, step.kv_full), rel=0.01
        )
    known_as = (
        ready
        if ready.step
        else replace(ready, step=step, peaks=cards.peaks([card for card in cards.CARDS if card.key == key]))
    )
    return {
        f"{cell.parent.name}/{cell.name}": bound.of_cell(of_cell(cell, known_as), known_as)
        for cell in (folder / "raw" / model).glob("*/*")
    }


def of_cell(folder: Path, ready: Ready) -> list[BlockContext]:
    return results.judged_blocks(sorted(folder.glob("b*.json")), {ready.model: ready}, [])


@pytest.mark.parametrize("model", ["bf16", "fp8", "awq", "gptq"])
def test_a_small_model_on_an_h100_is_bound_by_its_host(model: str) -> None:
    [found] = kept("h100", model).values()
    assert found.bound == "host"
    assert found.bandwidth_share
    assert found.bandwidth_share <= 0.31


def test_7b_on_an_h200_is_bound_by_memory_until_its_weights_are_small() -> None:
    base = kept("h200-7b", "bf16")
    assert {cell: found.bound for cell, found in base.items()} == dict.fromkeys(base, "memory")
    one = base["chat/c1_t128"]
    assert one.floor_ms == pytest.approx(2.95, abs=0.02), "14.2 GiB in 3.2 ms, less the embeddings"
    assert one.bandwidth_share == pytest.approx(0.65, abs=0.01)
    assert kept("h200-7b", "awq")["chat/c1_t128"].bound == "kernels", "the GPU is never idle, and reads a quarter"
    assert kept("h200-7b", "fp8")["chat/c64_t128"].bound == "front_end"
    for model in ("bf16", "fp8", "awq", "gptq_int8"):
        shares = [(f.bandwidth_share, f.compute_share) for f in kept("h200-7b", model).values()]
        assert all(0 < (memory or 0) < 1 and 0 < (compute or 0) < 1 for memory, compute in shares)


def test_no_measured_gain_is_above_its_ceiling() -> None:
    gains = {"fp8": 1.40, "awq": 1.22}  # docs/reference/h200-7b: chat, 1 and 16 at once
    for (model, gain), cell in zip(gains.items(), ("chat/c1_t128", "chat/c16_t128"), strict=True):
        base, own = kept("h200-7b", "bf16")[cell], kept("h200-7b", model)[cell]
        assert base.floor_ms
        assert own.floor_ms
        assert base.floor_ms / own.floor_ms > gain
