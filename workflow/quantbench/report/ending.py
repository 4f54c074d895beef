"""The last words of a run: what it found, and where the report lies."""

from __future__ import annotations

from pathlib import Path


def words(folder: Path, since: float) -> str:
    """The decision lines of notes.md and the report's path; "" where the report was not written since (Unix time)."""
    report, notes = folder / "report.html", folder / "notes.md"
    if not report.exists() or not notes.exists() or report.stat().st_mtime < since:
        return ""
    before_sections = notes.read_text(encoding="utf-8").split("\n## ")[0]
    found = [line.replace("**", "") for line in before_sections.splitlines() if line.startswith("- ")]
    return "\n".join(["", *found, f"Report: {report}", ""])
