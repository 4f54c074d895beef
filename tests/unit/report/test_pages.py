"""The pages put together: sections, the checklist, chat against batch, predictions, captions, what HTML folds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from quantbench.config import report_plan
from quantbench.judge.decision import decide
from quantbench.judge.impact import impact_rows
from quantbench.records.cell import Cell
from quantbench.records.run import Run
from quantbench.report import impact, pages, plots, practices, predictions, render
from quantbench.report.document import Code, Details, Section, table, text
from quantbench.report.say import Speech
from runs import BATCH, CHAT, capacity, comparison, memory, plan, quality, run, verdict

OPEN: dict[str, Any] = {"ratio": 1.1, "ci_low": 0.95, "ci_high": 1.25, "code": "undecided"}
LOSS: dict[str, Any] = {"ratio": 0.8, "code": "worse"}


def judged(**parts: Any) -> Run:
    """A run with what is judged of it: chat against batch, and the decision."""
    found = run(**{"quality": {"awq": quality()}, **parts})
    say = Speech.of(found)
    found = replace(found, impact=[impact.worded(found, say, row) for row in impact_rows(found)])
    return replace(found, decision=decide(found))


def markdown(name: str, found: Run) -> str:
    return render.page(pages.PAGES[name](found))


def test_a_page_is_made_by_each_name_of_the_rule() -> None:
    assert set(pages.PAGES) == set(report_plan.PAGES)


@pytest.mark.parametrize("name", [name for name in pages.PAGES if name != "decision"])
def test_an_untrusted_run_says_so_first(name: str) -> None:
    found = judged(verdict=verdict(trusted=False))
    before_sections = markdown(name, found).split("\n## ")[0]
    assert "**Do not decide on this run:**" in before_sections


def test_notes_have_their_sections() -> None:
    text_ = markdown("notes", judged())
    titles = ["Model & VRAM Baseline", "Chat Capacity: BF16 vs Quant", "Batch Capacity: BF16 vs Quant"]
    titles += ["Batch vs Chat quantization impact", "Quality Sanity Check", "Predictions", "How it was measured"]
    positions = [text_.index(f"## {title}\n") for title in [*titles, "What could still be wrong"]]
    assert positions == sorted(positions)


def test_without_variants_pages_have_what_needs_none() -> None:
    alone = judged(plan=plan(variants=()), verdict=verdict(()), quality={}, impact=())
    assert "Quality Sanity Check" not in markdown("notes", alone)
    assert "nothing to decide" in markdown("decision", alone)


def practice(found: Run, item: str) -> str:
    """One item of the checklist."""
    sections = practices.sections(found, Speech.of(found))
    return next(line for section in sections for line in section.parts[0].items if item in line)  # type: ignore[union-attr]


def test_practices_have_the_eight_items_with_what_was_measured() -> None:
    found = judged()
    assert "AWQ 4-bit weights 60.0 % less" in practice(found, "**Quantization VRAM savings**")
    assert "AWQ 4-bit 0 of 60 prompts lost, no degradation seen" in practice(found, "**Quality gating**")
    assert "BF16 on 8000 and AWQ 4-bit on 8000" in practice(found, "**Port separation**")
    assert "no difference between the two is shown" in practice(found, "**Batch vs chat quantization impact**")
    assert "chat: AWQ 4-bit: not compared" in practice(found, "**Cost modeling**")
    assert "No hourly price is given" in practice(found, "**Assumptions transparency**")
    assert "up to 6 % with AWQ 4-bit" in practice(found, "**Quality-adjusted cost**")
    rows = [comparison(CHAT), comparison(BATCH, interleaved=False), comparison(CHAT, "p50_e2e_ms", n_pairs=1)]
    turns = practice(judged(verdict=verdict(rows)), "**Side-by-side comparison**")
    assert "Here: 1 of 2 comparisons interleaved, 60 blocks in all." in turns, "one pair alone has no order"
    files = [memory("bf16"), memory("awq", checkpoint_reduction_pct=48.4)]
    assert "checkpoint files 48.4 % less" in practice(judged(memory=files), "VRAM savings")
    assert "this gate is not passed" in practice(judged(quality={}), "Quality gating")


def impact_text(found: Run) -> str:
    return str(impact.section(found, Speech.of(found)).parts)


def test_chat_and_batch_are_set_against_each_other_in_a_table() -> None:
    rows = [comparison(CHAT, ratio=1.4), comparison(BATCH, ratio=1.1)]
    found = judged(verdict=verdict(rows))
    said = impact_text(found)
    assert "'+40.0 % [+37.2, +42.8] ▲', '+10.0 % [+7.8, +12.2] ▲'" in said
    assert "it gains more in chat" in said
    assert "Why (a hypothesis, not tested): in chat few sequences decode at once" in said
    assert "Evidence: chat (bottleneck: engine" in said
    same = impact_text(judged())
    assert "no difference between the two is shown" in same
    assert "Evidence" not in same, "there is nothing to explain"


def test_where_both_lose_no_one_gains_more() -> None:
    found = judged(verdict=verdict([comparison(CHAT, ratio=0.7, code="worse"), comparison(BATCH, **LOSS)]))
    assert "it loses less in batch" in impact_text(found)
    assert "no gain is shown in either" in impact_text(found)
    assert "gains more" not in practice(found, "Batch vs chat").partition("Here")[2]


def test_a_side_without_a_comparison_is_named() -> None:
    assert "batch: no valid comparison in its cell" in impact_text(judged(verdict=verdict([comparison(CHAT)])))


def test_only_what_was_predicted_is_scored() -> None:
    none = predictions.section(judged(), Speech())
    assert "No predictions were written before the run" in str(none.parts)
    guessed = judged(plan=plan(predictions={"batch_p95_blowup": "no", "startup": "slower", "vram_reduction_pct": 30}))
    intro, shown = predictions.section(guessed, Speech.of(guessed)).parts
    assert "3 of 15 questions" in str(intro)
    assert {row[0]: row[3] for row in shown.rows} == {  # type: ignore[union-attr]
        "VRAM reduction against the baseline, in percent?": "wrong",
        "Which differences at start-up?": "for you to judge",
        "Does p95 blow up at high concurrency in batch: yes, no?": "right",
    }


def drawn(found: Run) -> dict[str, str]:
    return dict.fromkeys(plots.draw_all(found), "<svg/>")


def test_the_band_of_the_chart_is_called_what_it_is() -> None:
    assert "the margin within which a difference does not matter (±2.0 %)" in _lead(judged())
    coarse = judged(verdict=verdict([comparison(CHAT, margin=0.129)]))
    assert "what the A/A control resolves (±12.9 %)" in _lead(coarse)


def _lead(found: Run) -> str:
    return pages.report(found, drawn(found)).lead[0].caption


def test_captions_name_the_answers_where_there_are_several_lengths() -> None:
    cells = [*(Cell.of("chat", c, 128) for c in (1, 16)), Cell.of("chat", 16, 256)]
    rows = [capacity(model, cell) for cell in cells for model in ("bf16", "awq")]
    found = judged(capacity=rows)
    captions = [figure.caption for _, figures in pages.report(found, drawn(found)).chapters for figure in figures]
    assert "Throughput against concurrency, chat with max_tokens=128." in captions


def test_html_folds_long_tables_and_verbatim_parts() -> None:
    long = table(["a"], [["1"]] * 20, caption="Long")
    section = pages.folded(Section("S", (text("x"), Code("one"), Code("two"), long), (Section("T", (Code("three"),)),)))
    kinds = [part.kind for part in section.parts]
    assert kinds == ["paragraph", "details", "details"]
    assert isinstance(section.parts[2], Details)
    assert section.parts[2].summary == "Long (20 rows)"
    assert section.subsections[0].parts[0].kind == "details"


def test_the_html_report_is_one_page_with_all_chapters() -> None:
    found = judged()
    page = render.report(pages.report(found, drawn(found)))
    assert "Is the quantized model worth it" in page
    assert '1.200 ▲<span class="ci">[1.176, 1.224]</span>' in page
