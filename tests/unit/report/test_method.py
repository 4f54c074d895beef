from typing import Any

import pytest
from quantbench.records.block import Calibration
from quantbench.records.comparison import Precision, PrecisionEntry
from quantbench.records.decision import Decision
from quantbench.records.finding import finding
from quantbench.records.measurement import (
    Blocks,
    Check,
    ClientUse,
    GuardCount,
    LaneUse,
    Order,
    RefusedBlock,
    ServerUse,
    SessionUse,
    Share,
    Wall,
)
from quantbench.records.run import Run
from quantbench.records.server import Versions
from quantbench.report import doubts, method, render
from quantbench.report.document import Bullets, Page
from quantbench.report.say import Speech
from runs import BATCH, CHAT, cell_use, comparison, control, measurement, plan, ready, run, verdict


def said(found: Run) -> str:
    say = Speech.of(found)
    return render.page(Page("", (), (method.section(found, say),)))


def measured(**changes: Any) -> str:
    return said(run(measurement=measurement(**changes)))


def test_machine_versions_and_time_are_named() -> None:
    text = measured(versions={"bf16": Versions(vllm="0.32.0"), "awq": Versions(vllm="0.33.0")})
    assert "Test GPU 24GB, vllm 0.32.0, 0.33.0; 2026-11-20 09:00 to 10:00 UTC." in text
    assert "2026-11-20 09:00 to 2026-11-21 01:00 UTC" in measured(last_block_at="2026-11-21T01:00:00+00:00")


def test_settings_that_only_one_model_has_are_told() -> None:
    text = said(run(plan=plan(server_differences={"awq": {"kv_cache_dtype": "fp8"}})))
    assert "AWQ 4-bit is served with its own `kv_cache_dtype: fp8`" in text


def test_blocks_per_cell_are_a_range_where_they_differ() -> None:
    counts = {"total": 50, "valid": 49, "invalid": (), "cells": 10}
    assert "4 to 6 blocks per model and cell" in measured(blocks=Blocks(**counts, fewest_per_cell=4, most_per_cell=6))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([comparison(CHAT), comparison(BATCH)], "interleaved block by block (`ABBA`"),
        ([comparison(CHAT), comparison(BATCH, interleaved=False)], "interleaved in 1 of 2 comparisons"),
        ([comparison(CHAT, interleaved=False)], "were not interleaved (`ABBA`"),
        ([comparison(CHAT, n_pairs=1)], "too few pairs of valid blocks"),
    ],
)
def test_the_order_is_that_of_the_verdict(rows: list[Any], words: str) -> None:
    assert words in said(run(verdict=verdict(rows)))


def test_one_model_alone_has_no_order() -> None:
    assert "Only one model was measured" in measured(order=Order(cells=0, example="", letters={}))


def test_the_control_is_quoted_where_it_was_measured() -> None:
    assert "The A/A control agrees." in said(run(verdict=verdict(aa=control(words="the A/A control agrees"))))


def lane(*modes: str, notes: tuple[str, ...] = ()) -> LaneUse:
    return LaneUse(modes=dict.fromkeys(modes, 1), switches=2, switch_s_median=0.5, switch_s_max=1.0, notes=notes)


def test_how_models_were_changed_is_told_with_its_times() -> None:
    text = measured(lane=lane("restart", "endpoint", notes=("sleep failed",)))
    assert "the server was restarted for each change of model and the servers were running already" in text
    assert "2 wake-ups, median 500 ms, longest 1.00 s" in text
    assert "Lane: sleep failed." in text


def test_a_clock_that_was_set_makes_no_share() -> None:
    wall = Wall(lane="gpu0", measured_s=10.0, wall_s=20.0, share=0.5, longest_pause_s=None)
    assert "How much of the lane time lies inside" in measured()
    known = Share(measured_s=9.0, held_s=10.0, share=0.9)
    odd = measured(share=known, wall=(wall, Wall(lane="x", measured_s=1, wall_s=0, share=None, longest_pause_s=None)))
    assert "90.0 % of the time that leases held lanes and 50.0 % of the wall time of lane `gpu0`." in odd


def session(returned: bool | None) -> SessionUse:
    blank = dict.fromkeys(("memory_before_mib", "memory_after_stop_mib", "measured_s", "held_s", "mode"))
    return SessionUse(**blank, memory_returned=returned, events={})


def test_only_memory_that_was_seen_not_to_come_back_is_told() -> None:
    def after(**sessions: bool | None) -> str:
        return measured(sessions={model: session(returned) for model, returned in sessions.items()})

    assert "memory of AWQ 4-bit did not come back" in after(bf16=True, awq=False)
    assert "come back" not in after(bf16=None, awq=True)


def test_the_client_is_shown_at_its_worst() -> None:
    client = ClientUse(cpu_share_max=0.05, loop_lag_p99_ms_max=172.0, concurrency_held_min=0.98)
    errors = [(1, 0.05), (16, -0.08)]
    calibrations = tuple(Calibration(concurrency=c, ttft_error_p50_ms=e, limit_tok_s=None) for c, e in errors)
    text = measured(client=client, calibration=calibrations)
    assert "used 5.0 % of a core, was 172 ms late (p99 of its loop) and held 98.0 %" in text
    assert "errs by at most 0.0800 ms (TTFT p50)" in text
    assert len(method.calibration_table(run(measurement=measurement(calibration=calibrations))).rows) == 2


