"""Which cells get further blocks, while there is time, until every primary question is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from quantbench.records.comparison import Verdict

ROUND: Final = 2
"""Blocks that a round adds per arm of a cell: A B B A stays balanced."""
FAMILY: Final = "throughput_tok_s"
"""The metric whose rows are to be decided."""


def next_round(
    verdict: Verdict, measured: Mapping[str, int], seconds_left: float, seconds_per_round: Mapping[str, float]
) -> dict[str, int]:
    """{cell key: blocks to add now, per arm}; empty: stop.

    measured: blocks on disk per cell, valid or not, of the arm that has fewest. seconds_per_round: what ROUND more
    blocks of a cell cost, all arms together. A cell without a price is not measured any more.
    """
    needs: dict[str, int] = {}
    for row in verdict.rows:
        key = row.cell.key
        if row.metric == FAMILY and row.code == "undecided" and row.blocks_to_decide and key in seconds_per_round:
            needs[key] = max(needs.get(key, 0), row.blocks_to_decide)
    chosen: dict[str, int] = {}
    left = seconds_left
    for key, _ in sorted(needs.items(), key=lambda item: (item[1], item[0])):
        if seconds_per_round[key] <= left and measured.get(key, 0) + ROUND <= verdict.precision.most_blocks:
            chosen[key] = ROUND
            left -= seconds_per_round[key]
    return chosen
