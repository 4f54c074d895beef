"""What is said of a workload's figures: marks, reasons, and sentences that the marks do not make superfluous."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison, InvalidBlock
from quantbench.records.run import Run
from quantbench.report import speed
from quantbench.report.document import Bullets, Table
from quantbench.report.say import Speech
from runs import but, capacity, cell_use, comparison, measurement, plan, run, verdict

CELLS = [Cell.of("chat", c, 128) for c in (1, 8, 16)]
OPEN: dict[str, Any] = {"ratio": 1.1, "ci_low": 0.8, "ci_high": 1.5, "code": "undecided"}


def of(*rows: Comparison, **parts: Any) -> Run:
    """A run with these comparisons, and a capacity row for each of their cells."""
    cells = dict.fromkeys(row.cell for row in rows)
    variants = tuple(dict.fromkeys(row.variant for row in rows))
    known = [capacity(model, cell) for cell in cells for model in ("bf16", *variants)]
    given = {"plan": plan(variants=variants), "capacity": known, "verdict": verdict(rows), **parts}
    return run(**given)


def gain(cell: Cell, ratio: float | None = 1.2, **changes: Any) -> Comparison:
    return comparison(cell, ratio=ratio, **changes)


def parts(found: Run) -> tuple[Table, Table, str]:
    """(measured, ratios, sentences) of the chat section."""
    [section] = speed.sections(found, Speech.of(found), "interactive")
    measured, ratios = [part for part in section.parts if isinstance(part, Table)]
    told = [item for part in section.parts if isinstance(part, Bullets) for item in part.items]
    return measured, ratios, "\n".join(told)


def told(found: Run) -> str:
    return parts(found)[2]


def footnote(found: Run) -> str:
    return " ".join(parts(found)[1].notes)


def test_a_cell_has_ratio_interval_and_mark() -> None:
    row = gain(CELLS[0])
    assert speed.ratio_cell(row) == "1.200 [1.176, 1.224] ▲"
    assert speed.ratio_cell(but(row, code="worse")).endswith("▼")
    assert speed.ratio_cell(but(row, code="equivalent")).endswith("≈")
    assert speed.ratio_cell(but(row, code="undecided")).endswith("?")
    assert speed.ratio_cell(but(row, code="no_test", ci_low=None, ci_high=None)) == "1.200 ?"
    assert speed.ratio_cell(but(row, code="invalid")) == speed.ratio_cell(None) == "–"
    assert speed.change_cell(row) == "+20.0 % [+17.6, +22.4] ▲"


def test_the_legend_names_the_marks_that_occur() -> None:
    note = footnote(of(gain(CELLS[0]), gain(CELLS[1], **OPEN)))
    assert "▲ better, ? not shown;" in note
    assert "worse" not in note


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, "better"),
        ({"code": "equivalent", "ratio": 0.991}, "equivalent"),
        (OPEN, "undecided"),
        (OPEN | {"likely": "gain"}, "gain"),
        (OPEN | {"likely": "loss"}, "loss"),
        (OPEN | {"coarse": True}, "coarse"),
        (OPEN | {"coarse": True, "likely": "gain"}, "gain"),  # a coarse margin hides no interval that leaves it
        ({"code": "no_test"}, "no_test"),
        ({"code": "invalid", "ratio": None}, "invalid"),
    ],
)
def test_outcomes(row: dict[str, Any], expected: str) -> None:
    assert speed.outcome(comparison(**row)) == expected
    assert Speech()(speed.OUTCOMES[expected], at=" at c=1", by="", margin=0.02)


def test_equivalent_is_said_with_its_change() -> None:
    row = comparison(code="equivalent", ratio=0.991, ci_low=0.988, ci_high=0.995)
    assert speed.clause(Speech(), [row]) == "equivalent within 2.0 % at c=16 (−0.9 % [−1.2, −0.5])", "it did change"


def test_throughput_ratios_stand_in_a_row() -> None:
    found = of(*(gain(cell, ratio) for cell, ratio in zip(CELLS, (1.188, 1.189, 1.197), strict=True)))
    assert "Tokens/sec ratios: c=1/8/16, max_tokens=128 → 1.188, 1.189, 1.197." in told(found)
    assert "Tokens/sec: improved (+18.8 % to +19.7 %)" in told(found)


def test_what_all_variants_share_is_said_once() -> None:
    rows = [gain(cell, variant=variant, **OPEN) for cell in CELLS for variant in ("awq", "fp8")]
    assert told(of(*rows)).count("no difference shown") == 1
    cells = [cell_use(model, cell) for cell in CELLS for model in ("bf16", "awq", "fp8")]
    same = told(of(*rows, measurement=measurement(cells=tuple(cells))))
    assert same.count("The engine (the model itself) limited all cells.") == 1
    one = [but(use, bottleneck="client") if use.model == "awq" else use for use in cells]
    apart = told(of(*rows, measurement=measurement(cells=tuple(one))))
    assert "BF16 and FP8 (online): the engine (the model itself) limited all cells." in apart
    assert "AWQ 4-bit: our load client limited all cells." in apart
    two = [but(use, bottleneck="front_end") if use.cell == CELLS[2] else use for use in cells]
    joined = "The engine (the model itself) limited c=1 and c=8; the server's front end limited c=16."
    assert joined in told(of(*rows, measurement=measurement(cells=tuple(two))))


def test_the_largest_difference_is_singled_out_only_where_it_stands_out() -> None:
    def narrow(cell: Cell, ratio: float, high: float) -> Comparison:
        return gain(cell, ratio, ci_low=ratio - 0.01, ci_high=high)

    rows = [narrow(CELLS[0], 1.45, 1.46), narrow(CELLS[1], 1.40, 1.41), narrow(CELLS[2], 1.35, 1.36)]
    assert "it matters most at c=1" in told(of(*rows))
    wide = [rows[0], narrow(CELLS[1], 1.40, 1.46), rows[2]]
    assert "most at c=1, though intervals overlap" in told(of(*wide))
    assert "most at" not in told(of(rows[0]))


def test_a_surprise_is_about_one_cell() -> None:
    slow_tail = comparison(CELLS[2], "p95_e2e_ms", ratio=1.2, code="worse")
    odd = told(of(gain(CELLS[2]), slow_tail))
    assert "p95 E2E got worse although tokens/sec improved at c=16" in odd
    elsewhere = comparison(CELLS[0], "p95_e2e_ms", ratio=1.2, code="worse")
    assert "although" not in told(of(gain(CELLS[2]), gain(CELLS[0], **OPEN), elsewhere))


def test_slower_variants_and_first_tokens_are_surprises() -> None:
    loss: dict[str, Any] = {"ratio": 0.8, "code": "worse"}
    assert "the quantized model is slower at c=1" in told(of(gain(CELLS[0], **loss)))
    assert "it gains at some loads and loses at c=1" in told(of(gain(CELLS[0], **loss), gain(CELLS[1])))
    first = comparison(CELLS[0], "p50_ttft_ms", ratio=1.5, code="worse")
    assert "extra work before the first token" in told(of(gain(CELLS[0]), first))
    assert "No surprises" in told(of(gain(CELLS[0])))
    assert "surprises" not in told(of(gain(CELLS[0], **OPEN))), "nothing was decided"


def test_the_deciding_cell_says_what_improved_and_got_worse() -> None:
    worse = comparison(CELLS[2], "p50_ttft_ms", ratio=3.3, code="worse")
    assert "At c=16 quantization improved tokens/sec, and worsened p50 TTFT." in told(of(gain(CELLS[2]), worse))
    same = [comparison(CELLS[2], m, ratio=1.0, code="equivalent") for m in (speed.THROUGHPUT, *speed.LATENCIES)]
    assert "neither throughput nor latency changed by more than the margin" in told(of(*same))
    assert "nothing could be tested" in told(of(gain(CELLS[2], code="no_test")))


def test_without_a_p95_the_median_stands_there_and_is_named() -> None:
    missing = {"ratio": None, "code": "no_test", "reasons": ("P95_NEEDS_N72",)}
    rows = [gain(CELLS[0]), comparison(CELLS[0], "p95_e2e_ms", **missing), comparison(CELLS[0], "p50_e2e_ms")]
    found = of(*rows)
    line = parts(found)[1].rows[0]
    assert line[-1] == "p50 1.200 [1.176, 1.224] ▲"
    assert "p50 E2E: improved" in told(found)
    none = of(rows[0], rows[1])
    assert parts(none)[1].rows[0][-1] == "–"
    assert "a p95 needs at least 72 requests" in footnote(none)


def test_reasons_name_the_rows_that_they_are_about() -> None:
    pooled = {"reasons": ("P95_POOLED",)}
    rows = [gain(cell, variant=v) for cell in CELLS for v in ("awq", "fp8")]
    rows += [
        comparison(c, "p95_e2e_ms", variant=v, **(pooled if c != CELLS[0] else {}))
        for c in CELLS
        for v in ("awq", "fp8")
    ]
    assert "p95 E2E at c=8 and c=16: blocks are too short for a p95 each" in footnote(of(*rows))


def test_refused_blocks_are_named_with_their_guards() -> None:
    blocks = tuple(InvalidBlock(model="awq", block=n, guards=("failed_requests",)) for n in (2, 1))
    row = gain(CELLS[0], invalid_blocks=blocks, reasons=("failed_requests (awq block 1)",))
    assert "AWQ 4-bit blocks 1 and 2 are invalid (Failed requests)" in footnote(of(row))
    refused = of(gain(CELLS[0], code="invalid", ratio=None, valid=False, blockers=("versions",)))
    assert parts(refused)[1].rows[0][-3:] == ("–",) * 3
    assert "`versions`" not in footnote(refused), "a guard is called by its title"


def test_blocks_that_would_decide_are_counted_and_too_many_are_not() -> None:
    near = gain(CELLS[0], **OPEN, blocks_to_decide=7)
    far = gain(CELLS[1], **OPEN)
    note = footnote(of(near, far))
    assert "About 7 more blocks would resolve 2.0 % in tokens/sec (at c=1)." in note
    assert "More than 40 blocks would be needed to resolve 2.0 % in tokens/sec (at c=8)" in note


def test_comparisons_that_were_not_interleaved_say_so() -> None:
    assert "the blocks were not interleaved" in footnote(of(gain(CELLS[0], interleaved=False)))
    assert "interleaved" not in footnote(of(gain(CELLS[0], interleaved=False, same_lane=False)))


def test_what_all_rows_share_is_in_the_caption_and_what_differs_a_column() -> None:
    rows = [gain(cell) for cell in CELLS]
    measured = parts(of(*rows))[0]
    assert "max_tokens=128; 6 blocks per cell" in measured.caption
    assert {"max_tokens", "blocks", "failures"}.isdisjoint(measured.columns)
    table = [
        capacity(model, cell, {"failures": 1 if model == "awq" else 0}) for cell in CELLS for model in ("bf16", "awq")
    ]
    table[0] = but(table[0], blocks=5, blocks_invalid=1, valid=False, reasons=("failed_requests", "P95_NEEDS_N72"))
    measured = parts(of(*rows, capacity=table))[0]
    assert {"blocks", "failures"} <= set(measured.columns)
    assert "BF16 at c=1: 1 block refused (Failed requests)." in measured.notes[0]


def test_cells_of_the_same_concurrency_are_told_apart() -> None:
    long = Cell.of("chat", 16, 256)
    found = of(gain(CELLS[2]), gain(long))
    assert "At c=16 (max_tokens=128) quantization improved tokens/sec" in told(found)
    assert [line[:2] for line in parts(found)[1].rows] == [("16", "128"), ("16", "256")]


def test_a_run_without_variants_has_its_figures_only() -> None:
    alone = replace(run(), plan=plan(variants=()), verdict=verdict(()), capacity=[capacity("bf16", CELLS[0])])
    [section] = speed.sections(alone, Speech.of(alone), "interactive")
    assert section.title == "Chat Capacity: BF16"
    assert len(section.parts) == 1