def test_limits_beside_the_engine_are_told_once_with_their_cells() -> None:
    limited = [
        cell_use(arm, CHAT, bottleneck="client", bottleneck_sentence="It is slow.") for arm in ("awq", "bf16__aa")
    ]
    engine = cell_use("awq", BATCH, bottleneck_sentence="It works.")
    text = measured(cells=(*limited, engine))
    assert "It is slow. Seen with AWQ 4-bit in chat at c=16 and BF16 again in chat at c=16." in text
    assert "It works" not in text


def test_counters_stand_beside_the_clients_count() -> None:
    server = ServerUse(prefix_cache_hits=1, preemptions=0, generation_tokens=99, client_tokens=99, incidents={})
    assert "count 1 prefix-cache hit, 0 preemptions and 99 generated tokens (the client 99)" in measured(server=server)
    assert "told no counters" in measured()


def entry(blocks_more: int | None, half_width: float | None = 0.1) -> PrecisionEntry:
    return PrecisionEntry(
        cell=CHAT.key, variant="awq", metric="p50_ttft_ms", half_width=half_width, blocks_more=blocks_more
    )


def test_the_precision_reached_leaves_no_comparison_out() -> None:
    precision = Precision(
        target=0.02, most_blocks=40, reached=(entry(0), entry(0)), missing=(entry(4),), out_of_reach=(entry(None),),
        untested=(entry(None, None),), refused=(entry(2),), extra_blocks={CHAT.key: 10},
    )  # fmt: skip
    text = said(run(verdict=verdict(precision=precision)))
    assert "reached by 2 comparisons, missed by 1, out of reach for 1, without a confidence interval for 1 and" in text
    assert "These blocks would reach it: `snakemake --cores 1 'extra_blocks={\"chat/c16_t128\": 10}'`" in text
    first = Precision(target=0.02, most_blocks=40, missing=(entry(2, None),), extra_blocks={CHAT.key: 2})
    assert "These blocks come next" in said(run(verdict=verdict(precision=first)))


GUARDS = (
    GuardCount(id="failed_requests", ok=9, fail=1, warn=0, unknown=0, details=("1 of 80 failed",)),
    GuardCount(id="queueing", ok=8, fail=0, warn=2, unknown=0),
    GuardCount(id="power_cap", ok=0, fail=0, warn=0, unknown=10),
    GuardCount(id="token_count", ok=7, fail=0, warn=0, unknown=3),
)


def test_guards_that_found_something_are_named_and_the_others_counted() -> None:
    text = measured(guards=GUARDS)
    assert "Of 4 guards on blocks 1 passed wherever they could tell, 1 never could" in text
    assert "failed: `failed_requests` (1 block); warned: `queueing` (2 blocks)." in text
    found = run(measurement=measurement(guards=GUARDS))
    [table] = method.guard_details(found, Speech.of(found)).parts
    assert table == method.guard_table(found, Speech.of(found))
    assert table.rows[0][:5] == ("`failed_requests`", "9", "1", "0", "0")
    assert table.notes == ("`failed_requests`: 1 of 80 failed.",)


def test_checks_that_did_not_pass_are_named_with_their_place() -> None:
    checks = [
        ("versions", "awq", "fail", "0.32 against 0.33."),
        ("memory", "run", "warn", "lost"),
        ("x", "run", "ok", ""),
    ]
    text = measured(checks=tuple(Check(id=i, of=of, status=s, detail=d) for i, of, s, d in checks))  # type: ignore[arg-type]
    assert "Of 3 checks of servers, comparisons and the run 1 passed; these did not pass:" in text
    assert "- AWQ 4-bit: `versions` failed: 0.32 against 0.33.\n" in text
    assert "- The whole run: `memory` warns: lost." in text


def refused(model: str, block: int) -> RefusedBlock:
    why = {"reasons": ("thermal_throttling",), "details": ("too hot",)}
    return RefusedBlock(model=model, **CHAT.columns, block=block, **why)


def test_refused_blocks_are_named_with_their_reason_and_the_files_of_all_their_arms() -> None:
    text = measured(invalid=(refused("awq", 1), refused("awq", 2)))
    assert "AWQ 4-bit, chat at c=16, blocks 1 and 2: `thermal_throttling` (too hot)." in text
    arms = [f"results/test-gpu/raw/{arm}/chat/c16_t128/b1.*" for arm in ("bf16", "bf16__aa", "awq")]
    assert f"rm {' '.join(arms)}\n" in text
    assert "snakemake --cores 1\n" in text


def test_doubts_are_those_of_the_decision() -> None:
    decision = Decision(
        gpu="g", gpu_name="G", baseline="bf16", variants=("awq",), trusted=True, uses=(),
        doubts=(finding("doubts.unseen", fields=["a", "b", "c", "d"], reason="no NVML"),),
    )  # fmt: skip
    [listed] = doubts.section(run(decision=decision), Speech()).parts
    assert listed == Bullets(("Not seen during the blocks: `a`, `b` and 2 more (no NVML).",))
    assert doubts.section(run(), Speech()).parts == ()


def test_provenance_says_what_was_served_and_the_command() -> None:
    found = run(ready={"awq": ready("awq", system_fingerprint="vllm-x")})
    table, command = doubts.provenance(found, Speech.of(found)).parts
    assert table.rows == (("AWQ 4-bit", "made/awq", "vllm-x", "x"),)
    assert command.text == "snakemake --cores 1"
