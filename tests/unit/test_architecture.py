"""The house stands: imports point one way, what is pure stays pure, what is public is explained."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter

import pytest
from quantbench.docs.modules import EDGES, LAYERS, is_pure, modules
from source import ROOT, RULES, imported, names

MODULES = modules()

# What talks to the world. pathlib is a name for paths too, so its use for reading is looked for by method below.
WORLD = {"asyncio", "aiohttp", "os", "socket", "subprocess", "threading", "time", "urllib.request", "uvloop", "pynvml"}
BASE = {
    "files", "records/base", "report/say", "engines/vllm/request_fields", "engines/api_key", "quality/time_limit",
}  # fmt: skip
"""Edges that pure modules may name: types of files, the catalogue of words (read once), tables of fields, a header, the
end of a pattern that has none."""
READING = {"read_text", "read_bytes", "write_text", "write_bytes", "open", "exists", "glob", "unlink", "mkdir"}
COMMAND = "measure_tuple"
"""The rule whose script is a command: what is started for every block imports the standard library alone."""
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))


def layer(name: str) -> int:
    """The place of a module's layer, -1 for one that has none."""
    return next((n for n, members in enumerate(LAYERS) if name.split("/")[0] in members.split()), -1)


def test_every_module_has_a_layer_and_every_edge_is_a_module() -> None:
    assert {name for name in MODULES if layer(name) < 0} == set()
    assert set(EDGES) <= set(MODULES)


def test_no_module_loads_scipy_before_it_is_needed() -> None:
    """A plan would: `scipy.stats` alone is a quarter of the time of a small dry run."""
    tops = {name: [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
            for name, path in MODULES.items()}  # fmt: skip
    assert [name for name, nodes in tops.items() if any("scipy" in ast.unparse(node) for node in nodes)] == []


def test_imports_go_one_way() -> None:
    upwards = {(name, other) for name in MODULES for other in imported(MODULES[name]) if layer(other) > layer(name)}
    assert not upwards
    TopologicalSorter({name: imported(path) for name, path in MODULES.items()}).prepare()  # CycleError names a cycle


@pytest.mark.parametrize("name", sorted(filter(is_pure, MODULES)))
def test_pure_modules_do_not_touch_the_world(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    assert not names(MODULES[name]) & WORLD
    assert {other for other in imported(MODULES[name]) if not is_pure(other)} <= BASE
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {getattr(f, "attr", None) or getattr(f, "id", None) for f in functions}
    assert not called & READING


@pytest.mark.parametrize("name", sorted(MODULES))
def test_what_is_public_is_explained(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    assert ast.get_docstring(tree), "the module"
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_every_rule_has_a_script_and_every_script_a_rule() -> None:
    assert {path.stem for path in SCRIPTS} == {name for name, text in RULES.items() if "script:" in text} | {COMMAND}
    assert all(f"/scripts/{name}.py" in text for name, text in RULES.items() if "script:" in text)
    assert "{MEASURE_TUPLE} " in RULES[COMMAND]
    assert f"/scripts/{COMMAND}.py" in (ROOT / "rules/config.smk").read_text()


def test_results_are_explained_with_the_rules_that_make_them() -> None:
    explained = re.findall(r"`(\w+)`", (ROOT / "results/README.md").read_text())
    assert set(RULES) <= set(explained)
