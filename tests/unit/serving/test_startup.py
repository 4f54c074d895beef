"""Start-up measured on purpose, on servers that keep a compile cache as vLLM does."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantbench.errors import QuantbenchError
from quantbench.judge.memory import startup_rows
from quantbench.records import base as records
from quantbench.records.server import MeasuredStarts
from quantbench.serving import lane, registry, startup
from servers import changed, fake_spec, gpu_spec, own_home


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    with own_home(tmp_path, monkeypatch, "results/servers") as folder:
        yield folder


def table(starts):
    """The start-up table of these starts, read back from their file."""
    records.write("startup.json", starts)
    return startup_rows({"alpha": "A"}, {}, {"alpha": records.read("startup.json", MeasuredStarts)})


def test_each_round_starts_cold_and_then_warm_alone_on_the_devices(home):
    alpha, beta = gpu_spec(home, "alpha", enforce_eager=False), gpu_spec(home, "beta", enforce_eager=False)
    with lane.lease(beta):
        pass
    starts = startup.measure(alpha, 2)
    assert [(s.round, s.wanted, s.compile_cache) for s in starts.starts] == [
        (1, "cold", "cold"), (1, "warm", "warm"), (2, "cold", "cold"), (2, "warm", "warm"),
    ]  # fmt: skip
    assert registry.servers() == []  # beta is gone too: it would have shared the card
    assert not list(Path("results").rglob("startup_cache"))
    _, cold, warm = table(starts)
    assert [(row.source, row.compile_cache, row.starts) for row in (cold, warm)] == [
        ("startup_rounds", "cold", 2), ("startup_rounds", "warm", 2),
    ]  # fmt: skip
    assert (cold.compile_s, warm.compile_s) == (0.3, 0.02)
    assert cold.total_min_s <= cold.total_s <= cold.total_max_s


def test_an_eager_server_compiles_nothing(home):
    starts = startup.measure(fake_spec(home), 1)
    assert [s.compile_cache for s in starts.starts] == ["off", "off"]
    assert len(table(starts)) == 2


def test_another_cache_than_wanted_is_an_error(home):
    spec = gpu_spec(home, "alpha", enforce_eager=False)
    elsewhere = ["env", f"VLLM_CACHE_ROOT={home / 'kept'}", *spec.settings.command]
    with pytest.raises(QuantbenchError, match="its compile cache was warm in a start that was to find it cold"):
        startup.measure(changed(spec, command=elsewhere), 2)
    assert registry.servers() == []
