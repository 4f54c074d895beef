"""State that others have planted, that is broken, or that another machine has written: nothing of ours ends for it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_damage import damaged_json
from msgspec.structs import replace
from quantbench.cli.main import main
from quantbench.errors import QuantbenchError
from quantbench.records.base import write
from quantbench.records.serving import Claim, Ended, Fallback, Launch, ServerProcesses, State
from quantbench.serving import claims, lane, owner, processes, registry, server, supervisor, trust
from servers import PATIENCE_S, fake_spec, own_home

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")


def permitted(*command: str) -> bool:
    """Can this be run here?"""
    return bool(shutil.which(command[0])) and not subprocess.run([*command, "true"], check=False).returncode


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_home(tmp_path, monkeypatch, "results/servers") as folder:
        yield folder


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the state folder is going to be."""
    monkeypatch.setenv(owner.STATE, str(tmp_path / "state"))
    monkeypatch.delenv(owner.OWNER, raising=False)
    return tmp_path / "state"


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user, with a session of its own, that has nothing to do with any server."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A folder of this user that has nothing to do with any server."""
    (tmp_path / "treasure").mkdir()
    (tmp_path / "treasure/letter").write_text("dear")
    return tmp_path / "treasure"


MARK = "0" * 32


def dead_token() -> str:
    """Names no process: the first one of this machine started at another time."""
    return f"{processes.machine()}:1:0"


def plant(folder: Path, leader: int, scratch: Path, **changes: Any) -> State:
    """The state of a dead run's server, in this state folder, as one who wants a process and a folder to go has it."""
    spec = fake_spec(None, source="m")
    home = folder.parent / "results/servers" / spec.model
    known = State(
        key=registry.key_of(spec, MARK), spec=spec, devices=("cpu",), mode="resident", host="here", owner=dead_token(),
        mark=MARK,
        home=str(home), log=str(home / "server.log"), log_start=0, scratch=str(scratch), started_at="", started_unix=0,
        before_mib=None,
    )  # fmt: skip
    known = replace(known, **changes)
    place = folder / processes.machine() / "servers" / registry.key_of(spec, MARK)
    write(place / "state.json", known)
    launch = Launch(
        argv=("true",), env={}, unset=(), owner=known.owner, mark=known.mark, log=known.log, home=known.home,
        devices=("cpu",), scratch=known.scratch, idle_s=1, grace_s=1,
    )  # fmt: skip
    write(place / "launch.json", launch)
    token = processes.token(leader)
    write(place / "process.json", ServerProcesses(server=token, supervisor=token))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    return known


def give_away(folder: Path, mode: int = 0o777) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
        path.chmod(mode)


# Whose the folder is -----------------------------------------------------------------------------------------------


