"""Modes of what is written: results as open as the umask allows, what may hold an environment for its user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from quantbench import files
from quantbench.records.base import write
from quantbench.records.serving import Ended
from quantbench.serving import folder, lane, owner, registry
from servers import fake_spec, own_home, running


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_results_are_as_open_as_the_umask_allows(tmp_path: Path, umask: int) -> None:
    base = tmp_path / "a" / "b"
    files.write_text(base / "text", "x")
    files.write_bytes(base / "bytes", b"x")
    files.write_json(base / "json", {})
    write(base / "record", Ended(why="x"))
    (base / "home").mkdir()
    registry.add_event(base / "home", "start")
    folder.need_writable(base)
    for path in (base / "text", base / "bytes", base / "json", base / "record", base / "home/events.jsonl"):
        assert mode(path) == 0o666 & ~umask, path
    for path in (base, base.parent, base / "home"):
        assert mode(path) == 0o777 & ~umask, path
    files.write_script(base / "script", "#!/bin/sh\n")
    files.write_script(base / "script", "#!/bin/sh\necho again\n")
    assert mode(base / "script") == 0o777 & ~umask
    assert os.access(base / "script", os.X_OK)


def test_a_script_may_hold_a_path_that_is_no_utf8(tmp_path: Path) -> None:
    files.write_script(tmp_path / "s", "cd " + os.fsdecode(b"/caf\xe9") + "\n")
    assert (tmp_path / "s").read_bytes() == b"cd /caf\xe9\n"


@pytest.mark.fault(
    "umask 022, 002 or 077",
    "results and serve.sh are as open as it allows; logs and state of servers are for their user alone",
)
def test_a_servers_log_and_state_are_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    with own_home(tmp_path, monkeypatch, "results/servers") as home, lane.lease(fake_spec(home)):
        state = registry.folder(running("alpha").key)
        assert {mode(state), mode(owner.state_dir())} == {0o700}
        assert mode(home / "results/servers/alpha/server.log") == 0o600
        assert mode(home / "results/servers/alpha/events.jsonl") == 0o666 & ~umask
        assert mode(home / "results/servers/alpha") == 0o777 & ~umask
