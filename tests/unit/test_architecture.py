"""docs/architecture.md is true: every module is listed, and imports point one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "workflow" / "quantbench"
TABLE = dict(re.findall(r"^\| `([\w/]+)` \| (base|pure|edge) \|", (ROOT / "docs/architecture.md").read_text(), re.M))
MODULES = {
    str(path.relative_to(LIBRARY).with_suffix("")): path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py"
}
# What talks to the world. pathlib is a name for paths too, so its use for reading is looked for by method below.
WORLD = {"asyncio", "aiohttp", "os", "socket", "subprocess", "threading", "time", "urllib.request", "uvloop", "pynvml"}
LAYERS = ("", "observe", "config", "engines", "serving", "client", "judge", "quality", "report", "cli")
GROUND = {"errors", "files", "stats", "wording", "progress"}
READING = {"read_text", "read_bytes", "write_text", "write_bytes", "open", "exists", "glob", "unlink", "mkdir"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own(names: set[str]) -> set[str]:
    parts = {name.removeprefix("quantbench.").replace(".", "/") for name in names if name.startswith("quantbench.")}
    return {part for part in parts if part in MODULES}


def test_every_module_is_listed_once() -> None:
    assert set(TABLE) == set(MODULES)


@pytest.mark.parametrize("name", sorted(n for n, kind in TABLE.items() if kind != "edge"))
def test_pure_modules_do_not_touch_the_world(name: str) -> None:
    names = imports(MODULES[name])
    allowed = {"base"} if TABLE[name] == "base" else {"base", "pure"}
    wrong = {other for other in own(names) if TABLE[other] not in allowed}
    assert not wrong, f"{name} imports {wrong}"
    if TABLE[name] == "pure":
        assert not names & WORLD
        calls = [n.func for n in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(n, ast.Call)]
        used = {f.attr for f in calls if isinstance(f, ast.Attribute)} | {
            f.id for f in calls if isinstance(f, ast.Name)
        }
        assert not used & READING, f"{name} calls {used & READING}"


def layer(name: str) -> int:
    """0 for the ground, then the packages from the bottom, the top last."""
    if "/" not in name:
        return 0 if name in GROUND else len(LAYERS)
    return LAYERS.index(name.split("/")[0])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_packages_import_downwards_only(name: str) -> None:
    wrong = {other for other in own(imports(MODULES[name])) if layer(other) > layer(name)}
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_and_functions_stay_small(name: str) -> None:
    text = MODULES[name].read_text()
    assert text.count("\n") < 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 39, f"{name}.{node.name}"


def test_every_script_belongs_to_a_rule() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    for script in (ROOT / "workflow/scripts").glob("*.py"):
        assert f"rule {script.stem}:" in rules, script.name
        assert script.name in rules, script.name
