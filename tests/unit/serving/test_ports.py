"""Free ports: none is given twice, whatever sees whose claims, and a server can listen on its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_ports
from quantbench.errors import QuantbenchError
from quantbench.records.base import write
from quantbench.records.serving import PortClaim
from quantbench.serving import owner, ports, processes
from servers import fake_spec, own_home


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv(owner.PORTS, raising=False)
    monkeypatch.setattr(ports, "FIRST", free_ports(1)[0])
    with own_home(tmp_path, monkeypatch) as folder:
        yield folder


def chosen(model: str = "alpha", port: int = 0) -> contextlib.AbstractContextManager[int]:
    @contextlib.contextmanager
    def only_the_port() -> Iterator[int]:
        with ports.held(fake_spec(None, model, port=port)) as spec:
            yield spec.port

    return only_the_port()


def listening(port: int) -> socket.socket:
    """As vLLM and asyncio do it."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_a_model_keeps_its_port_and_models_have_their_own() -> None:
    with chosen("alpha") as alpha, chosen("beta") as beta:
        assert alpha != beta
    with chosen("beta") as again, listening(again):
        assert again == beta
    assert {path.stem for path in (owner.state_dir() / "ports").glob("*.json")} == {str(alpha), str(beta)}
    ports.release()
    assert not list((owner.state_dir() / "ports").glob("*.json"))


def test_a_port_that_the_configuration_names_is_left_to_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with chosen("alpha") as first:
        pass
    ports.release()
    monkeypatch.setenv(owner.PORTS, f"1,{first}")
    with chosen("alpha") as port:
        assert port != first
    with chosen("beta", first) as named:
        assert named == first


@pytest.mark.fault(
    "two runs that do not see each other's claims (two users, jobs with a TMPDIR of their own) choose ports at once",
    "the kernel keeps each port for the server that it was chosen for",
)
def test_the_kernel_keeps_a_port_until_its_server_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with chosen() as mine:
        monkeypatch.setenv(owner.STATE, str(tmp_path / "of another user"))
        with chosen() as theirs:
            assert theirs != mine
            with listening(mine), listening(theirs):
                pass


def test_a_claim_of_a_living_run_counts_and_that_of_a_dead_one_does_not() -> None:
    with chosen() as first:
        pass
    ports.release()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claim = PortClaim(owner=processes.token(other.pid), model="alpha", folder="/elsewhere", since=0)
    write(owner.state_dir() / f"ports/{first}.json", claim)
    with chosen() as port:
        assert port != first
    ports.release()
    other.communicate()
    with chosen() as port:
        assert port == first


@pytest.mark.fault(
    "a free port that a run has chosen is taken by another program while the server is down",
    "another free one is chosen",
)
def test_a_chosen_port_that_was_lost_is_replaced() -> None:
    with chosen() as first:
        pass
    with listening(first), chosen() as second:
        assert second != first
    with chosen() as third:
        assert third == second


def test_ports_of_connections_are_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    range_file = tmp_path / "range"
    monkeypatch.setattr(ports, "_HANDED_OUT", range_file)
    assert ports._end() == 65536
    range_file.write_text(f"{ports.FIRST + 1000}\t60999\n")
    assert ports._end() == ports.FIRST + 1000
    range_file.write_text("1024\t65000\n")  # all of them: then one of these must do
    assert ports._end() == 65536


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_end", lambda: ports.FIRST)
    with pytest.raises(QuantbenchError, match="server of alpha: no port of"), chosen():
        pass


def test_two_processes_at_once_never_get_the_same_port(tmp_path: Path) -> None:
    code = (
        "import sys; from quantbench.serving import ports; from quantbench.records.server import ServerSpec\n"
        f"ports.FIRST = {ports.FIRST}\n"
        "with ports.held(ServerSpec(model='m', source='x')) as spec: print(spec.port, flush=True); input()"
    )
    env = {**os.environ, "PYTHONPATH": str(owner.LIBRARY)}
    pipe = subprocess.PIPE
    runs = [subprocess.Popen([sys.executable, "-c", code], env=env, stdin=pipe, stdout=pipe, text=True) for _ in "123"]
    got = [run.stdout.readline() for run in runs if run.stdout]
    for run in runs:
        run.communicate("\n")
    assert len(set(got)) == 3
