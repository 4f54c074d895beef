"""The scripts of the comparing and reporting rules, run in order on a synthetic tree."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from quantbench.config import report_plan, settings
from quantbench.files import read_json
from quantbench.records.base import convert
from quantbench.records.cell import Cell
from quantbench.records.comparison import COMPARISON_COLUMNS
from quantbench.records.layout import Results
from quantbench.records.plan import ComparisonPlan, ReportPlan
from quantbench.records.tables import ImpactRow
from quantbench.results import columns_of
from report_fixture import ROOT, Scenario, evidence, facts, run, write_tree


def test_from_blocks_to_pages(tmp_path: Path) -> None:
    scenario, tree = Scenario(variants=("awq", "fp8")), Results("test-gpu", tmp_path)
    params = {"report": write_tree(tmp_path, scenario).plan}
    inputs = evidence(tree, scenario.models)
    run("write_pages", inputs, {page: tree.file("page", page=page) for page in report_plan.PAGES}, params)
    report = {"page": tree.file("report"), "plots": tree.file("plots")}
    run("write_report", inputs, report, params)

    chat = pl.read_csv(tree.file("comparison", workload="chat"))
    assert tuple(chat.columns) == COMPARISON_COLUMNS
    assert chat.height == 3 * 2 * 7
    assert set(chat["workload"]) == {"chat"}
    assert tuple(pl.read_csv(tree.file("impact")).columns) == columns_of(ImpactRow)
    assert pl.read_csv(tree.file("capacity", workload="chat", model="awq"))["concurrency"].to_list() == [1, 8, 16]
    checks = read_json(tree.file("measurement"))["checks"]
    assert {check["of"] for check in checks} == {"bf16", "awq", "fp8", "run"}
    for page in (*(f"{page}.md" for page in report_plan.PAGES), "report.html"):
        assert len((tree.file("report").parent / page).read_text()) > 1000
    assert (tree.file("plots") / "throughput_ratio.png").stat().st_size > 1000


def test_a_row_of_short_or_refused_blocks_says_so() -> None:
    short = facts(Scenario(p95=False)).capacity_row("awq", Cell.of("chat", 1, 128))
    assert short is not None
    assert short.number("p95_ttft_ms") is None
    assert short.valid
    assert "P95_NEEDS_N72" in short.reasons
    refused = facts(Scenario(invalid=True)).capacity_row("awq", Cell.of("batch_summarize", 32, 256))
    assert refused is not None
    assert (refused.valid, refused.blocks, refused.blocks_invalid) == (False, 2, 4)


def test_reports_get_exactly_the_configuration_that_the_rules_pass() -> None:
    plan = settings.load(ROOT, {"gpu": "rtx2000-ada-16gb"})
    assert convert(report_plan.report(plan), ReportPlan).gpu == plan.gpu
    assert convert(report_plan.comparison(plan, Results(plan.gpu)), ComparisonPlan).primary.cell.key == "chat/c16_t128"
    assert "hourly_price" not in str(report_plan.report(plan)), "a price would remake what does not depend on it"


def test_the_budget_of_refine_does_not_change_the_rule_of_a_run_that_had_rounds(tmp_path: Path) -> None:
    given, results = {"gpu": "rtx2000-ada-16gb", "extra_blocks": {"chat/c8_t128": 2}}, Results("card", tmp_path)
    plain, refine = (settings.load(ROOT, given | {"budget": budget}) for budget in ("30min", 0))
    assert report_plan.comparison(refine, results)["until_decided"] is False
    results.file("further").parent.mkdir(parents=True)
    results.file("further").touch()
    assert report_plan.comparison(refine, results) == report_plan.comparison(plain, results)
    cell, blocks = Cell.of("chat", 8, 128), plain.config["blocks"]
    assert [plain.beyond(cell, blocks + n) for n in (0, 1, 3)] == [None, "extra", "round"]
    assert refine.beyond(cell, blocks + 3) == "extra"


def test_points_are_the_grid_and_what_lies_on_disk(tmp_path: Path) -> None:
    plan = settings.load(ROOT, {"gpu": "rtx2000-ada-16gb"})
    there = Results(plan.gpu, tmp_path)
    extra = there.file("cell", Cell.of("chat", 4, 64), arm="bf16")
    extra.parent.mkdir(parents=True)
    extra.touch()
    (extra.parent / "c1_t128.csv").touch()
    (extra.parent / "notes.csv").touch()
    assert report_plan.points(plan, "bf16", there) == [*plan.cells("bf16"), Cell.of("chat", 4, 64)]


def test_points_are_found_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a grid that lies on disk whole: each cell was once compared with all others."""
    loads, lengths = list(range(1, 21)), list(range(1, 16))
    workloads = {"chat": {"concurrency": loads, "max_tokens": lengths}}
    plan = settings.load(ROOT, {"gpu": "rtx2000-ada-16gb", "select_workloads": ["chat"], "workloads": workloads})
    there = Results(plan.gpu, tmp_path)
    for cell in plan.grid:
        path = there.file("cell", cell, arm="bf16")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    compared = []
    same = Cell.__eq__
    monkeypatch.setattr(Cell, "__eq__", lambda *cells: compared.append(cells) or same(*cells))
    assert len(report_plan.points(plan, "bf16", there)) == len(plan.grid) == 300
    assert len(compared) < 4 * 300
