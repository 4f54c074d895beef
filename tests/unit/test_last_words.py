"""What stands last on the screen when a run did not end well."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from quantbench import last_words
from quantbench.last_words import words

PORT = "server of int8: port 8101 is taken\n  remedy: end that process"


def test_the_remedy_is_the_last_line_and_what_is_kept_the_first() -> None:
    lines = words("2 of 12 blocks", [PORT], [], interrupted=False).splitlines()
    assert lines[0] == (
        "quantbench: the run is not finished; 2 of 12 blocks are kept, and the same command goes on from there. "
        "What failed:"
    )
    assert lines[1:] == PORT.splitlines()


def test_many_failures_are_counted() -> None:
    text = words("0 of 4 blocks", [f"cause {n}" for n in range(9)], [], interrupted=False)
    assert "(and 6 more, see logs/)" in text
    assert text.splitlines()[1:] == ["cause 0", "cause 1", "cause 2"]


def test_an_interrupted_run_is_one_sentence() -> None:
    text = words("2 of 12 blocks", [PORT], [], interrupted=True)
    assert text == "quantbench: interrupted; 2 of 12 blocks are kept, and the same command goes on from there."


def test_a_full_disk_is_named_where_nobody_could_say_it() -> None:
    text = words("2 of 12 blocks", [], [".snakemake"], interrupted=False)
    assert text.splitlines()[1:] == ["no room is left on the disk of .snakemake", "  remedy: make room there"]


def test_without_a_cause_of_ours_the_screen_has_it() -> None:
    assert "for the reason that stands above" in words("0 of 4 blocks", [], [], interrupted=False)


RUN = """
import os, signal, subprocess, sys, time
from quantbench.last_words import LastWords
last = LastWords(lambda: "1 of 2 blocks")
last.begin(lambda: print("jobs are ended", file=sys.stderr))
if sys.argv[1] == "told":
    for _ in range(2):
        tell = "from quantbench.last_words import tell; tell('why' + chr(10) + '  remedy: do it')"
        subprocess.run([sys.executable, "-c", tell])
elif sys.argv[1] == "interrupted":
    os.kill(os.getpid(), signal.SIGINT)
elif sys.argv[1] == "terminated":
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
elif sys.argv[1] == "well":
    last.end()
print("snakemake says much", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("how", "last"),
    [
        ("told", "  remedy: do it"),
        ("well", "snakemake says much"),
        ("interrupted", "goes on from there."),
        ("terminated", "goes on from there."),
    ],
)
def test_after_all_else_the_process_says_it_once(how: str, last: str) -> None:
    ran = subprocess.run([sys.executable, "-c", RUN, how], capture_output=True, text=True, check=False)
    assert ran.stderr.strip().endswith(last.strip()), ran.stderr
    assert ran.stderr.count("why\n") == (how == "told")
    assert ran.stderr.count("jobs are ended") == (how == "terminated")


def test_outside_of_a_run_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(last_words.TELL, raising=False)
    last_words.tell("nothing happens")
    monkeypatch.setenv(last_words.TELL, "/proc/1/fd/999")
    last_words.tell("nothing happens")


def no_room() -> None:
    """Every write fails, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


WRITERS = {
    "a block's requests": "tables_io.write_records(path, [])",
    "a CSV": "tables_io.write_rows(path, [{'a': 1}])",
    "JSON": "files.write_json(path, {'a': 1})",
    "a script": "files.write_script(path, 'x')",
    "the requests of `load`": "load_output.write_requests(path, [{'a': 1}])",
}


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(
            what, marks=pytest.mark.fault(f"disk full while {what} is written", "file and remedy; no half file")
        )
        for what in WRITERS
    ],
)
def test_a_full_disk_is_said_of_every_file(what: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    code = f"""
from pathlib import Path
from quantbench import files
from quantbench.cli import load_output
from quantbench.client import tables_io
from quantbench.errors import QuantbenchError
path = Path({str(path)!r})
try:
    {WRITERS[what]}
except QuantbenchError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, preexec_fn=no_room)
    assert f"{path} cannot be written: File too large" in ran.stdout, ran.stderr
    assert "remedy: make room on that disk" in ran.stdout
    assert not list(tmp_path.iterdir())
