"""What a job of measure_block does: ask the process of its lane, and start it if it is not there."""

from __future__ import annotations

import ast
import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from quantbench import ask_lane, last_words
from source import imported, names

ORDER = [["a", "chat", 4, 16, 1], ["c", "chat", 4, 16, 1], ["b", "chat", 4, 16, 1]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, with a path that is too long for a socket."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir(mode=0o700)
    agenda = {"lanes": {"a": "one", "b": "one", "c": "two"}, "order": ORDER}
    (folder / "agenda.json").write_text(json.dumps(agenda))
    monkeypatch.setenv(ask_lane.RUN, str(folder))
    monkeypatch.setenv(last_words.TELL, str(tmp_path / "told"))
    return folder


def answering(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> list[Any]:
    """A process of lane `one` that gives this answer; what it is asked."""
    asked: list[Any] = []
    monkeypatch.chdir(folder)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("one.sock")
    listening.listen()

    def serve() -> None:
        line, _ = listening.accept()
        with line, line.makefile("rb") as words:
            asked.append(json.loads(words.readline()))
            line.sendall(answer)
        listening.close()

    threading.Thread(target=serve, daemon=True).start()
    return asked


def test_it_says_which_block_and_what_comes_after_it_on_the_lane(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(run, monkeypatch, b'{"code": 3}\n')
    assert ask_lane.main(["a", "chat", "4", "16", "1"]) == 3
    assert asked == [{"block": ORDER[0], "next": ORDER[2]}]


@pytest.mark.parametrize("words", [["b", "chat", "4", "16", "1"], ["a", "chat", "4", "16", "2"]])
def test_nothing_follows_the_last_block_nor_one_that_is_not_planned(
    run: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    asked = answering(run, monkeypatch, b'{"code": 0}\n')
    assert ask_lane.main(words) == 0
    assert asked[0]["next"] is None


def test_a_process_that_ends_without_an_answer_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answering(run, monkeypatch, b"")
    assert ask_lane.main(["a", "chat", "4", "16", "1"]) == 1
    assert "the process that measures on lane one, or the one that writes, ended" in capfd.readouterr().err
    assert "remedy" in Path(run.parent / "told").read_text()


def test_one_that_cannot_start_is_said_with_its_exit_code(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (run / "one.sock").touch()  # of a process that was killed
    assert ask_lane.main(["a", "chat", "4", "16", "1"]) == 1
    assert "ended in this block (code 1)" in capfd.readouterr().err


@pytest.mark.fault("a run's folder in the state folder that others may write to", "no block is asked for there")
def test_a_folder_that_others_may_write_to_is_not_used(run: Path) -> None:
    run.chmod(0o777)
    with pytest.raises(PermissionError):
        ask_lane.main(["a", "chat", "4", "16", "1"])


def test_it_imports_the_standard_library_alone() -> None:
    path = Path(ask_lane.__file__)
    top = {alias for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import) for alias in node.names}
    assert {alias.name for alias in top} <= sys.stdlib_module_names
    assert imported(path) == {"last_words"}, "where it has to say something"
    assert "pathlib" not in names(path)
