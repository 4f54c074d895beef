from __future__ import annotations

import pytest
import runs
from quantbench.judge import memory
from quantbench.records.server import MeasuredStart, MeasuredStarts, Memory, Session, Startup, Vram
from quantbench.records.tables import MemoryRow

LABELS = {"bf16": "BF16", "awq": "AWQ 4-bit"}


def rows(own: Memory, base: Memory, vram: Vram | None = None) -> list[MemoryRow]:
    ready = {"bf16": runs.ready("bf16", memory=base, vram=vram), "awq": runs.ready("awq", memory=own, vram=vram)}
    stopped = Session(model="awq", mode="sleep", events=(), memory_after_stop_mib=300.0, memory_returned=True)
    return memory.memory_rows(LABELS, "bf16", ready, {"awq": stopped})


def test_memory_reduction_and_reasons() -> None:
    vram = Vram(source="nvml", before_mib=100, after_mib=1100, delta_mib=1000, total_mib=24000)
    own = Memory(weights_gib=1.1, kv_cache_tokens=300, missing={"non_torch_gib": "not found: looked for it"})
    base, awq = rows(own, Memory(weights_gib=2.98, kv_cache_tokens=100), vram)
    assert base.weights_reduction_pct == 0
    assert awq.weights_reduction_pct == pytest.approx((1 - 1.1 / 2.98) * 100, abs=0.001)
    assert awq.kv_cache_tokens_ratio == 3
    assert (awq.vram_delta_reduction_pct, awq.vram_source) == (0, "nvml")
    assert (awq.after_stop_mib, awq.memory_returned, base.memory_returned) == (300.0, True, None)
    assert "non_torch_gib: not found: looked for it" in awq.missing
    assert "checkpoint_gib: not reported" in awq.missing
    assert "vram_delta_mib" not in awq.missing
    assert awq.sources == "vram_*: NVML, whole device; other memory figures: the server's log and metrics"


def test_a_reduction_needs_a_baseline_that_holds_something() -> None:
    _, awq = rows(Memory(weights_gib=1.1), Memory(weights_gib=0.0))
    assert awq.weights_reduction_pct is None


def test_memory_of_a_model_without_a_record_is_blank_with_its_reason() -> None:
    _, awq = memory.memory_rows(LABELS, "bf16", {"bf16": runs.ready("bf16")}, {})
    assert awq == MemoryRow(model="awq", label="AWQ 4-bit", missing="all: no ready.json for this model")


def test_starts_that_were_measured_on_purpose_are_medians_by_state_of_the_cache() -> None:
    rounds = [
        MeasuredStart(round=i, wanted=state, compile_cache=state, total_s=total)
        for i, state, total in ((1, "cold", 40.0), (1, "warm", 20.0), (2, "cold", 50.0), (2, "warm", 24.0))
    ]  # fmt: skip
    starts = {"awq": MeasuredStarts(model="awq", starts=tuple(rounds))}
    ready = {"bf16": runs.ready(startup=Startup(total_s=30.0, compile_cache="warm")), "awq": runs.ready("awq")}
    base, own, cold, warm = memory.startup_rows(LABELS, ready, starts)
    assert (base.source, base.compile_cache, base.starts, base.total_s) == ("run", "warm", 1, 30.0)
    assert (own.source, own.total_s, own.total_min_s) == ("run", None, None)
    assert (cold.source, cold.compile_cache, cold.starts) == ("startup_rounds", "cold", 2)
    assert (cold.total_s, cold.total_min_s, cold.total_max_s) == (45.0, 40.0, 50.0)
    assert warm.total_s == 22.0


def test_of_a_model_on_two_gpus_the_log_tells_of_one_and_tokens_are_of_both():
    memories = {"bf16": Memory(weights_gib=7.5, kv_cache_tokens=100_000), "awq": Memory(weights_gib=5.0)}
    ready = {model: runs.ready(model, memory=own) for model, own in memories.items()}
    base, awq = memory.memory_rows(LABELS, "bf16", ready, {}, gpus={"bf16": 2}, length=600)
    assert awq.weights_reduction_pct == pytest.approx(100 * (1 - 5 / 15), abs=0.001)
    assert (base.weights_gib, base.gpus, awq.gpus) == (7.5, 2, 1)
    assert (base.concurrency_at_length, base.length_tokens, awq.concurrency_at_length) == (166, 600, None)
