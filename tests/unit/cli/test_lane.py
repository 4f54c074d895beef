"""`quantbench lane`: what is served on this machine, and an end to it."""

from __future__ import annotations

from quantbench.cli.main import main
from quantbench.serving import lane
from servers import fake_spec, own_home


def test_lane_lists_servers_and_sweeps_them(tmp_path, monkeypatch, capsys):
    with own_home(tmp_path, monkeypatch) as home:
        assert main(["lane", "list"]) == 0
        assert capsys.readouterr().out == ""
        spec = fake_spec(home)
        with lane.lease(spec) as lease:
            pass
        assert main(["lane", "list"]) == 0
        key, url, state, *_ = capsys.readouterr().out.split()
        assert (key, url, state) == (lease.state.key, lease.url, "awake")
        assert main(["lane", "sweep"]) == 0
        assert capsys.readouterr().out == "stopped: alpha\n"
        assert main(["lane", "sweep"]) == 0
        assert capsys.readouterr().out == "stopped: nothing\n"
