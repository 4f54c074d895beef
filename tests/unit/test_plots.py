from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from quantbench.report import plots
from report_fixture import Scenario, facts

ALL = {"throughput_ratio", "memory", "cost", "throughput_chat", "latency_chat"}


def test_charts_are_drawn_where_there_is_data() -> None:
    assert set(plots.draw_all(facts(Scenario()))) == ALL | {"throughput_batch_summarize", "latency_batch_summarize"}
    bare = plots.draw_all(facts(Scenario(workloads=("chat",), price=False, memory=False)))
    assert set(bare) == {"throughput_ratio", "throughput_chat", "latency_chat"}


def test_inline_charts_take_the_pages_colour_and_name_the_models() -> None:
    found = facts(Scenario(variants=("awq", "gptq", "fp8", "int8", "slow"), workloads=("chat",)))
    for chart in plots.draw_all(found).values():
        svg = plots.svg_inline(chart)
        texts = {node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")}
        assert "currentColor" in svg
        assert "NaN" not in svg
        assert {found.label(v) for v in found.variants} <= texts


def test_the_forest_has_a_row_per_cell_and_variant() -> None:
    found = facts(Scenario(variants=("awq", "fp8")))
    datasets = plots.forest(found).to_dict()["datasets"].values()
    (points,) = [rows for rows in datasets if "ratio" in rows[0]]
    assert len(points) == 5 * 2
    assert all(p["low"] <= p["ratio"] <= p["high"] for p in points)


def test_without_a_p95_latency_shows_the_median_and_says_so() -> None:
    svg = plots.svg_inline(plots.draw_all(facts(Scenario(p95=False)))["latency_chat"])
    assert "p50 TTFT (ms)" in svg
    assert "p95" not in svg


def test_saved_charts_stand_alone(tmp_path: Path) -> None:
    plots.save(plots.draw_all(facts(Scenario()))["memory"], tmp_path, "memory")
    svg = (tmp_path / "memory.svg").read_text()
    assert "currentColor" not in svg
    assert 'fill="white"' in svg
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
