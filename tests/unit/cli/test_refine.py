"""What `quantbench refine` says at its end, and when it calls itself done."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from quantbench.cli import refine as cli_refine
from quantbench.cli.refine import closing, is_done
from quantbench.judge.precision import plan
from quantbench.records.cell import Cell
from quantbench.records.comparison import Code, Comparison

CELL = "chat/c8_t128"


def row(
    half_width: float | None, metric: str = "throughput_tok_s", code: Code = "undecided", n: int = 6, reason: str = ""
) -> Comparison:
    """A comparison with n pairs."""
    low, high = (None, None) if half_width is None else (1 / (1 + half_width), 1 + half_width)
    return Comparison(
        gpu_name="", **Cell.of("chat", 8, 128).columns, baseline="bf16", variant="int8", metric=metric,
        baseline_value=None, variant_value=None, ratio=1.0, ci_low=low, ci_high=high, n_pairs=n, p_value=None,
        p_holm=None, margin=0.02, code=code, primary=False, interleaved=True, valid=True,
        reasons=(reason,) if reason else (),
    )  # fmt: skip


def ended(rows: list[Comparison], *, blocks: int = 6, left: float = 60.0, most: int = 40) -> tuple[bool, str]:
    """Whether refine is done, and what it says."""
    state = plan(rows, 0.02, {CELL: blocks}, most_blocks=most)
    return is_done(state), "\n".join(closing(state, {CELL: blocks}, left, most))


def test_done_only_where_every_comparison_is_narrow() -> None:
    assert ended([row(0.01), row(0.019, "p50_ttft_ms")]) == (True, "refine: every comparison is within ±2 %")
    assert ended([])[0] is False


def test_refused_cells_are_named_with_their_guards() -> None:
    refused = row(None, "p50_ttft_ms", code="invalid", n=1, reason="failed_requests (int8 block 2)")
    done, said = ended([row(0.01), refused])
    assert not done
    assert "refine: 1 of 2 comparisons are within ±2 %" in said
    assert f"1 refused by guards; docs/measurement.md says what to do about each: {CELL} int8 (failed_requests" in said


def test_what_more_blocks_cannot_give_is_not_said_to_need_more_blocks() -> None:
    done, said = ended([row(0.01), row(None, "p95_ttft_ms", code="no_test", reason="BLOCK_NEEDS_N20")])
    assert not done
    assert "1 without a confidence interval, which more blocks would not give" in said
    assert f"`block.min_seconds` or `block.min_requests_per_slot`: {CELL} int8 (p95_ttft_ms)" in said
    assert "more than" not in said


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"left": 0.0}, "still wider than that, the budget is spent"),
        ({"left": 9.0}, "still wider than that, no further round fits the budget"),
        ({"blocks": 40}, "still wider than that, there are 40 blocks per cell (`refine.max_blocks`) already"),
        ({"most": 10}, "still wider than that, more than 10 blocks per cell (`refine.max_blocks`) would be needed"),
    ],
)
def test_the_limit_that_was_met_is_named(case: dict[str, Any], words: str) -> None:
    done, said = ended([row(0.04)], **case)
    assert not done
    assert words in said


def test_a_budget_of_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--budget-minutes 0` reports without adding a block."""
    rounds: list[dict[str, int]] = []
    config = {"precision": 0.02, "blocks": 6, "refine": {"budget_minutes": 60, "max_blocks": 40}}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_refine.settings, "load", lambda *_: argparse.Namespace(config=config))
    monkeypatch.setattr(cli_refine, "_snakemake", lambda _args, _plan, extra: rounds.append(extra))
    monkeypatch.setattr(cli_refine, "_state", lambda _: ([row(0.04)], {CELL: 6}, {CELL: 1.0}))
    parser = argparse.ArgumentParser()
    cli_refine.add_arguments(parser)
    assert cli_refine.run(parser.parse_args(["--budget-minutes", "0"])) == 1
    assert rounds == [{}]
