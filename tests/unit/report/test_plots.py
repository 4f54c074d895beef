from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from quantbench.records.cell import Cell
from quantbench.records.cost import Assumptions, Cost, CostRow
from quantbench.records.run import Run
from quantbench.report import plots
from runs import BATCH, CHAT, LABELS, but, capacity, comparison, memory, plan, run, verdict

VARIANTS = ("awq", "fp8")
CELLS = [*(Cell.of("chat", c, 128) for c in (1, 8, 16)), *(Cell.of("batch_summarize", c, 256) for c in (16, 32))]
TIMES = {"p50_ttft_ms": 10.0, "p95_ttft_ms": 20.0, "p50_e2e_ms": 100.0, "p95_e2e_ms": 200.0}


def full(*, p95: bool = True, **parts: Any) -> Run:
    """Two variants in all cells, with memory and costs."""
    values = {name: value for name, value in TIMES.items() if p95 or "p95" not in name}
    models = ("bf16", *VARIANTS)
    costs = [
        CostRow(
            model=model, **cell.columns, throughput_tok_s=1.0, tokens_per_hour=1.0, cost_per_1m_tokens=0.5,
            cost_per_1m_total_tokens=None, cost_per_request=None, j_per_token=None, energy_cost_per_1m_tokens=None,
        )
        for model in models for cell in (CHAT, BATCH)
    ]  # fmt: skip
    defaults: dict[str, Any] = {
        "plan": plan(variants=VARIANTS),
        "capacity": [capacity(model, cell, values) for model in models for cell in CELLS],
        "verdict": verdict([comparison(cell, variant=variant) for cell in CELLS for variant in VARIANTS]),
        "memory": [memory(model, weights_gib=1.0) for model in models],
        "cost": Cost(assumptions=Assumptions(), rows=tuple(costs), savings=(), sensitivity=()),
    }
    return run(**{**defaults, **parts})


def test_charts_are_drawn_where_there_is_data() -> None:
    of_workloads = {f"{kind}_{name}" for kind in ("throughput", "latency") for name in ("chat", "batch_summarize")}
    assert set(plots.draw_all(full())) == {"throughput_ratio", "memory", "cost"} | of_workloads
    bare = plots.draw_all(full(cost=None, memory=[], verdict=verdict(())))
    assert set(bare) == of_workloads


def test_inline_charts_take_the_pages_colour_and_name_the_models() -> None:
    for chart in plots.draw_all(full()).values():
        svg = plots.svg_inline(chart)
        texts = {node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")}
        assert "currentColor" in svg
        assert "NaN" not in svg
        assert {LABELS[v] for v in VARIANTS} <= texts


def test_the_forest_has_a_row_per_cell_and_variant_in_order() -> None:
    long = comparison(Cell.of("chat", 16, 256), variant="awq")
    rows = [long, *full().verdict.rows[::-1]]
    capacities = [*full().capacity, capacity("awq", long.cell)]
    chart = plots.forest(full(verdict=verdict(rows), capacity=capacities)).to_dict()
    (points,) = [data for data in chart["datasets"].values() if "ratio" in data[0]]
    assert len(points) == len(rows)
    assert all(p["low"] <= p["ratio"] <= p["high"] for p in points)
    names = list(dict.fromkeys(p["cell"] for p in points))
    assert names[:4] == [
        "chat c=1, 128 tokens",
        "chat c=8, 128 tokens",
        "chat c=16, 128 tokens",
        "chat c=16, 256 tokens",
    ]


def test_the_band_ends_where_the_equivalence_test_does() -> None:
    chart = plots.forest(full(verdict=verdict([comparison(CHAT, margin=0.129)]))).to_dict()
    [band] = chart["datasets"][chart["layer"][0]["data"]["name"]]
    assert (band["low"], band["high"]) == (1 / 1.129, 1.129)


def test_without_a_p95_latency_shows_the_median_and_says_so() -> None:
    svg = plots.svg_inline(plots.draw_all(full(p95=False))["latency_chat"])
    assert "p50 TTFT (ms)" in svg
    assert "p95" not in svg


def test_cells_without_a_valid_block_and_single_points_make_no_curve() -> None:
    refused = [but(row, blocks=0) for row in full().capacity]
    assert plots.throughput(full(capacity=refused), "chat") is None
    one = [row for row in full().capacity if row.cell == CHAT]
    assert plots.latency(full(capacity=one), "chat") is None


def test_saved_charts_stand_alone(tmp_path: Path) -> None:
    plots.save(plots.draw_all(full())["memory"], tmp_path, "memory")
    svg = (tmp_path / "memory.svg").read_text()
    assert "currentColor" not in svg
    assert 'fill="white"' in svg


def test_labels_of_any_text_are_text_in_a_chart() -> None:
    label = "</svg><script>\0\u202e" + "x" * 120
    found = full(plan=plan(variants=VARIANTS, labels=LABELS | {"awq": label}))
    for chart in plots.draw_all(found).values():
        svg = ElementTree.fromstring(plots.svg_inline(chart))
        assert not [node for node in svg.iter() if node.tag.endswith(("script", "}a", "image"))]
        assert any("⟦U+0000⟧⟦U+202E⟧" in text or "</svg><script>" in text for text in svg.itertext())
        assert float(svg.get("width", "0")) < 1600
