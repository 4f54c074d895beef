"""The last words of a run."""

from __future__ import annotations

import os
from pathlib import Path

from quantbench.report.ending import words


def test_the_decision_and_the_path_are_told_if_the_report_is_of_this_run(tmp_path: Path) -> None:
    assert words(tmp_path, 0) == ""
    (tmp_path / "notes.md").write_text("# T\n\n- **Chat: use INT8.** So fast.\n\n## Model\n\n- not this\n")
    (tmp_path / "report.html").write_text("x")
    os.utime(tmp_path / "report.html", (100.0, 100.0))
    assert words(tmp_path, 100.5) == ""
    assert words(tmp_path, 99.5).splitlines() == ["", "- Chat: use INT8. So fast.", f"Report: {tmp_path}/report.html"]
