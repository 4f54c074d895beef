"""One run at a time in a folder, on one host and on several."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from quantbench.errors import QuantbenchError
from quantbench.records.base import line
from quantbench.records.serving import FolderLock
from quantbench.serving import folder, owner, processes

ENTER = "from pathlib import Path; from quantbench.serving import folder; folder.enter(Path(), Path('results')); "


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(owner.SHARED, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(owner.LIBRARY))
    (tmp_path / ".snakemake").mkdir()
    yield tmp_path / ".snakemake/quantbench.lock"
    while folder._held:
        os.close(folder._held.pop())


def note(lock: Path, host: str, boot: str) -> None:
    lock.write_bytes(line(FolderLock(pid=77, host=host, boot=boot, since="2026-11-27 10:00:00 +0000")))


def test_who_is_in_the_folder_stands_in_its_lock_until_that_run_ends(tmp_path: Path, lock: Path) -> None:
    code = ENTER + "print(Path('.snakemake/quantbench.lock').read_text())"
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert f'"host":"{socket.gethostname()}"' in said
    assert lock.read_text() == ""
    folder.enter(tmp_path, tmp_path / "results")


@pytest.mark.fault(
    "a run of another host is in the working folder (shared disk), by an older version that gives no sign of life",
    "refused: names the host, its process and since when; the remedy names the file to delete if that host is down",
)
def test_a_run_of_another_host_is_not_taken_for_dead(tmp_path: Path, lock: Path) -> None:
    note(lock, "web1", "0ther")
    with pytest.raises(QuantbenchError, match=r"a run on web1 is in this folder since 2026.*process id 77") as caught:
        folder.enter(tmp_path, tmp_path / "results")
    assert f"rm {lock}" in caught.value.remedy
    lock.unlink()
    folder.enter(tmp_path, tmp_path / "results")


HOLDER = "import time; folder.BEAT_S = 0.1; folder.enter(Path(), Path('results')); print(flush=True); time.sleep(60)"


@pytest.fixture
def elsewhere(lock: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A run in this folder, which looks to us as if it were on another host."""
    other = "import socket; from quantbench.serving import processes; "
    other += "socket.gethostname = lambda: 'web1'; processes.boot = lambda: '0ther'; "
    code = other + ENTER.partition("folder.enter")[0] + HOLDER
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    monkeypatch.setattr(folder, "LOST_S", 1.0)
    monkeypatch.setattr(folder, "LOOK_S", 0.2)
    # Over a network this host would not see that the other holds the kernel's lock.
    monkeypatch.setattr(folder, "_lock", lambda *_, **__: None)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.fault(
    "a run of another host is in the working folder (shared disk)",
    "refused after at most 150 s, as it gives a sign of life; names the host, its process and since when",
)
def test_a_living_run_of_another_host_is_seen_to_live(tmp_path: Path, elsewhere: subprocess.Popen[bytes]) -> None:
    with pytest.raises(QuantbenchError, match="a run on web1 is in this folder since"):
        folder.enter(tmp_path, tmp_path / "results")
    assert elsewhere.poll() is None


@pytest.mark.fault(
    "the host of a run is lost (shared disk), and the run is started on another one",
    "after 150 s without a sign of life the run goes on there, from the blocks that are kept",
)
def test_a_lost_run_of_another_host_is_followed(
    tmp_path: Path, lock: Path, elsewhere: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere.kill()
    elsewhere.wait()
    folder.enter(tmp_path, tmp_path / "results")
    assert f'"pid":{os.getpid()}' in lock.read_text()
    assert "the run on web1 is lost" in capsys.readouterr().err


@pytest.mark.fault(
    "a run that was taken for lost was frozen, and wakes up beside the one that has followed it",
    "it sees that within a quarter of a minute, and ends",
)
def test_a_frozen_run_that_was_followed_ends(
    tmp_path: Path, elsewhere: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere.send_signal(signal.SIGSTOP)
    folder.enter(tmp_path, tmp_path / "results")
    assert "the run on web1 is lost" in capsys.readouterr().err
    elsewhere.send_signal(signal.SIGCONT)
    assert elsewhere.wait(20) == -signal.SIGTERM


def test_results_on_a_disk_that_two_folders_share_are_held_too(tmp_path: Path, lock: Path) -> None:
    disk, here = tmp_path / "disk", tmp_path / "clone"
    (here / ".snakemake").mkdir(parents=True)
    disk.mkdir()
    (here / "results").symlink_to(disk)
    note(disk / ".quantbench.lock", "web1", "0ther")
    with pytest.raises(QuantbenchError, match=r"a run on web1 is in .*clone/results since"):
        folder.enter(here, here / "results")
    (disk / ".quantbench.lock").unlink()
    os.close(folder._held.pop())  # as the end of that process does
    folder.enter(here, here / "results")
    assert f'"pid":{os.getpid()}' in (disk / ".quantbench.lock").read_text()


def test_results_in_the_folder_or_on_a_disk_that_is_not_there_have_no_lock_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "not mounted")
    folder.enter(tmp_path, tmp_path / "results")
    os.close(folder._held.pop())
    folder.enter(tmp_path, tmp_path / "gone")
    assert not list((tmp_path / "results").iterdir())
    assert not (tmp_path / "not mounted").exists()


@pytest.mark.parametrize(
    ("host", "boot"), [("another-container", processes.boot()), (socket.gethostname(), "before the restart")]
)
def test_a_killed_run_of_this_host_is_no_hindrance(tmp_path: Path, lock: Path, host: str, boot: str) -> None:
    note(lock, host, boot)
    folder.enter(tmp_path, tmp_path / "results")
    assert f'"pid":{os.getpid()}' in lock.read_text()


@pytest.mark.parametrize("text", ["1234\n", "[]", "", "\x00", '{"pid": "x"}'])
def test_a_lock_in_other_words_is_none(tmp_path: Path, lock: Path, text: str) -> None:
    lock.write_text(text)
    folder.enter(tmp_path, tmp_path / "results")


def test_whom_a_run_waits_for_is_said_with_its_host(lock: Path) -> None:
    pipe = subprocess.PIPE
    first = subprocess.Popen([sys.executable, "-c", ENTER + "print(flush=True); input()"], stdin=pipe, stdout=pipe)
    assert first.stdout is not None
    first.stdout.readline()
    code = "import os; os.execv = lambda *_: print('again'); " + ENTER
    second = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)
    assert second.stderr is not None
    assert f"the run with process id {first.pid} on {socket.gethostname()}" in second.stderr.readline()
    first.communicate(b"\n")
    assert "again" in second.communicate()[0]


@pytest.mark.fault("the disk of the working folder has no locks", "named, with two ways round")
def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(QuantbenchError, match="cannot be locked: No locks available") as caught:
        folder.enter(tmp_path, tmp_path / "results")
    assert owner.SHARED in caught.value.remedy


@pytest.mark.parametrize("what", ["link", "folder"])
def test_a_lock_that_is_no_file_is_named(tmp_path: Path, lock: Path, what: str) -> None:
    lock.symlink_to(tmp_path / "elsewhere") if what == "link" else lock.mkdir()
    with pytest.raises(QuantbenchError, match=r"quantbench\.lock cannot be written"):
        folder.enter(tmp_path, tmp_path / "results")
    assert not (tmp_path / "elsewhere").exists()
