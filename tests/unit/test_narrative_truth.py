"""Sentences that were false, or said more than the data, when result trees were odd."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantbench.judge import cost
from quantbench.report import (
    best_practices,
    decision,
    document,
    narrative_capacity,
    narrative_cards,
    narrative_cost,
    narrative_decision,
    narrative_doubts,
    narrative_impact,
    narrative_measurement,
    narrative_memory,
    pages,
    plots,
    predictions,
    render,
    results_tree,
)
from quantbench.report.facts import Facts
from report_fixture import Scenario, facts, price

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


def test_blocks_that_are_only_a_beginning_are_not_said_to_reach_the_precision() -> None:
    few = str(narrative_measurement.how_section(facts(Scenario(blocks=2))).parts)
    assert "would reach it" not in few
    assert "These blocks come next; what has no interval yet may need more: `snakemake" in few


def untrusted(found: Facts) -> Facts:
    return replace(found, verdict=found.verdict | {"trusted": False, "words": "the A/A control differs from itself"})


def test_a_run_that_is_not_trusted_says_so_first_on_every_page_and_shows_no_saving() -> None:
    found = untrusted(facts(Scenario()))
    for made in (pages.notes, pages.cost, pages.practices):
        assert "**Do not decide on this run:** The A/A control differs from itself." in render.page(made(found))[:900]
    text = render.page(pages.cost(found))
    assert "% cost reduction" not in text
    assert "No cost reduction is shown for AWQ 4-bit in chat: measured cost −" in text
    assert "but the A/A control says that this run is not to be trusted." in text
    assert "cheaper (" not in text
    assert "this run shows no saving, and its A/A control failed" in text
    answers = [row for row in predictions.section(found).parts[1].rows if row[1] in ("better", "1")]
    assert answers
    assert {row[3] for row in answers} == {predictions.OPEN}


def test_a_price_and_its_use_are_told_as_they_were_given() -> None:
    found = facts(Scenario())
    given = {**found.cost["assumptions"], "hourly_price": 98765.4, "utilisation": 0.375}
    text = render.page(pages.cost(replace(found, cost=found.cost | {"assumptions": given})))
    assert "Hourly price: 98,765.4 USD per hour." in text
    assert "Utilisation: 37.5 % of each hour" in text


def test_a_free_machine_has_a_price() -> None:
    scenario = Scenario()
    found = facts(scenario)
    capacity = [row for models in found.capacity.values() for rows in models.values() for row in rows]
    free = cost.cost_report(capacity, found.rows, price(scenario) | {"hourly_price": 0.0})
    text = render.page(pages.cost(replace(found, cost=free)))
    assert "| 50 % | 0 | 0 | 0 |" in text
    assert "×" not in text


def test_what_was_not_tested_is_not_called_insignificant() -> None:
    said = narrative_cost.saving_sentence(facts(Scenario(blocks=1)), "chat", "awq")
    assert said.endswith(", without a test.")


def test_where_both_lose_no_one_gains_more() -> None:
    found = facts(Scenario(variants=("slow",)))
    [row] = found.impact
    assert row["helps_more"] == "batch"
    said = str(narrative_impact.section(found).parts)
    assert "it loses less in batch" in said
    assert "hides the gain" not in said
    assert "no gain is shown in either" in said
    assert (
        "gains more in" not in str(best_practices.sections(found)[1]).partition("Here")[2].partition("Cost modeling")[0]
    )
    assert "no gain; the highest ratio" in str(predictions.section(found).parts)


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    path = tmp_path / "capacity.csv"
    path.write_text("gpu_name,model,label,workload,n\n4090,007,1e5,true,3\n")
    assert results_tree.read_table(path) == [
        {"gpu_name": "4090", "model": "007", "label": "1e5", "workload": "true", "n": 3}
    ]


def test_a_card_without_a_comparison_has_no_figure() -> None:
    refused = {"code": "invalid", "ratio": None, "ci_low": None, "ci_high": None, "valid": False}
    card = narrative_cards.cards(changed(facts(Scenario()), refused, workload="chat"))[0]
    assert (card.figure, card.interval) == ("not compared", "")
    assert card.lines[0].startswith("**AWQ 4-bit** not compared; quality")


def test_values_that_are_equal_did_not_change_by_nothing() -> None:
    row = {"code": "no_test", "ratio": 1.0, "ci_low": None, "ci_high": None, "reasons": ["NO_VARIATION"]}
    found = changed(facts(Scenario()), row, metric="throughput_tok_s")
    said = narrative_capacity.sentence_about(found, "chat", "awq", "throughput_tok_s")
    assert said.startswith("Tokens/sec is the same in this sample, without a test (all pairs have the same ratio")


def test_charts_draw_valid_points_in_order_and_their_captions_name_the_answers() -> None:
    found = two_lengths()
    shuffled = replace(found, verdict=found.verdict | {"rows": found.rows[::-1]})
    cells = plots.forest(shuffled).to_dict()["layer"][2]["encoding"]["y"]["sort"]
    assert cells[:4] == [
        "chat c=1, 128 tokens",
        "chat c=8, 128 tokens",
        "chat c=16, 128 tokens",
        "chat c=16, 256 tokens",
    ]
    captions = [figure.caption for _, figures in pages.report(found, plots_of(found)).chapters for figure in figures]
    assert "Throughput against concurrency, chat with max_tokens=128." in captions
    refused = {m: [row | {"blocks": 0} for row in rows] for m, rows in found.capacity["chat"].items()}
    assert plots.throughput(replace(found, capacity={"chat": refused}), "chat") is None
    one = {m: rows[:1] for m, rows in found.capacity["chat"].items()}
    assert plots.latency(replace(found, capacity={"chat": one}), "chat") is None, "one point is no curve"


def plots_of(found: Facts) -> dict[str, str]:
    return dict.fromkeys(plots.draw_all(found), "<svg/>")


def test_names_and_answers_open_no_tags_in_markdown() -> None:
    section = document.Section(
        "A <b>t</b>",
        (
            document.text("x < 3 and `<kept>` but <script>\n# no heading"),
            *document.bullets(["<i>one</i>"]),
            document.table(["a"], [["<u>| two"]], notes=["<b>"]),
            document.Code("<verbatim>"),
        ),
    )
    text = render.page(pages.Page("T <b>", (), (section,)))
    assert "x < 3 and `<kept>` but &lt;script> # no heading" in text
    assert "&lt;u>\\| two" in text
    assert "<verbatim>" in text
    assert not re.search(r"<(b|i|script|u)>", text.replace("`<kept>`", ""))


def test_more_tokens_with_a_worse_latency_is_not_simply_faster() -> None:
    found = facts(Scenario(quality=False))
    worse = {"code": "worse", "ratio": 3.34, "ci_low": 3.3, "ci_high": 3.38}
    found = changed(found, worse, workload="chat", concurrency=16, metric="p50_ttft_ms")
    line = narrative_decision.headline(found)[0]
    assert "AWQ 4-bit gives more tokens/sec, but check its answers first" in line
    assert "p50 TTFT (+234 %) got worse" in line
    assert "p50 TTFT (+234 %) got worse" in narrative_cards.cards(found)[0].lines[0]
    [choice] = decision.choices(found, "interactive")
    assert "latency got worse" in decision.confidence(found, choice)[1]


def test_the_deciding_metric_is_in_the_evidence_even_where_it_was_not_compared() -> None:
    gone = {"code": "invalid", "ratio": None, "ci_low": None, "ci_high": None, "baseline_value": None, "valid": False}
    table = narrative_decision.evidence_table(changed(facts(Scenario()), gone, workload="chat"))
    assert table.rows[0] == ("chat c=16: tokens/sec (tok/s)", "–", "not compared")


def test_an_interval_beside_zero_is_insignificant_only_after_correction() -> None:
    found = facts(Scenario())
    savings = [
        row | {"code": "undecided", "saving_pct": -1.0, "ci_low_pct": -1.9, "ci_high_pct": -0.1}
        for row in found.cost["savings"]
    ]
    said = narrative_cost.saving_sentence(replace(found, cost=found.cost | {"savings": savings}), "chat", "awq")
    assert said.endswith(
        "95 % CI +0.1 % to +1.9 %, which is not significant after correction for the number of comparisons."
    )


def test_the_band_of_the_chart_is_called_what_it_is() -> None:
    def caption(found: Facts) -> str:
        return pages.report(found, plots_of(found)).lead[0].caption

    wanted = changed(facts(Scenario()), {"margin": 0.02})
    assert "the band is the margin within which a difference does not matter (±2.0 %)" in caption(wanted)
    coarse = changed(wanted, {"margin": 0.129}, metric="throughput_tok_s")
    assert "the band is what the A/A control resolves (±12.9 %)" in caption(coarse)
    chart = plots.forest(coarse).to_dict()
    [band] = chart["datasets"][chart["layer"][0]["data"]["name"]]
    assert (band["low"], band["high"]) == (1 / 1.129, 1.129), "the edges of the equivalence test"
