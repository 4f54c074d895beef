"""What docs/ says of the code is made from the code: stale pages fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantbench.cli import main as cli
from quantbench.docs import pages
from quantbench.docs.markdown import fill
from quantbench.errors import QuantbenchError

ROOT = Path(__file__).parents[3]


def test_pages_are_as_the_code_makes_them() -> None:
    stale = [path.name for path, (old, new) in pages.made_anew(ROOT).items() if old != new]
    assert stale == [], "run `python -m quantbench docs`"


def test_check_names_the_stale_page_and_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["docs"]) == 2
    assert "docs/ is not here" in capsys.readouterr().err
    for name in pages.BLOCKS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    guards = tmp_path / "docs/measurement.md"
    guards.write_text(guards.read_text().replace("| warn |", "| fail |"))
    assert cli.main(["docs", "--check"]) == 2
    assert "docs/measurement.md" in capsys.readouterr().err
    assert cli.main(["docs"]) == 0
    assert guards.read_text() == (ROOT / "docs/measurement.md").read_text()


def test_a_page_without_its_markers_is_named() -> None:
    with pytest.raises(QuantbenchError, match=r"page\.md has no lines"):
        fill("text", {"guards": "table"}, "page.md")
