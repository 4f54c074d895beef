"""Models that do not fit: decided from headers and NVML at plan time, kept for the jobs, undone by the config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import runs
import yaml
from fake_nvml import FakeGpu, FakeNvml
from hypothesis import given
from hypothesis import strategies as st
from quantbench import fitting
from quantbench.config import report_plan, summary
from quantbench.config.configuration import Plan, make_plan
from quantbench.config.schema import deep_merge
from quantbench.errors import QuantbenchError
from quantbench.observe import gpu
from quantbench.records.base import convert, write
from quantbench.records.layout import Results
from quantbench.records.plan import ReportPlan
from source import ROOT

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
GIB = 2**30
PAIR = {"gpu0": {"devices": ["0"]}, "pair": {"devices": ["0", "1"]}}


def checkpoint(folder: Path, gib: float, dtype: str = "BF16") -> None:
    """A model folder whose header tells of so many GiB in 16 bits; the file is as long as its header only."""
    shape = [int(gib * GIB / 2 / 1024), 1024]
    header = json.dumps({"w.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}}).encode()
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """Two cards of 24 GiB; BF16 weights of 29.5 GiB, variants of half and a quarter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([FakeGpu(uuid=f"GPU-{n}", total_mib=24 * 1024) for n in range(2)]))
    for name, gib in (("bf16", 29.5), ("fp8", 14.75), ("awq", 7.4)):
        checkpoint(tmp_path / name, gib)
    return Results("card", tmp_path)


def plan(**changes: Any) -> Plan:
    config: dict[str, Any] = {
        "gpu": "card",
        "lanes": PAIR,
        "models": {
            "bf16": {"source": "./bf16"},
            "fp8": {"source": "./fp8", "quantization": "fp8", "differs_in": ["weights", "kv_cache"]},
            "awq": {"source": "./awq", "quantization": "awq"},
        },
        "workloads": {"chat": {"prompts": "p.jsonl", "concurrency": [1], "max_tokens": [128]}},
    }
    return make_plan(deep_merge(config, changes), SCHEMA)


def fitted(home: Results, *, look: bool = True, **changes: Any) -> Plan:
    return fitting.fitted(plan(**changes), home, look=look)


@pytest.mark.fault("The unquantized baseline does not fit into the memory of the card",
                   "said with its arithmetic when the plan is made; the variants are compared with the first of them, "
                   "and every page says so")  # fmt: skip
def test_a_baseline_that_does_not_fit_is_an_outcome_and_the_first_variant_stands_in(home: Results) -> None:
    made = fitted(home)
    assert (made.baseline, made.variants, list(made.unfit)) == ("fp8", ["awq"], ["bf16"])
    assert made.arms == ["fp8", "awq", "fp8__aa"]
    assert fitting.notes(made) == [
        "models.bf16 does not fit (29.5 GiB of weights, a GPU of 24.0 GiB) and is left out",
        "the others are compared with fp8, in place of bf16",
    ]
    assert summary.line(made).startswith("awq against fp8 in chat")
    report = convert(report_plan.report(made), ReportPlan)
    assert (report.declared_baseline, report.unfit["bf16"].weights_gib, report.labels["bf16"]) == ("bf16", 29.5, "bf16")
    assert report.arm("fp8").differs_in == ("weights", "kv_cache"), "what stands in still differs from the declared one"


def test_the_jobs_of_a_run_and_other_machines_take_what_was_kept(
    home: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fitted(home)
    assert fitted(home, look=False).unfit == {}, "a dry run keeps nothing"
    fitting.keep(made, home)
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([]))
    assert fitted(home, look=False).unfit == fitted(home).unfit == made.unfit
    assert fitted(home, models={"bf16": {"source": "./awq"}}).unfit == {}, "it was said of another model"
    assert fitted(home, models={"bf16": {"lane": "pair"}}).unfit == {}, "it was said of one GPU"


def test_what_fits_by_now_is_measured(home: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting.keep(fitted(home), home)
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([FakeGpu(total_mib=80 * 1024)]))
    larger = fitted(home)
    assert larger.unfit == {}
    fitting.keep(larger, home)
    assert fitted(home, look=False).unfit == {}
    assert not Results("new", home.below).file("unfit").exists()
    fitting.keep(larger, Results("new", home.below))
    assert not Results("new", home.below).file("unfit").exists(), "nothing is written where all fits"


@pytest.mark.parametrize("changes", [
    {"fits": True},
    {"lane": "pair"},
    {"endpoint": "http://127.0.0.1:9", "source": None},
    {"quantize_flag": "fp8"},
    {"server": {"args": ["--cpu-offload-gb", "12"]}},
    {"source": "not/here"},
])  # fmt: skip
def test_what_may_fit_is_tried(home: Results, changes: Mapping[str, Any]) -> None:
    assert fitted(home, models={"bf16": dict(changes)}).unfit == {}


def test_two_cards_of_which_one_is_used_hold_what_one_holds(home: Results) -> None:
    one = {"lane": "pair", "server": {"args": ["--tensor-parallel-size", "1"]}}
    assert fitted(home, models={"bf16": one}).unfit["bf16"].gpus == 1


def test_no_gpu_no_judgement_and_a_model_that_was_served_fits(home: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(home, server={"platform": "cpu", "kv_cache_gib": 1}).unfit == {}
    write(home.file("ready", model="bf16"), runs.ready("bf16"))
    assert fitted(home).unfit == {}
    monkeypatch.setattr(gpu, "pynvml", FakeNvml([]))
    assert fitted(Results("new", home.below)).unfit == {}


def test_a_model_is_left_out_where_the_configuration_says_so(home: Results) -> None:
    said = fitted(home, models={"awq": {"fits": False}, "bf16": {"fits": True}})
    assert (said.baseline, said.variants) == ("bf16", ["fp8"])
    assert fitting.notes(said) == ["models.awq does not fit (7.40 GiB of weights, a GPU of 24.0 GiB) and is left out"]
    far = fitted(home, models={"bf16": {"fits": False, "source": "not/here"}})
    assert (far.baseline, fitting.arithmetic(far.unfit["bf16"])) == ("fp8", "as its configuration says")


def test_where_nothing_fits_the_sums_are_in_the_error(home: Results) -> None:
    with pytest.raises(QuantbenchError, match=r"no selected model fits .*models.bf16: 29.5 GiB of weights, a GPU of"):
        fitted(home, select=["bf16"])


@given(st.sampled_from(["BF16", "F16", "F32", "F8_E4M3", "I32", "U8", "I8", "F64"]), st.integers(1, 4096))
def test_weights_lie_in_memory_as_they_are_stored_but_for_floats_that_are_cast(dtype: str, n: int) -> None:
    bits = {"BF16": 16, "F16": 16, "F32": 16, "F64": 16, "I32": 32}.get(dtype, 8)
    assert fitting.weights_gib({"a": (dtype, (n, 8)), "b": (dtype, ())}) == pytest.approx((n * 8 + 1) * bits / 8 / GIB)
    assert fitting.weights_gib({"a": ("F32", (n,))}, full=True) == pytest.approx(4 * n / GIB)
    assert fitting.weights_gib({}) is fitting.weights_gib(None) is None
