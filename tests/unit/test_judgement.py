"""What judges or words is in one hash, and that hash is in the params of the rules that need no server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from quantbench import judgement
from quantbench.docs.modules import modules
from source import ROOT, RULES, imported

MODULES = modules()
WORKFLOW = ROOT / "workflow"
MODULES = modules()
MEASURING = {
    *(
        "calibrate_client",
        "measure_tuple",
        "measure_further",
        "measure_startup",
        "generate_answers",
        "collect_suite",
        "start_server",
        "stop_server",
    ),
    *("materialize_model", "quantize_model", "unpack_model"),
    *("run_comparison", "join_fleet"),
}
PLUMBING = {"errors", "files", "jobs", "client/records", "client/tables_io"}
"""Modules that the judging scripts use and that judge nothing, beside config/: they read, write and report errors."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "workflow"
    shutil.copytree(WORKFLOW, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize(("judges", "paths"), [
    (True, (
        "quantbench/judge/verdict.py", "quantbench/quality/score.py", "quantbench/report/pages.py",
        "quantbench/stats.py", "templates/report.css", "scripts/summarize_tuple.py",
    )),
    (False, (
        "quantbench/client/load.py", "quantbench/serving/lane.py", "quantbench/quality/ask.py",
        "scripts/measure_tuple.py", "schemas/config.schema.yaml",
    )),
])  # fmt: skip
def test_a_change_is_new_judgement_where_it_judges(copy: Path, judges: bool, paths: tuple[str, ...]) -> None:
    before = judgement.judgement(copy)
    for path in paths:
        text = (copy / path).read_text()
        (copy / path).write_text(text + "\n")
        assert (judgement.judgement(copy) != before) is judges, path
        (copy / path).write_text(text)
    (copy / "quantbench/report/__pycache__").mkdir(exist_ok=True)
    (copy / "quantbench/report/__pycache__/pages.cpython-311.pyc.1234").touch()
    assert judgement.judgement(copy) == before, "what an import writes beside it is no code"


def test_a_file_that_comes_goes_or_moves_is_new_judgement(copy: Path) -> None:
    hashes, place = [judgement.judgement(copy)], copy / "quantbench/judge/cost.py"
    for name in ("price.py", "cost_too.py"):
        place = place.rename(place.with_name(name))
        hashes.append(judgement.judgement(copy))
    place.unlink()
    hashes.append(judgement.judgement(copy))
    assert len(set(hashes)) == 4
    assert judgement.judgement(WORKFLOW) == hashes[0], "where the tree lies does not count"


def test_every_rule_either_measures_or_is_judged_anew() -> None:
    assert {name for name, text in RULES.items() if "judged_by=JUDGED_BY" in text} == set(RULES) - MEASURING


def test_all_that_a_judging_script_runs_is_in_the_hash_or_judges_nothing() -> None:
    hashed = set(judgement.files())
    scripts = {path for path in hashed if path.parent.name == "scripts"}
    assert {path.stem for path in scripts} == set(RULES) - MEASURING - {"name_quality"}
    judging, todo = set[str](), list(scripts)
    while todo:
        new = {
            name for name in imported(todo.pop()) if name not in PLUMBING and not name.startswith("config/")
        } - judging
        judging |= new
        todo += [MODULES[name] for name in new]
    assert {name for name in judging if MODULES[name] not in hashed} == set()
