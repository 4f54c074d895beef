"""The scripts of the comparing and reporting rules, run in order on a synthetic tree."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from quantbench import jobs
from quantbench.config import report_plan, settings
from quantbench.files import read_json
from quantbench.report import impact, results_tree
from report_fixture import COMMAND, GRID, LABELS, Scenario, facts, price, write_tree

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
Runner = Callable[..., None]


class Named(list[str]):
    """Paths with names, as Snakemake hands them to a script."""

    def __init__(self, **named: str | list[str]) -> None:
        super().__init__(x for value in named.values() for x in ([value] if isinstance(value, str) else value))
        self.__dict__.update(named)
        self._named = named

    def get(self, name: str, default: Any = None) -> Any:
        return self._named.get(name, default)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setattr(jobs, "run", lambda job, main: main(job))

    def go(script: str, inputs: Named, outputs: Named, **job: Any) -> None:
        params, wildcards = SimpleNamespace(**job.get("params", {})), SimpleNamespace(**job.get("wildcards", {}))
        config = {"command": COMMAND}
        snakemake = SimpleNamespace(input=inputs, output=outputs, params=params, wildcards=wildcards, config=config)
        runpy.run_path(str(SCRIPTS / f"{script}.py"), init_globals={"snakemake": snakemake})

    return go


def _all(root: Path, pattern: str) -> list[str]:
    return sorted(map(str, root.glob(pattern)))


def _measured(root: Path) -> dict[str, Any]:
    contexts = _all(root, "raw/**/b*.json")
    return {
        "contexts": contexts,
        "records": [path.replace(".json", ".parquet") for path in contexts],
        "ready": _all(root, "servers/*/ready.json"),
        "sessions": _all(root, "servers/*/session.json"),
        "calibrations": _all(root, "client/*.json"),
        "starts": _all(root, "servers/*/startup.json"),
    }


def _evidence(root: Path, **more: str) -> Named:
    return Named(
        verdict=str(root / "comparison/verdict.json"),
        capacity=_all(root, "capacity/*.csv"),
        memory=str(root / "memory.csv"),
        ready=_all(root, "servers/*/ready.json"),
        measurement=str(root / "measurement.json"),
        startup=str(root / "startup.csv"),
        **more,
    )


def test_from_blocks_to_pages(tmp_path: Path, run: Runner) -> None:
    scenario = Scenario(variants=("awq", "fp8"))
    config = write_tree(tmp_path, scenario).config
    for name in (
        "comparison/verdict.json",
        "measurement.json",
        "memory.csv",
        "startup.csv",
        "cost.json",
        "comparison/chat_vs_batch.csv",
    ):
        (tmp_path / name).unlink()
    measured = Named(**_measured(tmp_path))
    for workload, cells in GRID.items():
        inputs = Named(tuples=[str(tmp_path / f"cells/awq/{workload}/c{c}_t{t}.csv") for c, t in reversed(cells)])
        outputs = Named(csv=str(tmp_path / f"capacity/{workload}_awq.csv"))
        run("combine_capacity", inputs, outputs, wildcards={"model": "awq", "workload": workload})
    comparison = {key: config[key] for key in ("baseline", "gpu_name", "variants", "primary", "margin", "precision")}
    tables = [str(tmp_path / f"comparison/{workload}.csv") for workload in GRID]
    run(
        "compare_models",
        measured,
        Named(verdict=str(tmp_path / "comparison/verdict.json"), tables=tables),
        params={"comparison": comparison | {"blocks": 6, "most_blocks": 40}},
    )
    run(
        "describe_measurement",
        measured,
        Named(json=str(tmp_path / "measurement.json")),
        params={"baseline": "bf16", "gpu_name": config["gpu_name"]},
    )
    labels = {model: LABELS[model] for model in ("bf16", *scenario.variants)}
    memory = {"baseline": "bf16", "labels": labels}
    run("tabulate_memory", measured, Named(csv=str(tmp_path / "memory.csv")), params={"memory": memory})
    run("tabulate_startup", measured, Named(csv=str(tmp_path / "startup.csv")), params={"labels": labels})
    impact_csv, cost_json = str(tmp_path / "comparison/chat_vs_batch.csv"), str(tmp_path / "cost.json")
    run("compare_chat_batch", _evidence(tmp_path), Named(csv=impact_csv), params={"report": config})
    run("price_tokens", _evidence(tmp_path), Named(json=cost_json), params={"price": price(scenario)})
    quality = _all(tmp_path, "quality_details_*.json")
    inputs = _evidence(tmp_path, impact=impact_csv, cost=cost_json, quality=quality)
    for page in report_plan.PAGES:
        outputs = Named(page=str(tmp_path / f"{page}.md"))
        run("write_page", inputs, outputs, params={"report": config}, wildcards={"page": page})
    outputs = Named(page=str(tmp_path / "report.html"), plots=str(tmp_path / "plots"))
    run(
        "write_report",
        _evidence(tmp_path, impact=impact_csv, cost=cost_json, quality=quality),
        outputs,
        params={"report": config},
    )

    chat = pl.read_csv(tables[0])
    assert tuple(chat.columns) == results_tree.COMPARISON_COLUMNS
    assert chat.height == 3 * 2 * 7
    assert set(chat["workload"]) == {"chat"}
    assert tuple(pl.read_csv(impact_csv).columns) == impact.COLUMNS
    assert pl.read_csv(tmp_path / "capacity/chat_awq.csv")["concurrency"].to_list() == [1, 8, 16]
    checks = read_json(tmp_path / "measurement.json")["checks"]
    assert {check["of"] for check in checks} == {"bf16", "awq", "fp8", "run"}
    for page in (*(f"{page}.md" for page in report_plan.PAGES), "report.html"):
        assert len((tmp_path / page).read_text()) > 1000
    assert (tmp_path / "plots/throughput_ratio.png").stat().st_size > 1000


def test_tables_keep_their_columns_without_rows(tmp_path: Path) -> None:
    results_tree.write_comparison(tmp_path / "chat.csv", [])
    assert (tmp_path / "chat.csv").read_text().strip() == ",".join(results_tree.COMPARISON_COLUMNS)
    assert results_tree.read_table(tmp_path / "chat.csv") == []


def test_capacity_and_comparison_survive_the_round_trip(tmp_path: Path) -> None:
    found = write_tree(tmp_path, Scenario(p95=False))
    again = results_tree.read_capacity(_all(tmp_path, "capacity/*.csv"))
    assert again["chat"]["awq"][0]["p95_ttft_ms"] is None
    assert again["chat"]["awq"][0]["valid"] is True
    assert again["chat"]["awq"][2]["throughput_tok_s"] == pytest.approx(
        found.capacity["chat"]["awq"][2]["throughput_tok_s"]
    )


def test_reports_get_exactly_the_configuration_that_the_rules_pass() -> None:
    root = SCRIPTS.parents[1]
    plan = settings.load(root, {"gpu": "rtx2000-ada-16gb"})
    assert set(facts(Scenario()).config) - {"reason_words"} == set(report_plan.report(plan))
    assert "hourly_price" not in str(report_plan.report(plan)), "a price would remake what does not depend on it"


def test_points_are_the_grid_and_what_lies_on_disk(tmp_path: Path) -> None:
    plan = settings.load(SCRIPTS.parents[1], {"gpu": "rtx2000-ada-16gb"})
    extra = tmp_path / "cells/bf16/chat/c4_t64.csv"
    extra.parent.mkdir(parents=True)
    extra.touch()
    (extra.parent / "c1_t128.csv").touch()
    (extra.parent / "notes.csv").touch()
    assert report_plan.points(plan, "bf16", tmp_path) == [*plan.cells("bf16"), ("chat", 4, 64)]
