"""The headline, the memo and the cards say what decision.json says, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from quantbench.judge.decision import decide
from quantbench.records.cost import Assumptions, Cost, CostRow, Saving
from quantbench.records.finding import finding
from quantbench.records.quality import QualityVerdict, Use, UseId
from quantbench.records.run import Run
from quantbench.report import cards, decision, ending
from quantbench.report.document import Section, Table
from quantbench.report.say import Speech
from runs import BATCH, CHAT, but, capacity, comparison, control, plan, quality, run, verdict

OPEN: dict[str, Any] = {"ratio": 1.1, "ci_low": 0.95, "ci_high": 1.25, "code": "undecided"}


def decided(**parts: Any) -> Run:
    """A run with its decision."""
    found = run(**{"quality": {"awq": quality()}, **parts})
    return replace(found, decision=decide(found))


def headline(found: Run) -> list[str]:
    return decision.headline(found, Speech.of(found))


def memo(found: Run) -> dict[str, Section]:
    return {section.title: section for section in decision.memo(found, Speech.of(found))}


def text_of(section: Section) -> str:
    return str(section.parts)


def test_a_gain_with_good_answers_is_recommended() -> None:
    [chat, batch] = headline(decided())
    assert chat.startswith("**Chat: use AWQ 4-bit.** Tokens/sec: improved at c=16 (+20.0 % [+17.6, +22.4]); quality OK")
    assert batch.startswith("**Batch: use AWQ 4-bit.**")


def test_quality_forbids_and_speed_alone_never_recommends() -> None:
    lost = quality(uses={"batch": "not acceptable", "chat": "not acceptable"})
    assert all("keep BF16.**" in line for line in headline(decided(quality={"awq": lost})))
    assert all("is faster, but check its answers first" in line for line in headline(decided(quality={})))


def test_more_tokens_with_a_worse_latency_is_not_simply_faster() -> None:
    worse = comparison(CHAT, "p50_ttft_ms", ratio=3.34, code="worse")
    found = decided(verdict=verdict([comparison(CHAT), worse]), quality={})
    assert "AWQ 4-bit gives more tokens/sec, but check its answers first" in headline(found)[0]
    assert "p50 TTFT (+234 %) got worse" in headline(found)[0]
    assert "p50 TTFT (+234 %) got worse" in cards.cards(found, Speech.of(found))[0].lines[0]


def test_where_nothing_is_decided_each_variant_says_why() -> None:
    rows = [comparison(cell, variant=v, **OPEN) for cell in (CHAT, BATCH) for v in ("awq", "fp8")]
    line = headline(decided(plan=plan(variants=("awq", "fp8")), verdict=verdict(rows)))[0]
    assert line.startswith("**Chat: not decided, so keep BF16 for now.** AWQ 4-bit: tokens/sec: no difference shown")
    assert "FP8 (online): tokens/sec: no difference shown at c=16 (+10.0 % [−5.0, +25.0])" in line


def test_names_of_prompts_stay_out_of_the_headline() -> None:
    because = (finding("quality.lost_named", lost=2, of=60, prompts=["p03", "p09"]),)
    names: tuple[UseId, ...] = ("chat", "batch")
    uses = tuple(Use(id=name, status="not acceptable", because=because) for name in names)
    lost = but(quality(), uses=uses)
    line = headline(decided(quality={"awq": lost}))[0]
    assert "quality not acceptable (lost 2 of 60)" in line
    assert "p03" not in line


UNTRUSTED = control(
    metrics={
        "throughput_tok_s": but(
            control().metrics["throughput_tok_s"], different=True, code="better", ratio=1.1, ci_low=1.05, ci_high=1.15
        )
    }
)


def test_an_untrusted_run_says_so_first_and_shows_no_saving() -> None:
    found = decided(verdict=verdict(trusted=False, aa=UNTRUSTED), cost=costs())
    lines = headline(found)
    assert lines[0].startswith("**Do not decide on this run:** the A/A control differs from itself (tokens/sec)")
    assert all("not decided" in line for line in lines[1:])
    say = Speech.of(found)
    assert {card.action for card in cards.cards(found, say)} == {"undecided"}
    assert not any(card.shown for card in cards.cards(found, say))
    assert "saves" not in text_of(memo(found)["Cost"])
    assert found.decision is not None
    assert "Do not decide on this run" in ending.summary(found.decision, Speech(found.plan.labels))[0]


def test_the_memo_is_sure_only_as_far_as_the_data() -> None:
    assert "Confidence: high." in text_of(memo(decided())["Decision"])
    unsure = decided(verdict=verdict(aa=control(present=False, metrics={})))
    assert "Confidence: medium (no A/A control)." in text_of(memo(unsure)["Decision"])


def evidence(found: Run) -> Table:
    return decision.evidence_table(found, Speech.of(found))


def test_the_deciding_metric_is_in_the_evidence_even_where_it_was_not_compared() -> None:
    gone = comparison(CHAT, ratio=None, code="invalid", baseline_value=None, valid=False)
    assert evidence(decided(verdict=verdict([gone]))).rows[0] == ("chat c=16: tokens/sec", "–", "not compared")


def test_evidence_has_the_tail_and_what_else_is_shown() -> None:
    rows = [
        comparison(CHAT),
        comparison(CHAT, "p95_e2e_ms", **OPEN),
        comparison(CHAT, "p50_tpot_ms", ratio=0.8),
        comparison(CHAT, "p50_ttft_ms", **OPEN),
    ]
    names = [row[0] for row in evidence(decided(verdict=verdict(rows))).rows]
    assert names[:3] == ["chat c=16: tokens/sec", "chat c=16: p50 TPOT (ms)", "chat c=16: p95 E2E (ms)"]
    cell = evidence(decided(verdict=verdict(rows))).rows[0][2]
    assert cell == "120; 1.200 [1.176, 1.224] ▲"


def test_what_got_worse_has_its_cells_and_the_prompts_lost() -> None:
    assert "Nothing that was compared got worse." in text_of(memo(decided())["What got worse"])
    worse = comparison(CHAT, "p95_e2e_ms", ratio=1.1, code="worse")
    lost = but(quality(), worse=("p03",), verdict=but(quality().verdict, lost=("p03",)))
    found = decided(verdict=verdict([comparison(CHAT), worse]), quality={"awq": lost})
    said = text_of(memo(found)["What got worse"])
    assert "p95 E2E in chat c=16 (+10.0 % [+7.8, +12.2])" in said
    assert "1 of 60 prompts lost (p03); verbatim in `answers.md`" in said


def test_doubts_that_weigh_stand_in_the_memo_and_the_rest_is_counted() -> None:
    said = text_of(memo(decided(verdict=verdict(aa=control(present=False, metrics={}))))["What was not tested"])
    assert "Without an A/A control" in said
    assert "further doubts are in `notes.md`" in said
    assert "cannot exclude a loss of such answers: up to 6 % with AWQ 4-bit" in said


def test_thresholds_come_from_valid_blocks_only() -> None:
    known = {"throughput_tok_s": 100.0, "p95_e2e_ms": 745.0}
    rows = [capacity("bf16", CHAT, known), capacity("bf16", BATCH, known, blocks=0)]
    said = text_of(memo(decided(capacity=rows))["Rollback thresholds"])
    assert "chat c=16: p95 E2E lastingly above 745 ms, or tokens/sec below 100." in said
    assert "batch_summarize" not in said


def costs(**saving: Any) -> Cost:
    """A price, what the models cost in chat, and what awq saves there."""
    row = {"model": "bf16", **CHAT.columns, "throughput_tok_s": 100.0, "tokens_per_hour": 360000.0,
           "cost_per_1m_tokens": 0.5, "cost_per_1m_total_tokens": None, "cost_per_request": None, "j_per_token": None,
           "energy_cost_per_1m_tokens": None}  # fmt: skip
    base = {"variant": "awq", "baseline": "bf16", **CHAT.columns, "saving_pct": 16.5, "ci_low_pct": 6.6,
            "ci_high_pct": 25.3, "code": "better", "primary": True}  # fmt: skip
    return Cost(
        assumptions=Assumptions(hourly_price=0.1, source="a list", date="2026-11-09", utilisation=1.0),
        rows=(CostRow(**row),), savings=(Saving(**{**base, **saving}),), sensitivity=(),
    )  # fmt: skip


def test_costs_are_a_line_per_workload() -> None:
    said = text_of(memo(decided(cost=costs()))["Cost"])
    assert "0.1 USD per hour (a list, 2026-11-09) at 100 % utilisation." in said
    assert "chat: BF16 0.500 USD/1M output tokens; AWQ 4-bit saves 16.5 % [6.6, 25.3]." in said
    dearer = costs(saving_pct=-10.0, ci_low_pct=-12.0, ci_high_pct=-8.0, code="worse")
    assert "AWQ 4-bit costs 10.0 % more [8.0, 12.0]" in text_of(memo(decided(cost=dearer))["Cost"])
    open_ = costs(code="undecided")
    likely = verdict([comparison(CHAT, **OPEN, likely="gain")])
    assert "likely saving, not shown (16.5 % [6.6, 25.3])" in text_of(memo(decided(cost=open_, verdict=likely))["Cost"])
    assert "no saving shown" in text_of(memo(decided(cost=open_, verdict=verdict([comparison(CHAT, **OPEN)])))["Cost"])


def test_a_card_is_drawn_no_stronger_than_its_finding() -> None:
    found = decided(verdict=verdict([comparison(CHAT, **OPEN)]))
    [card, _] = cards.cards(found, Speech.of(found))
    assert (card.figure, card.interval, card.shown) == ("+10.0 %", "95 % CI −5.0 % to +25.0 %", False)
    assert card.title == "Not decided, so keep BF16 for now"
    gone = comparison(CHAT, ratio=None, code="invalid", valid=False)
    [card, _] = cards.cards(decided(verdict=verdict([gone])), Speech.of(found))
    assert (card.figure, card.interval) == ("not compared", "")


def test_the_last_words_are_the_leads() -> None:
    found = decided()
    assert found.decision is not None
    lines = ending.summary(found.decision, Speech(found.plan.labels))
    assert lines == [f"- {use}: use AWQ 4-bit. Confidence: high." for use in ("Chat", "Batch")]


def test_a_run_without_variants_has_nothing_to_decide() -> None:
    alone = decided(plan=plan(variants=()), verdict=verdict(()), quality={})
    assert headline(alone) == [
        "No quantized model was selected, so nothing was compared; this is the capacity of BF16 alone."
    ]
    assert set(memo(alone)) == {"Decision", "What was not tested", "Cost", "Reproduce"}


def test_the_word_on_answers_is_the_verdicts() -> None:
    word = but(quality(), verdict=QualityVerdict(
        word="degraded", n=60, lost=(), gained=(), mcnemar_p=None, loss_rate=None, loss_rate_upper_95=None
    ))  # fmt: skip
    assert evidence(decided(quality={"awq": word})).rows[-1] == ("prompts passed", "60", "60; degraded")
