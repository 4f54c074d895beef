"""With how many requests `iso_memory` measures: of the server, by arithmetic, kept; what a plan says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
import yaml
from quantbench import iso_memory, subjects
from quantbench.config import report_plan, settings, summary
from quantbench.config.configuration import Plan, make_plan
from quantbench.config.schema import deep_merge
from quantbench.engines.vllm.inspection import Gpu
from quantbench.errors import QuantbenchError
from quantbench.records.base import convert, write
from quantbench.records.block import ServedWith
from quantbench.records.cell import Cell
from quantbench.records.layout import Results
from quantbench.records.plan import ReportPlan
from quantbench.records.server import IsoFit, Memory, Unfit
from source import ROOT

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
SHAPE = {"model_type": "x", "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 64, "hidden_size": 256}
BYTES = 2 * 2 * 4 * 64 * 2
"""Of a token in the KV cache of that shape."""
LENGTH = 512


def gib(requests: float) -> float:
    return requests * LENGTH * BYTES / 2**30


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.chdir(tmp_path)
    for name in ("bf16", "int8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(SHAPE))
    return Results("auto", tmp_path)


def plan(**changes: Any) -> Plan:
    dummy = {"load_format": "dummy"}
    config: dict[str, Any] = {
        "server": {"platform": "cpu", "kv_cache_gib": gib(24.3)},
        "models": {
            "bf16": {"source": "./bf16", **dummy},
            "int8": {"source": "./int8", **dummy, "server": {"kv_cache_gib": gib(61.9)}},
        },
        "workloads": {
            "chat": {"prompts": "p.jsonl", "concurrency": [1, 8], "max_tokens": [64, 128], "iso_memory": LENGTH},
            "batch": {"prompts": "p.jsonl", "concurrency": [4], "max_tokens": [64]},
        },
        "quality": {"prompts": None},
    }
    return make_plan(deep_merge(config, changes), SCHEMA)


def planned(home: Results, *, look: bool = True, **changes: Any) -> Plan:
    return iso_memory.planned(plan(**changes), home, ROOT, look=look)


def numbers(made: Plan) -> dict[str, int]:
    return {model: fit.concurrency for model, fit in made.iso_memory.get("chat", {}).items()}


def said(made: Plan, home: Results) -> str:
    return "\n".join(iso_memory.notes(made, home, ROOT))


def served(home: Results, made: Plan, model: str, tokens: float | None) -> None:
    spec = ServedWith(spec=made.measured_spec(model))
    write(home.file("ready", model=model), runs.ready(model, memory=Memory(kv_cache_tokens=tokens), served_with=spec))


def test_off_by_default() -> None:
    assert plan(workloads={"chat": {"iso_memory": None}}).iso_memory == {}


def test_each_model_has_one_cell_more_and_the_grid_stays_the_grid(home: Results) -> None:
    made = planned(home)
    assert numbers(made) == {"bf16": 24, "int8": 61}
    grid = ["chat/c1_t64", "chat/c1_t128", "chat/c8_t64", "chat/c8_t128", "batch/c4_t64"]
    assert [cell.key for cell in made.grid] == grid
    assert [cell.key for cell in made.cells("bf16")] == [*grid, "chat/c24_t128"]
    assert [cell.key for cell in made.cells("int8")] == [*grid, "chat/c61_t128"]
    assert [cell.key for cell in made.cells("bf16__aa")] == ["chat/c8_t64"]
    assert "+ 12 at what fits (iso_memory)" in summary.line(made)
    assert said(made, home) == (
        "workloads.chat.iso_memory: requests of 512 tokens in flight: bf16 24 (24 fit by arithmetic) "
        "and int8 61 (61 fit by arithmetic)"
    )
    report = convert(report_plan.report(made), ReportPlan)
    assert report.grid("chat") == made.grid[:4]
    assert report.iso_memory["chat"].cell("chat", "int8") == Cell.of("chat", 61, 128)


def test_a_cell_that_the_grid_has_is_not_measured_twice(home: Results) -> None:
    made = planned(home, workloads={"chat": {"concurrency": [24]}})
    assert [cell.key for cell in made.cells("bf16")] == ["chat/c24_t64", "chat/c24_t128", "batch/c4_t64"]
    assert made.cells("int8")[-1].key == "chat/c61_t128"


def test_the_number_stays_until_it_is_not_what_fits(home: Results) -> None:
    made = planned(home)
    assert planned(home, look=False).iso_memory == {}, "a dry run keeps nothing"
    iso_memory.keep(made, home)
    assert planned(home, look=False).iso_memory == made.iso_memory, "the jobs of the run take what it kept"
    for model, requests in (("bf16", 25.9), ("int8", 60.1)):
        served(home, made, model, requests * LENGTH)
    assert numbers(planned(home)) == {"bf16": 24, "int8": 61}, "by one or two: no block is thrown away for that"
    served(home, made, "int8", 55.5 * LENGTH)
    again = planned(home)
    assert numbers(again) == {"bf16": 24, "int8": 55}
    assert "int8: 55 in place of 61, which is not what fits" in said(again, home)
    iso_memory.keep(again, home)
    assert planned(home, look=False).iso_memory["chat"]["int8"].source == "server"
    assert numbers(planned(home, workloads={"chat": {"iso_memory": 256}})) == {"bf16": 51, "int8": 64}


def test_a_server_that_is_another_now_says_nothing_of_it(home: Results) -> None:
    served(home, plan(), "bf16", 10 * LENGTH)
    assert numbers(planned(home))["bf16"] == 10
    assert numbers(planned(home, server={"kv_cache_gib": gib(30.5)}))["bf16"] == 30


def test_the_server_must_be_allowed_as_many(home: Results) -> None:
    made = planned(home, server={"max_num_seqs": 32})
    assert numbers(made) == {"bf16": 24, "int8": 32}
    assert "server.max_num_seqs lets fewer run than fit int8 (32 of 61); raise it to measure that" in said(made, home)


def test_where_the_same_number_fits_all_nothing_more_is_measured_and_that_is_said(home: Results) -> None:
    made = planned(home, models={"int8": {"server": {"kv_cache_gib": gib(24.9)}}})
    assert made.cells("bf16") == made.cells("int8") == made.grid
    assert "the same number for all models, so that nothing more is measured" in said(made, home)
    assert not convert(report_plan.report(made), ReportPlan).iso_memory["chat"].measured


def test_one_model_alone_is_measured_at_what_fits_it(home: Results) -> None:
    made = planned(home, select=["bf16"])
    assert made.cells("bf16")[-1].key == "chat/c24_t128"


def test_what_nobody_can_reckon_waits_for_the_servers(home: Results) -> None:
    (home.below / "int8" / "config.json").write_text('{"model_type": "x", "mamba_d_state": 16}')
    made = planned(home)
    assert (made.iso_memory, made.cells("bf16")) == ({}, made.grid)
    assert "how many requests of 512 tokens fit int8 is not known before a start; run the same command" in said(
        made, home
    )
    served(home, made, "int8", 61 * LENGTH)
    assert numbers(planned(home)) == {"bf16": 24, "int8": 61}
    iso_memory.keep(planned(home), home)
    (home.below / "results/auto/servers/int8/ready.json").unlink()
    iso_memory.keep(planned(home), home)
    assert planned(home, look=False).iso_memory == {}, "the jobs plan as the run does"


def test_without_a_baseline_that_does_not_fit_the_others_have_their_numbers(home: Results) -> None:
    whole = plan(models={"int4": {"source": "./int8", "load_format": "dummy", "server": {"kv_cache_gib": gib(90)}}})
    made = iso_memory.planned(replace(whole, unfit={"bf16": Unfit()}), home, ROOT, look=True)
    assert numbers(made) == {"int8": 61, "int4": 64}
    assert made.baseline == "int8"


def test_a_model_that_is_made_here_has_the_cache_of_what_it_is_made_of(home: Results) -> None:
    demo = {"bf16": {"source": "demo", "load_format": "auto"}, "int8": {"source": None, "load_format": "auto",
            "quantize": {"from": "bf16", "scheme": "W8A8"}}}  # fmt: skip
    shape = json.loads((ROOT / "data/demo-model/config.json").read_text())
    heads = shape["num_key_value_heads"] * (
        shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
    )
    each = 2 * shape["num_hidden_layers"] * heads * 2 * LENGTH
    made = planned(home, models=demo, server={"max_num_seqs": 1024})
    assert numbers(made) == {"bf16": int(gib(24.3) * 2**30 / each), "int8": int(gib(61.9) * 2**30 / each)}
    left_over = planned(home, models=demo | {"int8": demo["int8"] | {"server": {"kv_cache_gib": None}}})
    assert left_over.iso_memory == {}, "what its weights will take is not known before it is made"


def test_profiles_are_reckoned_from_published_shapes_and_their_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    asked = {"chat": {"iso_memory": 2048}}
    shipped = settings.load(ROOT, {"gpu": "h100-80gb", "workloads": asked, "server": {"max_num_seqs": 1024}})
    made = iso_memory.planned(shipped, Results("h100-80gb", tmp_path), ROOT, look=True)
    fits = made.iso_memory["chat"]
    assert {fit.source for fit in fits.values()} == {"arithmetic"}
    assert 0 < fits["bf16"].concurrency < fits["fp8"].concurrency < fits["awq"].concurrency
    assert all(fit.concurrency <= 0.95 * (fit.fits + 1) for fit in fits.values()), (
        "arithmetic errs: some less is measured"
    )


def test_a_card_that_nobody_knows_gives_no_number(home: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = {"platform": "cuda", "kv_cache_gib": None}
    unknown: list[Gpu | None] = [None]
    monkeypatch.setattr(subjects, "card", lambda _: unknown[0])
    made = planned(home, server=cuda, models={"int8": {"server": {"kv_cache_gib": None}}})
    assert made.iso_memory == {}


@pytest.mark.fault("`iso_memory` is asked of a server that is not ours",
                   "refused when the plan is made, with the key: what its KV cache holds is not known")  # fmt: skip
def test_a_server_elsewhere_is_refused_with_the_key() -> None:
    with pytest.raises(QuantbenchError, match=r"workloads.chat.iso_memory: .*models.int8.endpoint") as caught:
        plan(models={"int8": {"endpoint": "http://127.0.0.1:9", "source": None}})
    assert "set workloads.chat.iso_memory to null" in caught.value.remedy


@pytest.mark.parametrize(
    ("length", "why"),
    [(128, "leaves no room for a prompt beside max_tokens 128"), (5000, "is more than server.max_model_len 4096")],
)
def test_a_length_that_no_request_can_have_is_refused(length: int, why: str) -> None:
    with pytest.raises(QuantbenchError, match=why):
        plan(workloads={"chat": {"iso_memory": length}})


def test_a_kept_record_of_another_kind_names_its_file(home: Results) -> None:
    home.file("iso_fits").parent.mkdir(parents=True)
    home.file("iso_fits").write_text('{"chat": {"bf16": {"length": "long"}}}')
    with pytest.raises(QuantbenchError, match=r"iso_memory.json"):
        planned(home)
    assert IsoFit.__struct_fields__[0] == "length"
