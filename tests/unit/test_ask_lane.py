"""What a job of measure_tuple does: ask the process of its lane for blocks, and start it if it is not there."""

from __future__ import annotations

import ast
import hashlib
import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from quantbench import ask_lane, last_words
from quantbench.records.base import read
from quantbench.records.block import MeasuredTuple
from source import imported, names

ARMS = {"a": "one", "b": "one", "c": "two"}
CELL = ("chat", 4, 16)


def block(arm: str, number: int, cell: tuple[str, int, int] = CELL) -> list[Any]:
    return [arm, *cell, number]


LATER = ("chat", 8, 16)
ORDER = [
    block("a", 1), block("c", 1), block("b", 1), block("b", 2), block("a", 2),
    block("a", 1, LATER), block("b", 1, LATER),
]  # fmt: skip
"""A B B A on lane `one`, then the next cell."""
A_TUPLE = ["a", "chat", "4", "16"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, with a path that is too long for a socket."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir(mode=0o700)
    servers = {}
    for arm in ARMS:
        (tmp_path / f"{arm}.json").touch()
        servers[arm] = [str(tmp_path / f"{arm}.json"), None]
    (folder / "agenda.json").write_text(json.dumps({"lanes": ARMS, "order": ORDER, "servers": servers}))
    monkeypatch.setenv(ask_lane.RUN, str(folder))
    monkeypatch.setenv(last_words.TELL, str(tmp_path / "told"))
    return folder


def change(run: Path, **changes: Any) -> None:
    """Another agenda."""
    path = run / "agenda.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def note(run: Path, what: str, *whose: list[Any]) -> None:
    """Lines of the journal of lane `one`."""
    with (run / "one.journal").open("a") as file:
        file.writelines(json.dumps([what, each]) + "\n" for each in whose)


def ask(run: Path, words: list[str] = A_TUPLE) -> int:
    """The job of a tuple."""
    return ask_lane.main([*words, str(run / "measured.json")])


def measured(run: Path) -> MeasuredTuple:
    """What the job has written."""
    return read(run / "measured.json", MeasuredTuple)


def answering(run: Path, monkeypatch: pytest.MonkeyPatch, answer: int | None, *, ending: bool = False) -> list[Any]:
    """A process of lane `one` that gives this answer, 0 after it has measured all, or none; what it is asked.

    ending: it ends without having taken the first request; the socket stays.
    """
    asked: list[Any] = []
    monkeypatch.chdir(run)
    listening = socket.socket(socket.AF_UNIX)
    Path("one.sock").unlink(missing_ok=True)
    listening.bind("one.sock")
    listening.listen()

    def serve() -> None:
        if ending:
            listening.accept()[0].close()
        line, _ = listening.accept()
        with line, line.makefile("rb") as words:
            asked.append(json.loads(words.readline()))
            line.sendall(b"\n")
            if answer == 0:
                note(run, ask_lane.MEASURED, *asked[-1]["blocks"])
            if answer is not None:
                line.sendall(json.dumps({"code": answer}).encode() + b"\n")
        listening.close()

    threading.Thread(target=serve, daemon=True).start()
    return asked


def test_it_asks_for_all_up_to_its_own_last_block_and_says_what_comes_then(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(run, monkeypatch, 0)
    assert ask(run) == 0
    [request] = asked
    assert request["blocks"] == [block("a", 1), block("b", 1), block("b", 2), block("a", 2)]
    assert request["next"] == block("a", 1, LATER)
    assert request["tuple"] == ["a", *CELL]
    assert measured(run).measured == (1, 2)


def test_it_writes_down_what_lies_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(run, monkeypatch, 0)
    for name in ("b1.json", "b1.parquet", "b2.json", "b10.json", "b10.parquet"):
        (run / name).write_text(name)
    assert ask(run) == 0
    told = measured(run).blocks
    assert list(told) == ["b1", "b10"], "b2 is not whole"
    assert told["b1"].context == hashlib.sha256(b"b1.json").hexdigest()
    assert told["b10"].records == len("b10.parquet")


def test_what_was_measured_is_not_asked_for_and_a_tuple_that_is_there_needs_no_lane(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(run, ask_lane.MEASURED, *ORDER[:4])
    asked = answering(run, monkeypatch, 0)
    assert ask(run, ["b", "chat", "4", "16"]) == 0
    assert not asked, "its two blocks were measured beside those of another"
    assert ask(run) == 0
    assert asked[0]["blocks"] == [block("a", 2)]
    (run / "measured.json").unlink()
    assert ask(run, ["a", "chat", "64", "16"]) == 0, "all its blocks are kept from before"
    assert measured(run).measured == ()


def test_nothing_follows_the_last_block(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(run, monkeypatch, 0)
    assert ask(run, ["b", "chat", "8", "16"]) == 0
    assert asked[0]["next"] is None
    assert len(asked[0]["blocks"]) == 6


@pytest.mark.parametrize("was", ["not there", "as before"])
def test_blocks_of_a_server_that_is_not_up_yet_are_left_to_their_own_job(
    run: Path, monkeypatch: pytest.MonkeyPatch, was: str
) -> None:
    ready = run.parent / "b.json"
    servers = json.loads((run / "agenda.json").read_text())["servers"]
    change(run, servers=servers | {"b": [str(ready), ready.stat().st_mtime_ns if was == "as before" else None]})
    if was == "not there":
        ready.unlink()
    asked = answering(run, monkeypatch, 0)
    assert ask(run) == 0
    assert asked[0]["blocks"] == [block("a", 1), block("a", 2)]


def test_it_asks_again_for_what_was_not_measured_and_not_for_tuples_that_failed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def of_lane(lane: str, request: Any) -> int:
        asked.append(request["blocks"])
        assert (lane, (run / "one.sock").exists()) == ("one", len(asked) == 1), "no process that failed is asked again"
        if len(asked) == 1:
            note(run, ask_lane.MEASURED, block("a", 1))
            note(run, ask_lane.FAILED, ["b", *CELL])
            return ask_lane.AGAIN
        if len(asked) == 3:
            note(run, ask_lane.MEASURED, block("a", 2))
        return 0  # what was handed to a process that has ended is lost

    (run / "one.sock").touch()
    monkeypatch.setattr(ask_lane, "ask", of_lane)
    assert ask(run) == 0
    assert asked == [list(map(tuple, [ORDER[0], *ORDER[2:5]])), [tuple(block("a", 2))], [tuple(block("a", 2))]]


@pytest.mark.fault("two jobs of a lane at once (a 17th lane, another profile)", "each block is measured once")
def test_jobs_of_a_lane_take_turns(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def of_lane(_: str, request: Any) -> int:
        asked.extend(request["blocks"])
        time.sleep(0.2)
        note(run, ask_lane.MEASURED, *request["blocks"])
        return 0

    monkeypatch.setattr(ask_lane, "ask", of_lane)
    for arm in "ab":
        (run / arm).mkdir()
    words = [[arm, "chat", "4", "16", str(run / arm / "measured.json")] for arm in "ab"]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask_lane.main, words)) == [0, 0]
    assert sorted(asked) == sorted(map(tuple, [ORDER[0], *ORDER[2:5]]))


def test_the_job_of_a_tuple_that_failed_on_the_way_of_another_tries_itself(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(run, ask_lane.FAILED, ["b", *CELL])
    asked = answering(run, monkeypatch, 1)
    assert ask(run, ["b", "chat", "4", "16"]) == 1
    assert asked[0]["blocks"] == [block("a", 1), block("b", 1), block("b", 2)]


@pytest.mark.fault(
    "no room for the record of a tuple whose blocks are there", "the job fails and says so; the next run only writes it"
)
def test_a_record_that_cannot_be_written_is_named(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    note(run, ask_lane.MEASURED, *ORDER)
    (run / "measured.json.part").mkdir()
    assert ask(run) == 1
    assert "measured.json cannot be written: Is a directory" in capfd.readouterr().err
    assert "remedy: make room" in (run.parent / "told").read_text()


def test_a_failure_of_its_own_is_the_jobs_and_writes_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(run, monkeypatch, 3)
    assert ask(run) == 3
    assert not (run / "measured.json").exists()


def test_a_process_that_ends_without_an_answer_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answering(run, monkeypatch, None)
    assert ask(run) == 1
    assert "the process that measures on lane one, or the one that writes, ended" in capfd.readouterr().err
    assert "remedy" in Path(run.parent / "told").read_text()


@pytest.mark.fault(
    "a job meets the process of a lane that is about to end", "it asks the next one; no tuple fails for it"
)
def test_one_that_ends_before_it_has_taken_a_request_is_not_the_one_asked(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(run, monkeypatch, 0, ending=True)
    assert ask(run) == 0
    assert len(asked) == 1


@pytest.mark.fault(
    "the folder of a run in the state folder is removed while it lives", "jobs fail with folder and remedy"
)
@pytest.mark.parametrize("how", ["gone", "cut off"])
def test_without_what_the_lanes_are_told_the_job_says_so(
    run: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    (run / "agenda.json").unlink() if how == "gone" else (run / "agenda.json").write_text("{")
    assert ask(run) == 1
    said = capfd.readouterr().err
    assert f"in {run}, is gone or damaged" in said
    assert "remedy" in said


def test_one_that_cannot_start_is_said_with_its_exit_code(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (run / "one.sock").touch()  # of a process that was killed
    assert ask(run) == 1
    assert "ended in this block (code 1)" in capfd.readouterr().err


@pytest.mark.fault("a run's folder in the state folder that others may write to", "no block is asked for there")
def test_a_folder_that_others_may_write_to_is_not_used(run: Path) -> None:
    run.chmod(0o777)
    with pytest.raises(PermissionError):
        ask(run)


def test_it_imports_the_standard_library_alone() -> None:
    path = Path(ask_lane.__file__)
    top = {alias for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import) for alias in node.names}
    assert {alias.name for alias in top} <= sys.stdlib_module_names
    assert imported(path) == {"last_words"}, "where it has to say something"
    assert "pathlib" not in names(path)
