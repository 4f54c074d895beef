"""docs/measurement.md names every metric of a verdict and quotes the limits that the code has. Guards: test_guards."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantbench import stats
from quantbench.config import settings
from quantbench.judge import drift, pairing, pooled, precision

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "measurement.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", ["better", "worse", "equivalent", "undecided", "no_test", "invalid"])
def test_every_code_is_explained(code):
    assert f"`{code}`" in TEXT


def test_the_limits_in_the_text_are_those_of_the_code():
    schema = settings.read_yaml(settings.SCHEMA)
    assert "| p95 | n ≥ 72 |" in TEXT
    assert "| p99 | n ≥ 1 000 |" in TEXT
    assert stats.PERCENTILE_NEEDS == {50: 1, 95: 72, 99: 1000}
    assert f"Fewer than {stats.MIN_PAIRS} pairs" in TEXT
    assert f"each at least {pooled.MIN_BLOCK}" in TEXT
    assert f"within {pairing.MAX_PAIR_GAP_S / 60:.0f} minutes" in TEXT
    assert f"flagged above {drift.DRIFT_PCT:.0f} %" in TEXT
    assert f"above `refine.max_blocks` ({precision.MOST_BLOCKS})" in TEXT
    assert schema["properties"]["refine"]["properties"]["max_blocks"]["default"] == precision.MOST_BLOCKS