@as_root
@pytest.mark.fault(
    "another user has made the state folder and put a server's state there that names your process and your folder",
    "refused, with owner, mode and remedy; nothing is ended or removed",
)
def test_a_state_folder_of_another_user_is_refused_whatever_it_names(
    state: Path, victim: subprocess.Popen[bytes], treasure: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(state, victim.pid, treasure)
    give_away(state)
    for use in (owner.state_dir, owner.check_environment, registry.servers, lambda: claims.claim(["cpu"])):
        with pytest.raises(QuantbenchError) as caught:
            use()
        assert f"{state} is not used: it belongs to" in caught.value.what
        assert f"uid {NOBODY}), mode 777" in caught.value.what
        assert owner.STATE in caught.value.remedy
    assert lane.sweep() == []
    assert main(["lane", "list"]) == 2
    assert "is not used: it belongs to" in capsys.readouterr().err
    assert victim.poll() is None
    assert (treasure / "letter").exists()


@as_root
@pytest.mark.parametrize("part", ["", "servers", "servers/{key}", "servers/{key}/state.json"])
def test_a_part_of_the_state_folder_that_another_user_owns_is_not_read(
    state: Path, victim: subprocess.Popen[bytes], treasure: Path, part: str
) -> None:
    known = plant(state, victim.pid, treasure)
    path = state / processes.machine() / part.format(key=known.key)
    os.chown(path, NOBODY, NOBODY)
    assert lane.sweep() == []
    assert victim.poll() is None
    assert (treasure / "letter").exists()
    assert path.exists() == (not part.endswith(".json")), "what is a broken state only is cleaned away"


@pytest.mark.fault("the state folder is a link", "refused, with the remedy; what it leads to is not read")
@pytest.mark.fault("others may write to the state folder", "refused, with its mode and chmod 700 as the remedy")
@pytest.mark.parametrize("how", ["link", "dangling", "group", "world", "file"])
def test_a_state_folder_that_is_not_this_users_alone_is_refused(state: Path, how: str) -> None:
    if how in ("link", "dangling"):
        state.symlink_to(state.parent / "elsewhere")
        if how == "link":
            (state.parent / "elsewhere").mkdir(mode=0o700)
    elif how == "file":
        state.touch()
    else:
        state.mkdir()
        state.chmod(0o770 if how == "group" else 0o707)
    with pytest.raises(QuantbenchError, match="state folder") as caught:
        owner.state_dir()
    assert str(state) in caught.value.what
    assert owner.STATE in caught.value.remedy
    assert not (state.parent / "elsewhere" / processes.machine()).exists()


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o500])
def test_a_folder_of_ones_own_that_others_may_only_read_is_used(state: Path, mode: int) -> None:
    state.mkdir()
    state.chmod(mode)
    (state / processes.machine()).mkdir(mode=0o700) if os.getuid() else None
    assert owner.state_dir().parent == state


