"""The export: every figure of a run once, as the run's own files have it, blank with a reason, and none made up."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from quantbench import results
from quantbench.cli.main import main
from quantbench.errors import QuantbenchError
from quantbench.export import folders, openmetrics
from quantbench.export.figures import FIGURES, UNITS
from quantbench.export.rows import rows
from quantbench.records.base import read
from quantbench.records.comparison import Verdict
from quantbench.records.decision import Decision
from quantbench.records.export import KEY, ExportRow
from quantbench.records.suite import SuiteScore
from report_fixture import Scenario, write_tree
from source import ROOT

KEPT = sorted(path.parent for path in (ROOT / "docs/reference").glob("*/measurement.json"))
SCENARIO = Scenario(variants=("awq", "fp8"), suite="sound", iso=True, invalid=True, failures=True)


def exported(folder: Path) -> list[ExportRow]:
    """All rows of a results folder."""
    return list(rows(folders.load(folder), "0" * 16))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with suites, prices, a control, refused blocks and a failed request."""
    below = tmp_path_factory.mktemp("run")
    write_tree(below, SCENARIO)
    return below / "results/test-gpu"


@pytest.fixture(scope="module")
def figures(run: Path) -> list[ExportRow]:
    """Its rows."""
    return exported(run)


def one(figures: list[ExportRow], metric: str, **of: Any) -> ExportRow:
    """The only row that is so."""
    found = [r for r in figures if r.metric == metric and all(getattr(r, key) == value for key, value in of.items())]
    assert len(found) == 1, (metric, of, len(found))
    return found[0]


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_kept_runs_of_any_age_are_exported_whole(folder: Path) -> None:
    _is_tidy(exported(folder), folder)


def test_a_run_is_exported_whole(figures: list[ExportRow], run: Path) -> None:
    _is_tidy(figures, run)
    files = {row.file.split("/")[0] for row in figures}
    assert files >= {"raw", "cells", "comparison", "memory.csv", "startup.csv", "cost.json", "suites", "decision.json"}


def _is_tidy(found: list[ExportRow], folder: Path) -> None:
    keys = {tuple(getattr(row, name) for name in KEY) for row in found}
    assert len(keys) == len(found) > 100
    for row in found:
        assert row.value is not None or row.reasons, row
        assert row.value is None or math.isfinite(row.value)
        assert (folder / row.file).is_file()
        assert row.measured_at
        assert row.vllm
        assert row.hardware
    units: dict[str, set[str]] = {}
    for row in found:
        units.setdefault(row.metric, set()).add(row.unit)
    assert {metric for metric, some in units.items() if len(some) > 1} == set()


def test_figures_are_those_of_the_files(figures: list[ExportRow], run: Path) -> None:
    verdict, decision = read(run / "comparison/verdict.json", Verdict), read(run / "decision.json", Decision)
    for row in verdict.rows:
        found = one(figures, f"ratio_{row.metric}", model=row.variant, **row.cell.columns)
        assert (found.value, found.ci_low, found.ci_high, found.n) == (row.ratio, row.ci_low, row.ci_high, row.n_pairs)
        assert (found.verdict, found.valid) == (row.code, row.valid)
    for name, entry in verdict.aa.metrics.items():
        found = one(figures, f"ratio_{name}", model="bf16__aa")
        assert (found.value, found.verdict, found.label) == (entry.ratio, entry.code, "BF16")
    for tuple_ in results.read_capacity(sorted(run.glob("cells/*/*/*.csv"))):
        found = one(figures, "p50_ttft_ms", model=tuple_.model, block=None, **tuple_.cell.columns)
        assert (found.value, found.ci_low) == (tuple_.number("p50_ttft_ms"), tuple_.number("p50_ttft_ms_lo"))
        assert (found.n, found.n_of, found.valid) == (tuple_.number("n_used"), "requests", tuple_.valid)
    for word in decision.gate["awq"]:
        found = one(figures, "gate_loss", model="awq", use=word.use)
        assert (found.value, found.confidence, found.verdict, found.n) == (word.loss, 0.90, word.status, word.n)
    score = read(run / "suites/likelihood/awq.score.json", SuiteScore)
    found = one(figures, "kl", model="awq", suite="likelihood")
    assert score.likelihood
    assert (found.value, found.ci_high, found.n_of) == (score.likelihood.kl.value, score.likelihood.kl.high, "prompts")
    assert one(figures, "cost_per_1m_tokens", model="awq", workload="chat", concurrency=1).unit == "USD"


