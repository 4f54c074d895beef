"""docs/measurement.md names every metric of a verdict and quotes the limits that the code has. Guards: test_guards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from quantbench import stats
from quantbench.client.metrics import METRICS
from quantbench.config import settings
from quantbench.judge import drift, pairing, pooled, precision
from quantbench.judge.summary import tuple_row

TEXT = (Path(__file__).parents[2] / "docs" / "measurement.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", [m.name for m in METRICS if m.unit in ("tok/s", "requests/s", "J/token")])
def test_every_rate_is_defined(metric):
    assert f"| `{metric}` |" in TEXT


@pytest.mark.parametrize("time", ["TTFT", "E2E", "TPOT", "chunk gap"])
def test_every_time_is_defined(time):
    assert f"| {time} |" in TEXT


def test_the_table_of_columns_is_that_of_the_tuple_csv():
    section = TEXT.split("### Every column of a tuple CSV")[1].split("\n#")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:3] == "| `"]
    identity = {"gpu_name": "g", "model": "m", "workload": "batch", "style": "batch", "concurrency": 1, "max_tokens": 8}
    assert [name for line in lines for name in re.findall(r"`(\w+)`", line[0])] == list(tuple_row(identity, []))
    assert all(unit and definition for _, unit, definition in lines)


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