@pytest.mark.parametrize("umask", [0, 0o002, 0o022, 0o077])
def test_what_is_made_is_for_this_user_alone_and_is_read_again_under_any_umask(
    state: Path, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        claims.claim(["cpu"])
        with claims.hold(["cpu"]):
            pass
        known = plant(tmp_path / "state", 1, tmp_path)
        registry.save(known)
    finally:
        os.umask(before)
    assert not [
        path for path in [state, *state.rglob("*")] if path.is_dir() and stat.S_IMODE(path.stat().st_mode) & 0o77
    ]
    assert claims.claimed_by("cpu")
    assert registry.servers() == [known]
    claims.release()


def test_a_relative_state_folder_is_the_same_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(owner.STATE, "mine")
    assert owner.state_root() == tmp_path / "mine"


@pytest.mark.skipif(
    os.getuid() != 0 or not permitted("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    reason="needs root and setpriv",
)
@pytest.mark.parametrize("planted", [True, False])
def test_an_ordinary_user_is_not_taken_in_either(tmp_path: Path, planted: bool) -> None:
    place = Path(tempfile.mkdtemp(prefix="shared-"))
    place.chmod(0o1777)
    library = place / "library"
    shutil.copytree(owner.LIBRARY / "quantbench", library / "quantbench", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from quantbench.serving import owner, registry; print(owner.state_dir(), registry.servers())"
    if planted:
        (place / f"quantbench-{NOBODY}").mkdir(mode=0o777)
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(place), "PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    try:
        if subprocess.run([*user, sys.executable, "-c", "import msgspec"], env=env, check=False).returncode:
            pytest.skip("another user may not run this Python")
        ran = subprocess.run([*user, sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(place)
    assert (ran.returncode != 0) == planted, ran.stderr
    assert ("is not used: it belongs to root (uid 0)" in ran.stderr) == planted


# What it names -----------------------------------------------------------------------------------------------------


def in_temp(name: str) -> Path:
    return Path(tempfile.gettempdir()) / name


@pytest.mark.fault(
    "a state of ours names a process that is no server, and a folder that is no server's",
    "neither is touched: a process is ended by the server's mark or log, a folder by its name, place and owner",
)
@pytest.mark.parametrize("named", ["a folder", "a link in temp", "another name in temp", "the state folder", "above"])
def test_a_state_that_names_what_is_no_servers_ends_and_removes_nothing(
    state: Path, victim: subprocess.Popen[bytes], treasure: Path, named: str
) -> None:
    link, other = in_temp("quantbench-tmp-zzzzzzz1"), in_temp("quantbench-mine")
    scratch = {
        "a folder": treasure,
        "a link in temp": link,
        "another name in temp": other,
        "the state folder": state,
        "above": Path(f"{tempfile.gettempdir()}/quantbench-tmp-zzzzzzz2/../../{treasure}"),
    }[named]
    link.symlink_to(treasure)
    other.mkdir(exist_ok=True)
    try:
        known = plant(state, victim.pid, scratch)
        assert registry.servers() == [known]
        assert registry.members(known) == []
        assert lane.sweep() == ["alpha"]
        assert registry.servers() == []
        assert victim.poll() is None
        assert (treasure / "letter").exists()
        assert other.exists()
        assert state.exists()
        assert link.is_symlink()
    finally:
        link.unlink()
        other.rmdir()


def test_a_scratch_folder_of_ours_is_removed_and_a_planted_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Path(trust.make_scratch())
    (mine / "socket").touch()
    assert trust.remove_scratch(str(mine))
    assert not mine.exists()
    if os.getuid() == 0:
        theirs = Path(trust.make_scratch())
        os.chown(theirs, NOBODY, NOBODY)
        assert not trust.remove_scratch(str(theirs))
        theirs.rmdir()


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "../../treasure"},
        {"key": "alpha"},
        {"spec": {"endpoint": "http://example.org"}},
        {"home": "results/servers/alpha"},
        {"home": "/etc"},
        {"log": "/etc/passwd"},
        {"mark": ""},
        {"owner": 7},
        {"owner": "here"},
        {"log_start": -1},
        {"started_unix": "now"},
    ],
)
def test_a_state_that_does_not_fit_together_is_broken_and_cleaned_away(
    state: Path,
    victim: subprocess.Popen[bytes],
    treasure: Path,
    changes: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = plant(state, victim.pid, treasure)
    path = registry.folder(known.key) / "state.json"
    values = json.loads(path.read_text())
    values["spec"] |= changes.get("spec", {})
    path.write_text(json.dumps(values | {key: value for key, value in changes.items() if key != "spec"}))
    assert registry.servers() == []
    assert list(registry.broken()) == [known.key]
    assert main(["lane", "list"]) == 0
    assert f"left alone: {path} is damaged" in capsys.readouterr().out
    registry.say.cache_clear()
    assert lane.sweep() == []
    assert f"{path} is damaged" in capsys.readouterr().err
    assert not path.exists()
    assert victim.poll() is None
    assert (treasure / "letter").exists()


def test_a_session_is_the_servers_only_if_it_shows_so(tmp_path: Path, victim: subprocess.Popen[bytes]) -> None:
    leader, log = processes.token(victim.pid), tmp_path / "server.log"
    assert processes.members("f" * 32, leader, str(log)) == []
    assert processes.members("f" * 32, f"{processes.machine()}:0:", str(log)) == []
    with log.open("w") as out:
        nameless = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=out, env={},
                                    start_new_session=True)  # fmt: skip
    try:
        own = processes.token(nameless.pid)
        assert processes.members("f" * 32, own, str(log)) == [nameless.pid]
        log.unlink()
        assert processes.members("f" * 32, own, str(log)) == [nameless.pid], "its name is gone, the file is not"
        assert processes.members("f" * 32, own, str(tmp_path / "other.log")) == []
    finally:
        nameless.communicate(b"\n")


@as_root
def test_a_process_of_another_user_that_carries_the_mark_is_not_ours(tmp_path: Path) -> None:
    mark = "a" * 32
    env = {processes.MARK: mark, processes.SUPERVISES: mark}
    theirs = subprocess.Popen(["sleep", "600"], env=env, user=NOBODY)
    mine = subprocess.Popen(["sleep", "600"], env=env)
    try:
        assert processes.members(mark) == processes.supervisors(mark) == [mine.pid]
    finally:
        for process in (theirs, mine):
            process.kill()
            process.wait()


@pytest.mark.fault(
    "another user has made the folder of PyTorch's compile cache in /tmp",
    "not used: the server keeps its cache in its own temporary folder",
)
@pytest.mark.parametrize("how", ["new", "ours", "group", "world", "link", "theirs"])
def test_a_compile_cache_that_others_may_write_to_is_not_given_to_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    cache = tmp_path / f"torchinductor_{os.getuid()}"
    if how == "link":
        cache.symlink_to(tmp_path)
    elif how != "new":
        cache.mkdir()
        cache.chmod({"group": 0o775, "world": 0o777}.get(how, 0o755))
    if how == "theirs":
        if os.getuid():
            pytest.skip("only root can make folders of another user")
        os.chown(cache, NOBODY, NOBODY)
    code = "import os; print(os.environ.get('TORCHINDUCTOR_CACHE_DIR'))"
    launch = Launch(
        argv=(sys.executable, "-c", code), env={}, unset=(), owner=dead_token(), mark="0" * 32,
        log=str(tmp_path / "server.log"), home=str(tmp_path), devices=(), scratch=str(tmp_path), idle_s=1, grace_s=1,
    )  # fmt: skip
    supervisor.spawn(launch).wait()
    used = (tmp_path / "server.log").read_text().strip()
    assert used == (str(cache) if how in ("new", "ours", "group") else "None")


# Files that are broken ---------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "state.json or launch.json of a server is broken while the server runs",
    "a line names the file; the server is found by its mark, ended and started anew; no run fails for it",
)
@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["state.json"], '{"key": 3}'),
        (["launch.json"], "[]"),
        (["state.json", "launch.json", "process.json"], ""),
    ],
)
def test_a_broken_state_of_a_running_server_is_no_end_of_any_run(
    home: Path, names: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = fake_spec(home)
    with lane.lease(spec) as lease:
        known = lease.state
    assert known is not None
    pids = registry.members(known)
    assert pids
    for name in names:
        (registry.folder(known.key) / name).write_text(text)
    registry.say.cache_clear()
    with lane.lease(spec) as again:
        assert again.action == ("reused" if names == ["launch.json"] else "started")
    if again.action == "started":
        assert "state.json is damaged" in capsys.readouterr().err
        assert not set(pids) & set(registry.members(again.state))  # type: ignore[arg-type]
    lane.sweep()
    assert processes.until(lambda: not processes.members(known.mark), PATIENCE_S)
    assert not Path(known.scratch).exists()
    assert not registry.folder(known.key).exists()


def test_a_broken_state_of_another_run_that_lives_is_left_alone(
    state: Path, victim: subprocess.Popen[bytes], treasure: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = plant(state, victim.pid, treasure, owner=processes.token(victim.pid))
    path = registry.folder(known.key) / "state.json"
    path.write_text("{")
    registry.say.cache_clear()
    lane.sweep()
    assert path.exists()
    assert "left alone" in capsys.readouterr().err


SAMPLES: dict[str, Any] = {
    "state.json": None, "launch.json": None, "process.json": None,
    "ended.json": Ended(why="idle", returncode=0).as_dict(), "shm.json": {"sem.x": 7},
}  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.data(), name=st.sampled_from(sorted(SAMPLES)))
def test_no_file_of_a_dead_server_stops_a_sweep_or_touches_what_is_not_the_servers(
    data: st.DataObject, name: str, state: Path, victim: subprocess.Popen[bytes], treasure: Path
) -> None:
    known = plant(state, victim.pid, treasure)
    path = registry.folder(known.key) / name
    whole = json.loads(path.read_text()) if path.exists() else SAMPLES[name]
    path.write_bytes(data.draw(damaged_json(whole)))
    for found in registry.servers():
        registry.members(found)
        registry.ended(found.key)
        registry.is_up(found)
        registry.log_text(found)
    lane._clear_broken("test")
    for found in registry.servers():
        server.stop(found, "test")
    assert registry.servers() == []
    assert victim.poll() is None
    assert (treasure / "letter").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_a_damaged_claim_or_fallback_is_none(data: st.DataObject, state: Path) -> None:
    token = dead_token() if data.draw(st.booleans()) else f"{processes.machine()}:1:0"
    claim, note = Claim(owner=token, folder="/x", since=1.5), Fallback(owner=token, note="no memory")
    claims.file_of("cpu", "json").write_bytes(data.draw(damaged_json(claim.as_dict())))
    claims.file_of("cpu", "fallback").write_bytes(data.draw(damaged_json(note.as_dict())))
    assert claims.claimed_by("cpu") is None
    claims.claim(["cpu"])
    claims.release()
    assert lane._mode(fake_spec(None))[0] == "resident"


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "another user's"])
def test_a_claim_or_lock_that_is_no_file_of_ours_is_not_read_and_nobody_waits_for_it(state: Path, what: str) -> None:
    for ending in ("json", "lock"):
        path = claims.file_of("cpu", ending)
        if what == "link":
            path.symlink_to(state.parent / f"elsewhere.{ending}")
        elif what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        elif os.getuid() == 0:
            path.touch()
            os.chown(path, NOBODY, NOBODY)
        else:
            pytest.skip("only root can make files of another user")
    assert claims.claimed_by("cpu") is None
    with pytest.raises(QuantbenchError, match=r"cpu\.lock cannot be opened") as caught, claims.hold(["cpu"]):
        raise AssertionError("locked")
    assert "remove it" in caught.value.remedy
    assert not (state.parent / "elsewhere.lock").exists()


