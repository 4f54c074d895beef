"""Whatever the data lack, the pages stay whole: no broken numbers, the specification's sections, honest sentences."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from quantbench.judge import guards
from quantbench.report import (
    narrative_business,
    narrative_cards,
    narrative_decision,
    narrative_words,
    pages,
    render,
)
from quantbench.report.facts import Facts
from report_fixture import Scenario, facts

SCENARIOS = {
    "pair": Scenario(),
    "five variants": Scenario(variants=("awq", "gptq", "fp8", "int8", "slow")),
    "one workload": Scenario(workloads=("chat",)),
    "batch only": Scenario(workloads=("batch_summarize",)),
    "no A/A": Scenario(aa=False),
    "no price": Scenario(price=False),
    "no quality": Scenario(quality=False),
    "no telemetry": Scenario(telemetry=False),
    "no p95": Scenario(p95=False),
    "invalid cells": Scenario(invalid=True),
    "all invalid": Scenario(invalid=True, blocks=4),
    "no memory in the log": Scenario(memory=False),
    "not interleaved": Scenario(interleaved=False),
    "too few blocks": Scenario(blocks=2),
    "one block": Scenario(blocks=1, aa=False),
    "no predictions": Scenario(predictions=False),
    "on the CPU": Scenario(cpu=True, telemetry=False),
    "bare": Scenario(
        aa=False, price=False, quality=False, telemetry=False, p95=False, memory=False, predictions=False, blocks=1
    ),
}
PAGES = ("notes", "cost", "decision", "practices")
NOTES_SECTIONS = (
    "Model & VRAM Baseline",
    "Quality Sanity Check",
    "Predictions",
    "How it was measured",
    "What could still be wrong",
)
BROKEN = re.compile(r"\b(nan|none|null|inf|true|false)\b|\{|\}|  +\S|\(\)| \.|,,|\.\.(?!\.)", re.IGNORECASE)


@pytest.fixture(scope="module", params=SCENARIOS, ids=str)
def rendered(request: pytest.FixtureRequest) -> tuple[Facts, dict[str, str]]:
    """The facts of a scenario and its four pages."""
    found = facts(SCENARIOS[request.param])
    return found, {page: render.page(getattr(pages, page)(found)) for page in PAGES}


def _without_fences(text: str) -> str:
    return re.sub(r"^(`{3,}).*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def _prose(text: str) -> str:
    """The page without code, verbatim answers and table rules."""
    text = re.sub(r"`[^`]*`", "code", _without_fences(text))
    return re.sub(r"\|[-: |]+\|\n", "", text).replace(guards.meanings()["nan_logits"], "title")


def test_no_page_prints_a_broken_value(rendered: tuple[Facts, dict[str, str]]) -> None:
    for page, text in rendered[1].items():
        for line in _prose(text).splitlines():
            hit = BROKEN.search(line.strip())
            assert hit is None, f"{page}: {hit[0] if hit else ''!r} in {line!r}"


def test_singular_and_plural_agree(rendered: tuple[Facts, dict[str, str]]) -> None:
    nouns = "block|prompt|comparison|cell|case|day|pair|wake-up"
    for text in rendered[1].values():
        assert not re.search(rf"(?<![\d.,])1 ({nouns})s\b", text)
        assert not re.search(rf"(?<![\d.,])(?!1 )\d+ ({nouns})\b", text)


def test_notes_have_the_sections_of_the_specification(rendered: tuple[Facts, dict[str, str]]) -> None:
    found, text = rendered[0], rendered[1]["notes"]
    for title in NOTES_SECTIONS:
        assert f"## {title}\n" in text
    assert ("## Chat Capacity: BF16 vs Quant\n" in text) == bool(found.workloads("interactive"))
    assert ("## Batch Capacity: BF16 vs Quant\n" in text) == bool(found.workloads("batch"))


def test_cost_document_follows_the_specification(rendered: tuple[Facts, dict[str, str]]) -> None:
    found, text = rendered[0], rendered[1]["cost"]
    columns = "| Model | Throughput (tok/s) | Tokens/Hour | USD/1M Tokens |"
    for part in ("## Assumptions", "## Narrative", "## Business case", columns):
        assert part in text
    assert text.count("**Savings**:") == len(found.workloads()) * len(found.variants)
    assert 2 <= len(narrative_business.narrative(found)) <= 3
    assert 3 <= len(narrative_business.business_case(found)) <= 5


def test_tables_are_rectangular(rendered: tuple[Facts, dict[str, str]]) -> None:
    for text in rendered[1].values():
        for block in re.findall(r"(?:^\|.*\n)+", _without_fences(text), flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_baseline_section_has_five_to_ten_sentences_per_variant() -> None:
    text = render.page(pages.notes(facts(Scenario(variants=("awq", "fp8")))))
    paragraphs = [line for line in text.splitlines() if "was picked as the quantized model" in line]
    assert len(paragraphs) == 2
    for paragraph in paragraphs:
        assert 5 <= len(re.findall(r"\.(?= [A-Z]|$)", paragraph)) <= 10


def test_the_sentences_that_one_must_be_able_to_state() -> None:
    text = render.page(pages.notes(facts(Scenario())))
    assert re.search(r"Tokens/sec improved by [\d.]+ % \(95 % CI .*\) at c=1", text)
    assert re.search(r"p95 E2E fell by [\d.]+ % .* at c=8", text)
    assert re.search(r"The difference matters most at c=\d+", text)
    assert re.search(r"c=1/8/16, max_tokens=128 → 1\.\d+, 1\.\d+, 1\.\d+", text)
    assert re.search(r"Chat at c=16: tokens/sec improved by .*\n- Batch at c=32: tokens/sec", text)
    assert "a hypothesis, not tested" in text
    assert re.search(r"[\d.]+ % \(.*\) lie inside measured blocks", text)
    assert re.search(
        r"from the start of the first block on lane `gpu0` to the end of the last, [\d.]+ % \(.*\) do;", text
    )
    limit = (
        r"- vLLM's front end limits streaming: .* Seen with AWQ 4-bit in chat c=16, max_tokens=128, BF16 in chat c=16"
    )
    assert re.search(limit, text), "what limits cells is said where it is not the engine"
    assert "How to think about quality risk when quantizing" in text


def test_a_slower_variant_is_kept_out_and_called_slower() -> None:
    found = facts(Scenario(variants=("slow",)))
    assert all(
        line.startswith(("**Chat: keep BF16.**", "**Batch: keep BF16.**"))
        for line in narrative_decision.headline(found)
    )
    text = render.page(pages.notes(found))
    assert "Tokens/sec fell by" in text
    assert "the quantized model is slower at" in text
    assert "costs" in render.page(pages.cost(found))


def test_an_untrusted_run_decides_nothing() -> None:
    fast = facts(Scenario(variants=("fp8",)))
    found = replace(fast, verdict=fast.verdict | {"trusted": False, "words": "the A/A control differs from itself"})
    assert narrative_decision.headline(found)[0].startswith("**Do not decide on this run:**")
    assert {card.action for card in narrative_cards.cards(found)} == {"undecided"}
    assert "do not trust this run" in render.page(pages.notes(found))


def test_refused_blocks_are_named_with_their_reason() -> None:
    text = render.page(pages.notes(facts(Scenario(invalid=True))))
    assert "Blocks that were refused, and why" in text
    assert "sw_thermal_slowdown" in text
    assert re.search(r"not compared|not valid|refused", text)


def test_without_p95_the_reason_stands_where_the_figure_would() -> None:
    text = render.page(pages.notes(facts(Scenario(p95=False))))
    assert "a p95 needs at least 72 requests" in text
    assert "p50 TTFT" in text


def test_without_a_price_costs_are_blank_but_savings_stand() -> None:
    text = render.page(pages.cost(facts(Scenario(price=False))))
    assert "No hourly price is given" in text
    assert re.search(r"\*\*Savings\*\*: [\d.]+ % cost reduction", text)


def test_changing_the_price_changes_the_costs_in_proportion() -> None:
    found = facts(Scenario())
    rows = [row["cost_per_1m_tokens"] for row in found.cost["rows"]]
    text = render.page(pages.cost(found))
    assert all(f"{row:.3g}".rstrip("0") in text for row in rows if row and row < 1)


def test_a_persons_notes_are_carried_over() -> None:
    assert "wrong, but harmless" in render.page(pages.notes(facts(Scenario())))


def test_practices_have_the_eight_items() -> None:
    text = render.page(pages.practices(facts(Scenario())))
    for item in (
        "Quantization VRAM savings",
        "Quality gating",
        "Side-by-side comparison",
        "Port separation",
        "Batch vs chat quantization impact",
        "Cost modeling",
        "Assumptions transparency",
        "Quality-adjusted cost",
    ):
        assert f"**{item}**" in text


def test_settings_that_only_one_model_has_are_told() -> None:
    fast = facts(Scenario())
    found = replace(fast, config=fast.config | {"server_differences": {"awq": {"max_num_seqs": 32}}})
    assert "AWQ 4-bit is served with its own `max_num_seqs: 32`" in render.page(pages.notes(found))
    ready = {**fast.ready, "awq": fast.ready["awq"] | {"settings": {"max_model_len": 2048, "enforce_eager": True}}}
    text = render.page(pages.notes(replace(fast, ready=ready)))
    assert "AWQ 4-bit: `max_model_len` is `2048`, the baseline's is `4096`." in text
    assert "AWQ 4-bit: `enforce_eager` is on, the baseline's is off." in text


def test_dummy_weights_are_declared() -> None:
    fast = facts(Scenario())
    text = render.page(
        pages.notes(replace(fast, config=fast.config | {"load_formats": {"bf16": "dummy", "awq": "dummy"}}))
    )
    assert "BF16 and AWQ 4-bit ran with dummy weights" in text


def test_a_margin_that_the_control_made_coarse_is_not_no_change() -> None:
    found = facts(SCENARIOS["pair"])
    row = found.rows[0] | {"code": "undecided", "margin": 0.38, "ratio": 0.9, "ci_low": 0.85, "ci_high": 0.95}
    told = narrative_words.clause(found, row)
    data = "the data allow −15.0 % to −5.0 %; the A/A control resolves ±38.0 % only"
    assert told == f"cannot be told apart from the baseline's ({data})"
    fine = {"code": "equivalent", "margin": 0.02, "ratio": 0.991, "ci_low": 0.988, "ci_high": 0.995}
    told = narrative_words.clause(found, row | fine)
    assert told == "is equivalent to the baseline's within 2.0 % (95 % CI −1.2 % to −0.5 %)", "it did change, by 0.9 %"


def test_a_coarse_margin_hides_no_interval_that_leaves_it() -> None:
    found = facts(SCENARIOS["pair"])
    row = found.rows[0] | {"code": "undecided", "margin": 0.27, "ratio": 1.351, "ci_low": 1.083, "ci_high": 1.686}
    told = narrative_words.clause(found, row)
    assert told.startswith("changed by +35.1 % (95 % CI +8.3 % to +68.6 %), which is not significant after correction")
    assert narrative_words.likely(row) == "gain"
    inside = row | {"ratio": 1.1, "ci_low": 1.05, "ci_high": 1.15}
    assert narrative_words.clause(found, inside).startswith("cannot be told apart")
    assert narrative_words.likely(inside) == "", "within the margin nothing is a gain"