def test_what_guards_refused_says_so_and_is_no_gauge(figures: list[ExportRow], run: Path) -> None:
    refused = [row for row in figures if row.block is not None and row.valid is False]
    assert {row.model for row in refused} == {"awq", "fp8"}
    assert {row.reasons.split(";")[0] for row in refused} == {"failed_requests", "thermal_throttling"}
    pooled = [row for row in figures if row.block is None and row.valid is False and row.metric == "throughput_tok_s"]
    text = openmetrics.text(figures)
    for row in pooled:
        labels = f'model="{row.model}",workload="{row.workload}",concurrency="{row.concurrency}"'
        assert not [x for x in text.splitlines() if x.startswith("quantbench_throughput_tokens") and labels in x]
        assert [
            x for x in text.splitlines() if x.startswith("quantbench_cell_valid") and labels in x and x.endswith(" 0.0")
        ]
    assert pooled


def test_a_blank_percentile_has_its_own_reason(tmp_path: Path) -> None:
    write_tree(tmp_path, Scenario(p95=False, blocks=2, price=False))
    found = exported(tmp_path / "results/test-gpu")
    blank = [row for row in found if row.metric == "p95_ttft_ms" and row.value is None]
    assert blank
    assert {row.reasons.split(";")[0] for row in blank} == {"P95_NEEDS_N72"}
    assert {row.reasons for row in found if row.metric == "cost_per_1m_tokens"} == {"NO_PRICE"}


@pytest.mark.fault("an export is asked for while a run is making its tables anew", "what is there is exported")
def test_a_run_that_is_not_finished_is_exported_as_far_as_it_has_come(run: Path, tmp_path: Path) -> None:
    part = tmp_path / "results/test-gpu"
    shutil.copytree(run / "raw", part / "raw")
    shutil.copytree(run / "servers", part / "servers")
    found = exported(part)
    assert {row.file.split("/")[0] for row in found} == {"raw"}
    assert {row.valid for row in found} == {None}, "blocks are judged with the configuration, which is not here"


def test_folders_are_found_below_what_is_named_once_each(run: Path, tmp_path: Path) -> None:
    inner = tmp_path / "fleets/ours/one/results/test-gpu"
    shutil.copytree(run, inner)
    for named in (tmp_path, tmp_path / "fleets", tmp_path / "fleets/ours", inner.parent, inner):
        assert folders.find([named, inner]) == [inner]
    row = exported(inner)[0]
    assert (row.fleet, row.comparison, row.gpu) == ("ours", "one", "test-gpu")
    assert exported(run)[0].fleet is None


@pytest.mark.fault(
    "a folder is exported that holds no results", "exit 2; the folder is named, and what to name instead"
)
@pytest.mark.parametrize("name", ["", "absent"])
def test_a_folder_without_results_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / name), "--parquet", str(tmp_path / "x.parquet")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / name) in said
    assert "results/{gpu}" in said
    assert not (tmp_path / "x.parquet").exists()


def test_a_damaged_file_is_named_and_nothing_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "results/test-gpu"
    shutil.copytree(run, copy)
    (copy / "cost.json").write_text("{}")
    assert main(["export", str(copy), "--openmetrics", str(tmp_path / "x.prom")]) == 2
    assert "cost.json is damaged" in capsys.readouterr().err
    assert not (tmp_path / "x.prom").exists()
    assert main(["export", str(copy)]) == 2
    assert "--parquet FILE" in capsys.readouterr().err


def test_the_command_writes_a_table_with_the_types_of_the_record(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, text = tmp_path / "x.parquet", tmp_path / "x.prom"
    assert main(["export", str(run), str(KEPT[0]), "--parquet", str(table), "--openmetrics", str(text)]) == 0
    found = pl.read_parquet(table)
    assert dict(found.schema) == folders.schema()
    assert f"{found.height:,} figures of 2 results folders" in capsys.readouterr().out
    assert found.select("run").unique().height == 2
    folders.write_parquet(table, [])
    assert dict(pl.read_parquet(table).schema) == folders.schema(), "with nothing in it, too"


# --- OpenMetrics -----------------------------------------------------------------------------------------------------


def parsed(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], Any]:
    """{(gauge, labels): sample} of a text, by a parser that is not ours."""
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} <= {"gauge"}
    samples = [sample for family in families for sample in family.samples]
    known = {(sample.name, frozenset(sample.labels.items())): sample for sample in samples}
    assert len(known) == len(samples)
    return known


