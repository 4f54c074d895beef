"""Sentences that were false, or said more than the data, when result trees were odd."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from quantbench.report import (
    best_practices,
    measurement,
    narrative_capacity,
    narrative_doubts,
    narrative_measurement,
    narrative_memory,
)
from quantbench.report.facts import Facts
from report_fixture import Scenario, _contexts, facts

Json = dict[str, Any]


def changed(found: Facts, change: Json, **where: Any) -> Facts:
    """The facts with `change` in the comparison rows that match `where`."""
    rows = [row | change if all(row[key] == value for key, value in where.items()) else row for row in found.rows]
    return replace(found, verdict=found.verdict | {"rows": rows})


def measured(found: Facts, **parts: Any) -> Facts:
    """The facts with other parts of measurement.json."""
    return replace(found, measurement=found.measurement | parts)


def two_lengths() -> Facts:
    """Chat with two answer lengths at c=16: faster with the short one, a longer tail with the long one."""
    found = facts(Scenario())
    worse = {"code": "worse", "ratio": 1.2, "ci_low": 1.1, "ci_high": 1.3}
    long = [r | {"max_tokens": 256} for r in found.rows if (r["workload"], r["concurrency"]) == ("chat", 16)]
    long = [r | worse if r["metric"] == "p95_e2e_ms" else r | {"code": "undecided"} for r in long]
    chat = {m: [*rows, rows[-1] | {"max_tokens": 256}] for m, rows in found.capacity["chat"].items()}
    both = replace(
        found, capacity={**found.capacity, "chat": chat}, verdict=found.verdict | {"rows": found.rows + long}
    )
    cells = [*found.measurement["cells"]]
    cells += [c | {"max_tokens": 256} for c in cells if c["workload"] == "chat" and c["concurrency"] == 16]
    return measured(both, cells=cells)


def test_a_surprise_is_about_one_cell() -> None:
    said = " ".join(narrative_capacity.findings(two_lengths(), "chat", "awq"))
    assert "although tokens/sec improved" not in said, "the tail is that of other answers than the gain"


def test_cells_of_the_same_concurrency_are_told_apart() -> None:
    found = two_lengths()
    said = narrative_capacity.bottleneck_sentences(found, "chat")
    assert any(line.endswith("c=16 (max_tokens=128) and c=16 (max_tokens=256).") for line in said), said
    assert "At c=16 (max_tokens=128) quantization improved" in str(narrative_capacity.findings(found, "chat", "awq"))


def test_the_largest_difference_is_singled_out_only_where_it_stands_out() -> None:
    found = facts(Scenario())
    for cell, ratio in ((1, 1.45), (8, 1.40), (16, 1.35)):
        row = {"code": "better", "ratio": ratio, "ci_low": ratio - 0.01, "ci_high": ratio + 0.01}
        found = changed(found, row, workload="chat", concurrency=cell, metric="throughput_tok_s")
    said = narrative_capacity.findings(found, "chat", "awq")
    assert "The difference matters most at c=1: tokens/sec +45.0 %." in said
    wide = changed(found, {"ci_high": 1.46}, workload="chat", concurrency=8, metric="throughput_tok_s")
    said = narrative_capacity.findings(wide, "chat", "awq")
    assert "tokens/sec +45.0 %, though the interval of another cell overlaps with its own." in str(said)


def test_telemetry_that_one_block_misses_is_not_missing_in_all() -> None:
    contexts = _contexts(Scenario(), random.Random(7))
    contexts[3]["telemetry"] |= {"power_w_mean": None, "missing": {"power_w_mean": "NVML timed out"}}
    summary = measurement.summarize(contexts, {}, {}, [])
    assert summary["telemetry_missing"] == {}
    said = narrative_doubts.doubts(measured(facts(Scenario()), **summary))
    assert f"`power_w_mean` was not seen in 1 of {len(contexts)} blocks (NVML timed out)." in said


def test_a_guard_that_found_something_could_tell() -> None:
    found = facts(Scenario())
    guards = [
        {"id": "queueing", "ok": 0, "fail": 0, "warn": 3, "unknown": 5, "details": []},
        {"id": "power_cap", "ok": 0, "fail": 0, "warn": 0, "unknown": 8, "details": []},
    ]
    assert "could not tell in any block: `power_cap`." in str(narrative_doubts.doubts(measured(found, guards=guards)))


def test_memory_of_a_server_that_nobody_looked_at_did_not_come_back() -> None:
    found = facts(Scenario())
    sessions = {"bf16": {"memory_returned": True}, "awq": {"memory_returned": None}}
    said = str(narrative_measurement.how_section(measured(found, sessions=sessions)).parts)
    assert "After the stop the memory of BF16 came back." in said


def test_nvml_is_called_equal_only_where_it_is() -> None:
    found = facts(Scenario())
    pinned = [row | ({"vram_delta_mib": 4000} if row["model"] == "awq" else {}) for row in found.memory]
    said = str(narrative_memory.section(replace(found, memory=pinned)).parts)
    assert "about equal" not in said
    assert "NVML's used memory differs (here 4,000 to 14,000 MiB)" in said
    blind = [row | {"vram_delta_mib": None} for row in found.memory]
    assert "NVML's used memory is not known for all models." in str(
        narrative_memory.section(replace(found, memory=blind))
    )


def test_the_order_of_too_few_blocks_is_not_known() -> None:
    found = facts(Scenario(blocks=1))
    said = str(narrative_measurement.how_section(found).parts)
    assert "too few pairs of valid blocks to tell whether the models were interleaved" in said
    assert "not interleaved" not in said
    assert "interleaved; slow drift" not in str(narrative_doubts.doubts(found))


def test_the_order_is_the_same_on_every_page() -> None:
    apart = facts(Scenario(interleaved=False))
    assert "The models were not interleaved" in str(narrative_measurement.how_section(apart).parts)
    assert "Here: 0 of " in str(best_practices.sections(apart)[0])
    turns = facts(Scenario())
    assert f"Here: {len(turns.rows)} of {len(turns.rows)} comparisons" in str(best_practices.sections(turns)[0])


def test_a_clock_that_was_set_makes_no_share() -> None:
    blocks = [{"started_unix": t, "duration_s": 20.0, "lane": {"lane": "gpu0"}} for t in (100.0, 125.0, 110.0)]
    [lane] = measurement.wall_time(blocks)
    assert (lane["share"], lane["longest_pause_s"]) == (None, None)


def test_one_undecided_comparison_is_one_and_days_are_counted() -> None:
    found = changed(facts(Scenario()), {"code": "equivalent"})
    near = {"ratio": 1.01, "ci_low": 0.985, "ci_high": 1.035, "code": "undecided"}
    found = changed(found, near, workload="chat", concurrency=8, metric="p50_e2e_ms")
    said = str(narrative_doubts.doubts(measured(found, last_block_at="2026-11-23T08:00:00+00:00")))
    assert "1 comparison stayed undecided: more blocks would decide it." in said
    assert "One machine was measured, between 2026-11-20 and 2026-11-23;" in said


def test_blocks_that_are_only_a_beginning_are_not_said_to_reach_the_precision() -> None:
    few = str(narrative_measurement.how_section(facts(Scenario(blocks=2))).parts)
    assert "would reach it" not in few
    assert "These blocks come next; what has no interval yet may need more: `snakemake" in few