# Other machines ----------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "two hosts (or containers) share the state folder",
    "each uses a part of its own: neither stops or removes what the other has; `lane list` names it with its host",
)
def test_machines_that_share_the_state_folder_leave_each_other_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with lane.lease(fake_spec(home)) as lease:
        known = lease.state
    assert known is not None
    pids = registry.members(known)
    with monkeypatch.context() as other_host:
        other_host.setattr(processes, "machine", lambda: "0ther-1")
        other_host.delenv(owner.OWNER, raising=False)
        assert registry.servers() == []
        assert lane.sweep() == []
        assert claims.claimed_by("cpu") is None
        with claims.try_hold(["cpu"]) as free:
            assert free
        assert main(["lane", "list"]) == 0
        said = capsys.readouterr().out
        assert f"left alone: {owner.state_root()}" in said
        assert known.key in said
        assert socket.gethostname() in said
        assert "rm -r" in said
    assert registry.members(known) == pids
    assert Path(known.scratch).exists()
    with lane.lease(fake_spec(home, port=known.spec.port)) as again:
        assert again.action == "reused"


@pytest.mark.skipif(not permitted("unshare", "-p", "-f", "--mount-proc"), reason="needs PID namespaces")
def test_a_container_that_shares_the_state_folder_stops_nothing(home: Path) -> None:
    with lane.lease(fake_spec(home)) as lease:
        known = lease.state
    assert known is not None
    pids = registry.members(known)
    env = {**os.environ, "PYTHONPATH": str(owner.LIBRARY)}
    inside = ["unshare", "-p", "-f", "--mount-proc", sys.executable, "-m", "quantbench", "lane"]
    swept = subprocess.run([*inside, "sweep"], env=env, text=True, capture_output=True, check=True)
    assert swept.stdout == "stopped: nothing\n"
    listed = subprocess.run([*inside, "list"], env=env, text=True, capture_output=True, check=True)
    assert known.key in listed.stdout
    assert "left alone" in listed.stdout
    assert registry.members(known) == pids


@pytest.mark.fault("the host's name changes in mid-run", "nothing: a machine is its boot and its PID namespace")
def test_another_name_of_the_host_makes_no_other_owner(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, place = owner.become_owner(["cpu"]), owner.state_dir()
    claims.claim(["cpu"])
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
    code = "import socket; socket.gethostname = lambda: 'renamed'\nfrom quantbench.serving import claims, owner\n"
    code += "owner.end_with_owner(); print(owner.current(), owner.state_dir(), claims.claimed_by('cpu').owner)"
    said = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert said == [mine, str(place), mine]
    claims.release()
