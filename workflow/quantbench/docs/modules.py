"""The module table of docs/architecture.md, from the first line of each module; layers, and who may touch the world."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from quantbench.docs.markdown import table

LIBRARY: Final = Path(__file__).parents[1]
LAYERS: Final = (
    "visible errors files last_words ask_lane",
    "records stats wording",
    "observe",
    "config",
    "engines",
    "serving",
    "client",
    "quality",
    "judge",
    "results",
    "report export",
    "judgement subjects preview inputs fitting iso_memory kept kept_items order block terminal jobs lane_writer "
    "lane_process further docs",
    "fleet",
    "cli __main__",
)
"""Packages, and modules outside of any, from the bottom: each imports from its own layer and those above it here."""
EDGES: Final = {
    "files", "results", "subjects", "preview", "inputs", "fitting", "iso_memory", "kept", "kept_items", "last_words",
    "block", "jobs", "ask_lane", "lane_writer", "lane_process", "further", "judgement", "terminal", "__main__",
    "records/base", "observe/checkpoint", "observe/gguf", "observe/given", "observe/gpu", "observe/host",
    "observe/peaks", "observe/programs", "observe/telemetry", "config/settings", "config/report_plan",
    "client/prompt_file", "client/load_phase", "client/load_checks", "client/load_progress", "client/load",
    "client/wire", "client/aiohttp_wire", "client/loop_lag", "client/truth_server", "client/calibration",
    "client/tables_io", "quality/ask", "quality/ask_likelihood", "quality/code_check", "quality/code_worker",
    "quality/collect", "quality/gguf_source", "quality/judge_model", "quality/lm_eval",
    "quality/made_models", "quality/time_limit",
    "fleet/comparisons", "fleet/folder", "fleet/inner", "fleet/done", "fleet/joined", "fleet/signals",
    "export/folders",
    "report/render", "report/say", "report/plots", "report/ending", "docs/modules", "docs/pages",
}  # fmt: skip
"""Modules that may read a disk, a clock or a network, beside those of `WORLDLY`. All others are pure: values in, values
out; a test holds them to it."""
WORLDLY: Final = ("serving/", "engines/", "cli/")
"""Packages that are made to touch the world."""


def modules() -> dict[str, Path]:
    """{name below the library, such as `judge/cost`: file}."""
    paths = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
    return {path.relative_to(LIBRARY).with_suffix("").as_posix(): path for path in paths}


def is_pure(name: str) -> bool:
    """Whether a module may not touch the world."""
    return name not in EDGES and not name.startswith(WORLDLY)


def modules_table() -> str:
    """`modules` of docs/architecture.md: a table per layer's package, from the bottom."""
    files, parts = modules(), []
    for member in (member for layer in LAYERS for member in layer.split()):
        inside = {name: path for name, path in files.items() if name.split("/")[0] == member}
        rows = [(f"`{name}`", "pure" if is_pure(name) else "edge", _summary(path)) for name, path in inside.items()]
        package = LIBRARY / member / "__init__.py"
        title = f"### `{member}/`: {_summary(package).rstrip('.')}" if package.exists() else f"### `{member}`"
        parts.append(f"{title}\n\n{table(('module', 'kind', 'what it holds'), rows)}")
    return "\n\n".join(parts)


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())