@pytest.mark.parametrize("stamped", [False, True])
def test_all_runs_together_are_parsed_and_none_is_lost(figures: list[ExportRow], stamped: bool) -> None:
    together = [*figures, *(row for folder in KEPT for row in exported(folder))]
    known = parsed(openmetrics.text(together, timestamps=stamped))
    figures_of = [r for r in together if r.block is None and r.value is not None and r.valid is not False]
    names = {figure.gauge() for figure in FIGURES.values()}
    assert sum(name in names for name, _ in known) == len(figures_of)
    assert all(bool(sample.timestamp) == stamped for sample in known.values())


def test_gauges_are_in_base_units(figures: list[ExportRow]) -> None:
    known = parsed(openmetrics.text(figures))
    for metric, gauge, factor in (
        ("weights_gib", "quantbench_weights_bytes", 2**30),
        ("weights_reduction_pct", "quantbench_weights_reduction_ratio", 0.01),
        ("startup_run_total_s", "quantbench_startup_run_total_seconds", 1),
    ):
        found = next(sample for (name, labels), sample in known.items() if name == gauge and ("model", "awq") in labels)
        assert found.value == pytest.approx(one(figures, metric, model="awq").value * factor)
    ttft = [sample.value for (name, _), sample in known.items() if name == "quantbench_p50_ttft_seconds"]
    own = [r.value for r in figures if r.metric == "p50_ttft_ms" and r.block is None and r.valid and r.value]
    assert sorted(ttft) == pytest.approx(sorted(value / 1000 for value in own))


def test_no_two_metrics_share_a_gauge_and_each_ends_in_its_unit() -> None:
    gauges = [figure.gauge(part) for figure in FIGURES.values() for part in ("", "_ci_low", "_ci_high")]
    gauges += [family.name for family in openmetrics.OTHERS]
    assert len(set(gauges)) == len(gauges)
    assert all(figure.gauge().endswith(UNITS[figure.unit].base) for figure in FIGURES.values())
    assert not [name for name in gauges if name.endswith(("_total", "_count", "_sum", "_bucket", "_created"))]


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ['"', "\\", "\n", '\\"', "\\n", '"} 1\n# EOF', "a\r\nb", "\u2028", "\x85", '{x="y"} 2', "# TYPE a counter\n"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(HOSTILE, min_size=8, max_size=8), value=st.floats(allow_nan=False), stamped=st.booleans())
def test_hostile_names_stay_within_their_labels(
    figures: list[ExportRow], names: list[str], value: float, stamped: bool
) -> None:
    plain = one(figures, "throughput_tok_s", model="bf16", block=None, workload="chat", concurrency=1)
    run, gpu, model, workload, label, source, hardware, verdict = names
    row = replace(
        plain, run=run, gpu=gpu, model=model, workload=workload, label=label, source=source, hardware=hardware,
        verdict=verdict, value=value, suite=verdict, use=label,
    )  # fmt: skip
    known = parsed(openmetrics.text([row], timestamps=stamped))
    labels = {"run": run, "gpu": gpu, "model": model, "workload": workload, "concurrency": "1", "max_tokens": "128"}
    found = known[
        "quantbench_throughput_tokens_per_second", frozenset((labels | {"suite": verdict, "use": label}).items())
    ]
    assert found.value == value
    if model:
        info = next(sample for (name, _), sample in known.items() if name == "quantbench_model_info")
        assert (info.labels["label"], info.labels["source"], info.labels["hardware"]) == (label, source, hardware)


def test_two_figures_for_one_sample_are_refused(figures: list[ExportRow]) -> None:
    row = one(figures, "weights_gib", model="awq")
    assert row.value
    assert openmetrics.text([row, row]) == openmetrics.text([row])
    with pytest.raises(QuantbenchError, match="two figures for quantbench_weights_bytes"):
        openmetrics.text([row, replace(row, value=row.value + 1)])


def test_a_folder_that_is_no_utf8_is_written_out(run: Path, tmp_path: Path) -> None:
    odd = tmp_path / "\udcff"
    shutil.copytree(run / "servers", odd / "servers")
    shutil.copy(run / "memory.csv", odd)
    found = exported(odd)
    assert found[0].gpu == "\\xff"
    assert parsed(openmetrics.text(found))
    assert asdict(found[0])["run"].endswith("/\\xff")
