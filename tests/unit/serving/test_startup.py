"""Start-up measured on purpose, on servers that keep a compile cache as vLLM does."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantbench.errors import QuantbenchError
from quantbench.report.tables import startup_rows
from quantbench.serving import lane, registry, startup
from servers import fake_spec, gpu_spec, own_home


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    with own_home(tmp_path, monkeypatch, "results/servers") as folder:
        yield folder


def test_each_round_starts_cold_and_then_warm_alone_on_the_devices(home):
    alpha, beta = gpu_spec(home, "alpha", enforce_eager=False), gpu_spec(home, "beta", enforce_eager=False)
    with lane.lease(beta):
        pass
    starts = startup.measure(alpha, 2)
    assert [(s["round"], s["wanted"], s["compile_cache"]) for s in starts] == [
        (1, "cold", "cold"), (1, "warm", "warm"), (2, "cold", "cold"), (2, "warm", "warm"),
    ]  # fmt: skip
    assert registry.servers() == []  # beta is gone too: it would have shared the card
    assert not list(Path("results").rglob("startup_cache"))
    ready = {"alpha": {"startup": {"total_s": 9.0, "compile_cache": "cold"}}}
    rows = startup_rows({"alpha": "A"}, ready, {"alpha": {"starts": starts}})
    assert [(r["source"], r["compile_cache"], r["starts"]) for r in rows] == [
        ("run", "cold", 1), ("startup_rounds", "cold", 2), ("startup_rounds", "warm", 2),
    ]  # fmt: skip
    assert (rows[1]["compile_s"], rows[2]["compile_s"]) == (0.3, 0.02)
    assert rows[1]["total_min_s"] <= rows[1]["total_s"] <= rows[1]["total_max_s"]


def test_an_eager_server_compiles_nothing(home):
    starts = startup.measure(fake_spec(home), 1)
    assert [s["compile_cache"] for s in starts] == ["off", "off"]
    assert len(startup_rows({"alpha": "A"}, {}, {"alpha": {"starts": starts}})) == 2


def test_another_cache_than_wanted_is_an_error(home):
    spec = gpu_spec(home, "alpha", enforce_eager=False)
    elsewhere = ["env", f"VLLM_CACHE_ROOT={home / 'kept'}", *spec["settings"]["command"]]
    with pytest.raises(QuantbenchError, match="its compile cache was warm in a start that was to find it cold"):
        startup.measure({**spec, "settings": {**spec["settings"], "command": elsewhere}}, 2)
    assert registry.servers() == []
