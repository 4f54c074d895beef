"""What pages say of a decision where several workloads, a kept baseline or a CPU make the plain words wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quantbench.judge.decision import decide
from quantbench.quality import score
from quantbench.records.cell import Cell
from quantbench.records.plan import WorkloadPlan
from quantbench.records.quality import Answer, CheckResult, Floor
from quantbench.records.run import Run
from quantbench.report import decision, pages, plots, render
from quantbench.report.say import Speech
from runs import BATCH, CHAT, but, capacity, comparison, measurement, memory, plan, quality, run, verdict

TICKETS = Cell.of("tickets", 2, 64)
OPEN: dict[str, Any] = {"ratio": 1.1, "ci_low": 0.8, "ci_high": 1.5, "code": "undecided"}


def judged(found: Run) -> Run:
    return replace(found, decision=decide(found))


def two_chats(chat: dict[str, Any], tickets: dict[str, Any]) -> Run:
    """chat is the declared workload, tickets another one of its style."""
    workloads = plan().workloads | {"tickets": WorkloadPlan(style="interactive", cells=((2, 64),))}
    models = ("bf16", "awq")
    return judged(
        run(
            plan=plan(workloads=workloads),
            capacity=[capacity(model, cell) for model in models for cell in (CHAT, TICKETS, BATCH)],
            verdict=verdict([comparison(CHAT, **chat), comparison(TICKETS, **tickets), comparison(BATCH)]),
        )
    )


def memo(found: Run) -> str:
    return render.page(pages.decision_page(found))


def test_what_several_workloads_of_a_use_gave_is_said_by_name_the_declared_one_first() -> None:
    found = two_chats(OPEN, OPEN | {"ratio": 1.3})
    card = decision.cards(found, Speech.of(found))[0]
    assert (card.figure, card.of) == ("+10.0 %", "tokens/sec, AWQ 4-bit, chat, c=16")
    assert ["in chat" in card.lines[0], "in tickets" in card.lines[1]] == [True, True]
    assert "chat tokens/sec: no difference shown" in memo(found)
    assert "tickets tokens/sec: no difference shown" in memo(found)


def test_the_declared_workload_is_named_where_several_gain() -> None:
    found = two_chats({}, {"ratio": 1.5})
    assert decision.uses(found)[0].workload == "chat"
    assert decision.uses(two_chats(OPEN, {"ratio": 1.5}))[0].workload == "tickets"


def test_what_got_worse_in_different_cells_is_named_and_its_figures_stand_in_the_notes() -> None:
    lost = {"ratio": 0.8, "code": "worse"}
    slower = [
        comparison(CHAT, **lost),
        comparison(BATCH, **lost),
        comparison(CHAT, "p95_ttft_ms", ratio=1.5, code="worse"),
    ]
    said = memo(judged(run(verdict=verdict(slower))))
    assert "- AWQ 4-bit: tokens/sec and p95 TTFT in chat and" in said
    assert "has where and by how much" in said
    same = memo(judged(run(verdict=verdict(slower[:2]))))
    assert "- AWQ 4-bit: tokens/sec (−20.0 %" in same


def test_a_kept_baseline_is_nothing_to_go_back_to() -> None:
    kept = judged(run(verdict=verdict([comparison(cell, ratio=0.8, code="worse") for cell in (CHAT, BATCH)])))
    assert "If tried all the same, back to BF16 at any of:" in memo(kept)
    assert "\nBack to BF16 at any of:" in memo(judged(run(quality={"awq": quality()})))


def test_a_prompt_that_the_baseline_loses_too_is_said_to_be_one_and_condemns_nothing() -> None:
    passes, fails = (CheckResult(type="regex", ok=ok, detail="no match") for ok in (True, False))
    answer = Answer(id="p1", kind="fact", prompt="Say it", output="yes", tokens=1, token_ids=(1,))
    item = score.compare("fact", (answer, [passes]), (but(answer, output="no", token_ids=(2,)), [fails]))
    floor = Floor(measured=True, answers=1, identical=0, identical_share=0.0, lost=("p1",))
    found = judged(run(quality={"awq": score.score([item], floor, baseline="bf16", variant="awq")}))
    assert "AWQ 4-bit: 1 of 1 item lost (" in memo(found)
    assert {choice.quality for use in found.decision.uses for choice in use.choices} == {"not shown"}
    assert "The baseline lost it, too, when asked again" in render.page(pages.answers(found))


def test_without_a_speed_the_words_do_not_decide_on_speed() -> None:
    untested: dict[str, Any] = {"code": "no_test", "ci_low": None, "ci_high": None, "n_pairs": 2}
    found = judged(run(verdict=verdict([comparison(CHAT, **untested)])))
    assert "Chat: speed not tested, so keep BF16 for now." in memo(found)
    assert "Batch: speed not tested, so keep BF16 for now." in memo(found)


def test_a_cpu_has_no_card_to_watch_and_no_chart_of_a_setting() -> None:
    rows = [memory(model, vram_source="rss", vram_after_mib=1400, kv_cache_gib=0.25) for model in ("bf16", "awq")]
    gone = {"telemetry_missing": {"power_w_mean": "no NVML"}}
    cpu, gpu = (judged(run(memory=some, measurement=measurement(**gone))) for some in (rows, []))
    assert "power_w_mean" not in render.page(pages.notes(cpu))
    assert "`power_w_mean` (no NVML)" in render.page(pages.notes(gpu))
    assert "memory" not in plots.draw_all(cpu)


def test_thresholds_are_the_baselines_figures_in_the_evidence() -> None:
    """The mean over pairs is not the throughput of all requests: who compares both must find one figure."""
    rows = [
        comparison(cell, metric, baseline_value=value)
        for cell in (CHAT, BATCH)
        for metric, value in (("throughput_tok_s", 240.0), ("p95_e2e_ms", 2636.0))
    ]
    page = memo(judged(run(verdict=verdict(rows))))
    assert "| chat c=16: tokens/sec | 240 |" in page
    assert "chat c=16: p95 E2E lastingly above 2,636 ms, or tokens/sec below 240." in page
