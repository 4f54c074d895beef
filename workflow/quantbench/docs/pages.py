"""Which blocks of which pages are made from the code, and how they are made anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from quantbench.config import settings
from quantbench.docs import contracts, modules, tables
from quantbench.docs.markdown import fill
from quantbench.records.fleet import FleetRow
from quantbench.report import say

Block = Callable[[], str]
BLOCKS: Final[Mapping[str, Mapping[str, Block]]] = {
    "docs/architecture.md": {"modules": modules.modules_table},
    "docs/measurement.md": {
        "metrics": tables.metrics_table,
        "failures": tables.failures_table,
        "codes": lambda: tables.codes_table(settings.read_yaml(say.WORDS_FILE)["code"]),
        "guards": tables.guards_table,
        "gate": lambda: tables.gate_table(settings.read_yaml(settings.SCHEMA)),
    },
    "docs/files.md": {"columns": tables.tuple_columns_table, "contracts": contracts.contracts},
    "docs/fleet.md": {
        "keys": lambda: tables.keys_table(settings.read_yaml(settings.SCHEMA.with_name("fleet.schema.yaml"))),
        "columns": lambda: contracts.described(FleetRow),
    },
    "docs/export.md": {"columns": tables.export_columns_table, "metrics": tables.export_metrics_table},
    "config/README.md": {"keys": lambda: tables.keys_table(settings.read_yaml(settings.SCHEMA))},
}
"""{page: {block: how it is made}}."""


def made_anew(root: Path) -> dict[Path, tuple[str, str]]:
    """{page: (as it is, as the code makes it)}, below the folder of the repository."""
    pages = {}
    for name, blocks in BLOCKS.items():
        text = (root / name).read_text(encoding="utf-8")
        pages[root / name] = text, fill(text, {block: make() for block, make in blocks.items()}, name)
    return pages
