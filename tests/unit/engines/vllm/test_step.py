"""step: what a served model reads per step, from its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from quantbench.engines.vllm.step import step
from quantbench.records.server import ServerSettings, ServerSpec
from source import ROOT

DEMO = ROOT / "data/demo-model"


def spec(**settings: object) -> ServerSpec:
    return ServerSpec(model="m", source=str(DEMO), settings=ServerSettings(**settings))  # type: ignore[arg-type]


def test_the_demo_model_is_counted_from_its_headers() -> None:
    found = step(spec(), DEMO, "BF16")
    assert found
    assert found.shared_bytes == pytest.approx((DEMO / "model.safetensors").stat().st_size, rel=0.02), (
        "tied: all is read"
    )
    assert found.max_num_seqs == ServerSettings().max_num_seqs
    assert set(found.multiplied) == {"bf16"}
    assert step(spec(load_format="dummy"), DEMO, None) == found, "its config tells the same"
    wider = step(spec(args=("--kv-cache-dtype", "fp8")), DEMO, None)
    assert wider
    assert wider.kv_full == found.kv_full / 2


def test_what_cannot_be_counted_is_not_known(tmp_path: Path) -> None:
    assert step(spec(), None, None) is None
    assert step(spec(), tmp_path, None) is None
    assert step(spec(), DEMO / "config.json", None) is None
    assert step(spec(dtype="float32"), DEMO, None) is None
