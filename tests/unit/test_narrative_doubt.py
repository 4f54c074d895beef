"""What a run does not show is said to be not shown: where, how far from it, and what would help."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

from quantbench.judge import cost
from quantbench.report import (
    narrative_capacity,
    narrative_cards,
    narrative_cost,
    narrative_decision,
    narrative_doubts,
    narrative_ratios,
    narrative_words,
    pages,
    render,
)
from quantbench.report.facts import Facts
from report_fixture import Scenario, facts

Json = dict[str, Any]
CHAT = {"workload": "chat", "concurrency": 16, "max_tokens": 128}
LOSS = {"ratio": 0.707, "ci_low": 0.561, "ci_high": 0.892, "code": "undecided"}
OPEN = {"ratio": 1.1, "ci_low": 0.799, "ci_high": 1.516, "code": "undecided"}
NEAR = {"ratio": 1.01, "ci_low": 0.985, "ci_high": 1.035, "code": "undecided"}


def changed(found: Facts, change: Json, **where: Any) -> Facts:
    """The facts with `change` in the comparison rows that match `where`."""
    rows = [row | change if all(row[key] == value for key, value in where.items()) else row for row in found.rows]
    return replace(found, verdict=found.verdict | {"rows": rows})


def test_the_most_blocks_of_the_pages_are_those_of_the_verdict() -> None:
    same = changed(facts(Scenario()), {"code": "equivalent"})
    found = changed(same, OPEN, workload="chat", metric="throughput_tok_s")
    fewer = replace(found, verdict=found.verdict | {"precision": found.verdict["precision"] | {"most_blocks": 9}})
    assert "each would need more than 9 blocks" in str(narrative_doubts.doubts(fewer))
    assert "more than 9 blocks in all would be needed" in render.page(pages.notes(fewer))


def test_an_effect_that_only_the_correction_hides_is_likely_and_not_nothing() -> None:
    found = changed(facts(Scenario()), OPEN, **CHAT)
    said = narrative_capacity.findings(found, "chat", "awq")
    assert "At c=16 neither a gain nor a loss in throughput or latency is shown, and neither is excluded." in said
    found = changed(found, LOSS, **CHAT, metric="throughput_tok_s")
    found = changed(
        found, {"code": "undecided", "ratio": 1.4, "ci_low": 1.1, "ci_high": 1.8}, **CHAT, metric="p50_e2e_ms"
    )
    said = narrative_capacity.findings(found, "chat", "awq")
    told = "a loss in tokens/sec and p50 E2E is likely, but not proven after correction for the number of comparisons"
    assert f"At c=16 {told}." in said
    everywhere = changed(found, LOSS, workload="chat", metric="throughput_tok_s")
    assert "; a loss is likely at c=1, c=8 and c=16." in str(narrative_capacity.findings(everywhere, "chat", "awq"))


def test_all_equivalent_is_said_so() -> None:
    same = changed(facts(Scenario()), {"code": "equivalent", "ratio": 1.0, "ci_low": 0.99, "ci_high": 1.01})
    assert "changed neither throughput nor latency by more than the margin" in str(
        narrative_capacity.findings(same, "chat", "awq")
    )


def test_verdict_cells_are_short_and_what_they_share_stands_below_once() -> None:
    found = changed(facts(Scenario(interleaved=False)), OPEN, workload="chat", metric="throughput_tok_s")
    found = changed(found, LOSS, **CHAT, metric="throughput_tok_s")
    table = narrative_ratios.ratio_table(found, "chat")
    verdicts = [row[table.columns.index("tokens/sec verdict")] for row in table.rows]
    assert verdicts[0] == "no significant difference: −20.1 % to +51.6 %"
    assert verdicts[2] == "loss likely, not proven after correction: −43.9 % to −10.8 %"
    note = "AWQ 4-bit at c=1, c=8 and c=16: more than 40 blocks in all would be needed to resolve 2.0 %"
    assert sum(note in line for line in table.notes) == 1
    assert sum("not interleaved" in line for line in table.notes) == 1
    assert not re.search("blocks|interleaved", " ".join(verdicts))


def test_footnotes_name_the_rows_that_they_are_about() -> None:
    found = facts(Scenario(variants=("awq", "fp8")))
    short = {"reasons": ["P95_NEEDS_N72"], "ratio": None, "ci_low": None, "ci_high": None, "code": "no_test"}
    found = changed(found, short, workload="chat", concurrency=1, metric="p95_e2e_ms")
    found = changed(found, {"reasons": ["P95_POOLED"]}, **CHAT, variant="fp8", metric="p95_e2e_ms")
    found = changed(found, {"reasons": ["prefix_cache (awq block 2)"]}, **CHAT, variant="awq")
    notes = narrative_ratios.ratio_table(found, "chat").notes
    assert any(n.startswith("p95 E2E of AWQ 4-bit and FP8 (online) at c=1: a p95 needs at least 72") for n in notes)
    assert any(n.startswith("p95 E2E of FP8 (online) at c=16: blocks are too short") for n in notes)
    assert "AWQ 4-bit at c=16: awq block 2 is invalid (Prefix cache hits)." in notes


def test_a_blank_p95_is_not_explained_by_what_does_not_concern_it() -> None:
    found = facts(Scenario(p95=False))
    row = found.capacity["chat"]["awq"][0]
    row = row | {"reasons": "P95_NEEDS_N72;CI_NEEDS_3_BLOCKS;STEADY_TOO_SHORT", "concurrency": 16}
    notes = narrative_capacity.focus_table(replace(found, capacity={"chat": {"awq": [row]}}), "chat").notes
    assert notes == ("Blank p95_ttft_ms and p95_e2e_ms: a p95 needs at least 72 requests; longer blocks give them.",)


def test_without_a_test_the_reason_is_given() -> None:
    found = facts(Scenario())
    row = found.rows[0] | {"code": "no_test", "ratio": 0.9, "reasons": ["P95_POOLED", "BLOCK_NEEDS_N20"]}
    told = narrative_words.clause(found, row)
    assert (
        told
        == "changed by −10.0 % in this sample, without a test (a pooled percentile needs 20 requests in each block)"
    )


def test_the_command_that_measures_refused_blocks_again_names_their_files() -> None:
    found = facts(Scenario(invalid=True))
    text = render.page(pages.notes(found))
    block = found.measurement["blocks"]["invalid"][0]
    cell = f"{block['workload']}/c{block['concurrency']}_t{block['max_tokens']}"
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("rm results/")]
    assert len(lines) == len(
        {(b["workload"], b["concurrency"], b["block"]) for b in found.measurement["blocks"]["invalid"]}
    )
    raw = "results/test-gpu/raw"
    arms = {word.split("/")[3] for line in lines for word in line[1:] if f"/{cell}/b{block['block']}." in word}
    assert {"bf16", "awq"} <= arms
    assert all(word.startswith(raw) for line in lines for word in line[1:])
    assert "rm results/" not in render.page(pages.notes(facts(Scenario())))


def test_the_precision_reached_leaves_no_comparison_out() -> None:
    entry = {"cell": "chat/c8_t128", "variant": "awq", "metric": "p95_e2e_ms"}
    lists = {
        "reached": [entry] * 2,
        "missing": [],
        "out_of_reach": [entry],
        "untested": [entry] * 3,
        "refused": [entry],
    }
    found = facts(Scenario())
    plan = found.verdict["precision"] | lists | {"extra_blocks": {}}
    text = render.page(pages.notes(replace(found, verdict=found.verdict | {"precision": plan})))
    counts = "reached by 2 comparisons, out of reach for 1, without a confidence interval for 3, refused for 1."
    assert f"Precision 2.0 %: {counts}" in text


def test_a_cell_without_a_price_says_why_and_what_its_saving_rests_on() -> None:
    found = facts(Scenario())
    capacity = {w: {m: list(rows) for m, rows in models.items()} for w, models in found.capacity.items()}
    row = capacity["chat"]["awq"][2]
    capacity["chat"]["awq"][2] = row | {"valid": False, "blocks_invalid": 1}
    rows = [row for models in capacity.values() for some in models.values() for row in some]
    priced = cost.cost_report(rows, found.rows, found.cost["assumptions"])
    text = render.page(pages.cost(replace(found, capacity=capacity, cost=priced)))
    why = "1 block refused, so the cell is not valid and gets no price; its saving rests on the 6 pairs of valid blocks"
    assert f"Blank for AWQ 4-bit: {why}" in text
    assert f"Blank for AWQ 4-bit in chat at c=16: {why}" in text
    assert narrative_cost.PAIRED in text


def test_memory_and_start_up_claim_no_more_than_their_sources() -> None:
    found = facts(Scenario())
    assert "By its weight memory its linear layers hold 4.40 bits" in render.page(pages.notes(found))
    own = found.ready["awq"]
    stored = own["quantization"] | {"evidence": ["The checkpoint stores 4.40 bits per weight of the linear layers."]}
    phases = {"total_s": 20.0, "weights_s": 0.1, "engine_init_s": 0.3}
    ready = {**found.ready, "awq": own | {"quantization": stored, "startup": phases}}
    text = render.page(pages.notes(replace(found, ready=ready)))
    assert "By the files of its checkpoint its linear layers hold 4.40 bits" in text
    assert "the phases that the log times are only 2 % of its start (400 ms of 20.0 s)" in text
    assert "the phases that the log times are only" not in render.page(pages.notes(found))


def test_a_figure_that_is_not_a_finding_is_drawn_as_weakly_as_its_interval() -> None:
    found = changed(facts(Scenario(workloads=("chat",))), OPEN, **CHAT, metric="throughput_tok_s")
    [card] = narrative_cards.cards(found)
    assert not card.shown
    assert card.lines[0].startswith("**AWQ 4-bit** +10.0 % tokens/sec (not decided)")
    page = render.report(pages.report(found, {}))
    weak = (
        '<p class="change open"><span class="figure">+10.0 %</span> <span class="interval">95 % CI −20.1 % to +51.6 %'
    )
    assert weak in page
    assert 'class="change open"' not in render.report(pages.report(facts(Scenario(workloads=("chat",))), {}))
    likely = changed(found, LOSS, **CHAT, metric="throughput_tok_s")
    assert "−29.3 % tokens/sec (loss likely, not proven)" in narrative_cards.cards(likely)[0].lines[0]


def test_a_run_without_a_variant_is_about_the_capacity_of_its_model() -> None:
    found = facts(Scenario(variants=(), aa=False))
    made = {name: render.page(getattr(pages, name)(found)) for name in ("notes", "cost", "decision")}
    assert made["notes"].startswith("# Capacity of BF16 on Test GPU 24GB\n")
    assert made["decision"].startswith("# Capacity of BF16 on Test GPU 24GB: nothing to decide\n")
    assert made["cost"].startswith("# Cost of BF16, Test GPU 24GB\n")
    assert "## Chat Capacity: BF16\n" in made["notes"]
    for text in made.values():
        assert not re.search(r"\bvs\b|Ratios|Break-even|What got worse|\*\*Savings\*\*|not interleaved|  instead", text)
        for title in re.findall(r"^#+ .*\n\n(?=#|\Z)", text, flags=re.MULTILINE):
            assert title.startswith("# "), f"an empty section: {title}"
    page = render.report(pages.report(found, {}))
    assert "<h1>Capacity of BF16 on Test GPU 24GB</h1>" in page
    assert "No quantized model was selected" in page
    assert 'class="cards"' not in page
    assert narrative_decision.headline(found) == [narrative_words.alone(found)]
