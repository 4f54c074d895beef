"""The guards as tables of docs/measurement.md, one per scope."""

from __future__ import annotations

from typing import Final

from quantbench.docs.markdown import table
from quantbench.judge.guards import GUARDS

_SCOPES: Final = {"block": "Of a block", "server": "Of a server", "pair": "Of a comparison", "run": "Of a run"}


def guards_table() -> str:
    """`guards` of docs/measurement.md: the guards in a table per scope."""
    columns = ("guard", "if found", "meaning", "detection", "remedy")
    parts = []
    for scope, heading in _SCOPES.items():
        rows = [(f"`{g.id}`", g.severity, g.meaning, g.detection, g.remedy) for g in GUARDS if g.scope == scope]
        parts.append(f"### {heading}\n\n{table(columns, rows)}")
    return "\n\n".join(parts)
