"""docs/architecture.md is true: every module is listed, imports point one way, what is public is explained."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter

import pytest
from source import MODULES, ROOT, RULES, imported, names

TABLE = dict(re.findall(r"^\| `([\w/]+)` \| (base|pure|edge) \|", (ROOT / "docs/architecture.md").read_text(), re.M))
LAYERS = (
    "errors files",
    "records stats wording progress",
    "observe",
    "config",
    "engines",
    "serving",
    "client",
    "judge",
    "quality",
    "results",
    "report",
    "judgement inputs block jobs docs",
    "cli __main__",
)
"""Packages, and modules outside of any, from the bottom: each imports from its own layer and those above it here."""
# What talks to the world. pathlib is a name for paths too, so its use for reading is looked for by method below.
WORLD = {"asyncio", "aiohttp", "os", "socket", "subprocess", "threading", "time", "urllib.request", "uvloop", "pynvml"}
READING = {"read_text", "read_bytes", "write_text", "write_bytes", "open", "exists", "glob", "unlink", "mkdir"}
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))


def layer(name: str) -> int:
    """The place of a module's layer; ValueError for one that has none."""
    return next((n for n, members in enumerate(LAYERS) if name.split("/")[0] in members.split()), -1)


def test_every_module_is_listed_once_and_has_a_layer() -> None:
    assert set(TABLE) == set(MODULES)
    assert {name for name in MODULES if layer(name) < 0} == set()


def test_imports_go_one_way() -> None:
    upwards = {(name, other) for name in MODULES for other in imported(MODULES[name]) if layer(other) > layer(name)}
    assert not upwards
    TopologicalSorter({name: imported(path) for name, path in MODULES.items()}).prepare()  # CycleError names a cycle


@pytest.mark.parametrize("name", sorted(n for n, kind in TABLE.items() if kind != "edge"))
def test_pure_modules_do_not_touch_the_world(name: str) -> None:
    allowed = {"base"} if TABLE[name] == "base" else {"base", "pure"}
    wrong = {other for other in imported(MODULES[name]) if TABLE[other] not in allowed}
    assert not wrong, f"{name} imports {wrong}"
    if TABLE[name] == "pure":
        assert not names(MODULES[name]) & WORLD
        calls = [n.func for n in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(n, ast.Call)]
        used = {f.attr for f in calls if isinstance(f, ast.Attribute)} | {
            f.id for f in calls if isinstance(f, ast.Name)
        }
        assert not used & READING, f"{name} calls {used & READING}"


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"judge/guard_checks", "judge/guard_pairs"}))  # see guard_table
def test_what_is_public_is_explained(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    assert ast.get_docstring(tree), "the module"
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_every_rule_has_a_script_and_every_script_a_rule() -> None:
    assert {path.stem for path in SCRIPTS} == {name for name, text in RULES.items() if "script:" in text}
    assert all(f"/scripts/{name}.py" in text for name, text in RULES.items() if "script:" in text)


def test_results_are_explained_with_the_rules_that_make_them() -> None:
    explained = re.findall(r"`(\w+)`", (ROOT / "results/README.md").read_text())
    assert set(RULES) <= set(explained)
