"""`iso_memory` through whole runs: two stand-in servers whose KV caches hold different numbers of requests."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import GPU, Box, jobs

LENGTH = 256
SHAPE = {"model_type": "fake", "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 64, "hidden_size": 256}
BYTES = 2 * 2 * 4 * 64 * 2
"""Of a token in that model's KV cache: keys and values of 2 layers of 4 heads of 64 in 16 bits."""


def held(requests: float, logged: float | None = None) -> dict[str, object]:
    """The server of a model whose KV cache is set to so many requests, and says that it holds `logged`."""
    tokens = int((requests if logged is None else logged) * LENGTH)
    gib = requests * LENGTH * BYTES / 2**30
    return {"server": {"kv_cache_gib": gib, "env": {"FAKE_VLLM": json.dumps({"kv_tokens": tokens})}}}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    for name in ("alpha", "beta"):
        (made.path / "models" / name / "config.json").write_text(json.dumps(SHAPE))
    made.configure(
        models={"alpha": held(3.2), "beta": held(12.4, logged=6.4)},
        workloads={"chat": {"concurrency": [2], "iso_memory": LENGTH}},
        primary={"concurrency": 2},
    )
    yield made
    made.clean_up()


def rows(box: Box) -> dict[str, dict[str, str]]:
    """By metric."""
    with box.file("comparison/iso_memory.csv").open() as table:
        return {row["metric"]: row for row in csv.DictReader(table)}


def points(box: Box) -> list[str]:
    return [path.removeprefix(f"results/{GPU}/cells/") for path in box.results("cells/*/chat/*.csv")]


@pytest.mark.fault("Fewer requests fit than arithmetic said before a model's first start",
                   "the comparison says how many were in flight and how many fit; the next run measures what fits, and "
                   "nothing else again")  # fmt: skip
def test_each_model_is_measured_at_what_fits_it_and_compared_there_once(box: Box) -> None:
    printed = box.run()
    assert (
        "requests of 256 tokens in flight: alpha 3 (3 fit by arithmetic) and beta 12 (12 fit by arithmetic)" in printed
    )
    assert "+ 4 at what fits (iso_memory)" in printed
    assert points(box) == [f"{point}.csv" for point in ("alpha/chat/c2_t16", "alpha/chat/c3_t16", "beta/chat/c12_t16",
                                                        "beta/chat/c2_t16")]  # fmt: skip
    speed = rows(box)["throughput_tok_s"]
    assert (speed["baseline_concurrency"], speed["concurrency"]) == ("3", "12")
    assert (speed["baseline_fits"], speed["variant_fits"]) == ("3", "6")
    assert "12_IN_FLIGHT_6_FIT" in speed["reasons"]
    assert "12 requests were in flight where 6 fit" in box.file("report/notes.md").read_text()

    printed = box.run()
    assert "workloads.chat.iso_memory: beta: 6 in place of 12, which is not what fits" in printed
    assert jobs(printed)["measure_tuple"] == 1
    speed = rows(box)["throughput_tok_s"]
    assert (speed["baseline_concurrency"], speed["concurrency"], speed["length"]) == ("3", "6", "256")
    assert (speed["baseline_fits"], speed["variant_fits"]) == ("3", "6")
    assert "IN_FLIGHT" not in speed["reasons"]
    assert 16 < int(speed["longest_request"]) <= LENGTH
    with box.file("comparison/chat.csv").open() as table:
        assert {row["concurrency"] for row in csv.DictReader(table)} == {"2"}, "the grid's family is the grid's"
    assert (
        "beta with 6 requests of 256 tokens in flight against alpha with 3"
        in box.file("report/decision.md").read_text()
    )
    assert "Same Memory" in box.file("report/notes.md").read_text()
    assert box.plan() == {}
