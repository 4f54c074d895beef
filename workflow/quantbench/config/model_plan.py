"""What the rules of models and servers take from the plan: how a model is made here, and what its server is for."""

from __future__ import annotations

from typing import Any

from quantbench.config import package_source
from quantbench.config.configuration import Plan
from quantbench.records.suite import PROMPTS, AnswersSettings, LikelihoodSettings

Json = dict[str, Any]

_DEMO = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
DEMO_FILES = [f"data/demo-model/{name}" for name in _DEMO]
GROWER = "workflow/demo/grow.py"
UNPACKER = "workflow/quantizers/unpack_gguf.py"


def from_demo(plan: Plan) -> list[str]:
    """Models that are the shipped demo model, grown."""
    return [name for name, model in plan.config["models"].items() if model["source"] == "demo"]


def unpacked_here(plan: Plan) -> list[str]:
    """Models of which a GGUF file is unpacked here."""
    return [name for name in plan.config["models"] if plan.unpacked_here(name)]


def unpacked(plan: Plan, name: str) -> Json:
    """What such a model is made of: its source as configured, and the hash that its package must have, if known."""
    model = plan.config["models"][name]
    package = package_source.parse(model["source"])
    known = package.known if package else None
    return {"source": model["source"], "sha256": model["sha256"] or (known.sha256 if known else None)}


def gguf_file(plan: Plan, name: str) -> list[str]:
    """The GGUF file of such a model: one path, or none where it is in a package."""
    source = str(plan.config["models"][name]["source"])
    return [] if source.startswith(package_source.PREFIX) else [source]


def quantized_here(plan: Plan) -> list[str]:
    """Models that are quantized here."""
    return [name for name, model in plan.config["models"].items() if model["quantize"]]


def grow(plan: Plan, name: str) -> int | None:
    """Intermediate size of the demo model; None leaves it as it is."""
    size: int | None = plan.config["models"][name]["grow"]
    return size


def recipe(plan: Plan, name: str) -> Json:
    """How a model is quantized here; without calibration where there is none, so that its keys remake nothing."""
    return {
        key: value
        for key, value in plan.config["models"][name]["quantize"].items()
        if key != "calibration" or _calibrates(plan, name)
    }


def made(plan: Plan, name: str) -> Json | None:
    """How a model is made here, down to the demo model, a package, or what was found here; None for one that is not."""
    if not plan.made_here(name):
        return None
    if plan.unpacked_here(name):
        return {"source": unpacked(plan, name)["source"]}
    if not plan.config["models"][name]["quantize"]:
        return {"source": "demo", "grow": grow(plan, name)}
    return {"source": base_source(plan, name), **recipe(plan, name), "base": made(plan, base(plan, name))}


def made_of(plan: Plan, name: str) -> list[str]:
    """Files that a model made here is made of, beside a base that is not made here, and a GGUF file."""
    if plan.unpacked_here(name):
        return [UNPACKER]
    if not plan.config["models"][name]["quantize"]:
        return [*DEMO_FILES, GROWER]
    return [*base_record(plan, name), *calibration(plan, name), quantizer(plan, name)]


def record(plan: Plan, name: str) -> str:
    """The record of a model that is made here: the marker that its folder is complete."""
    return f"{plan.source(name)}/provenance.json"


def base(plan: Plan, name: str) -> str:
    """Name of the model that it is quantized from."""
    return str(plan.config["models"][name]["quantize"]["from"])


def base_record(plan: Plan, name: str) -> list[str]:
    """The record of the model that it is quantized from, if that is made here."""
    return [record(plan, base(plan, name))] if plan.made_here(base(plan, name)) else []


def base_source(plan: Plan, name: str) -> str:
    """Folder or hub id of the model that it is quantized from."""
    return plan.source(base(plan, name))


def calibration(plan: Plan, name: str) -> list[str]:
    """The calibration text of gptq and awq: one path or none."""
    return [recipe(plan, name)["calibration"]["file"]] if _calibrates(plan, name) else []


def quantizer(plan: Plan, name: str) -> str:
    """The program that quantizes."""
    return f"workflow/quantizers/{'llmcompressor_oneshot' if _calibrates(plan, name) else 'rtn'}.py"


def quantizer_python(plan: Plan, name: str) -> str:
    """The interpreter that the program needs."""
    return str(plan.config["llmcompressor_python" if _calibrates(plan, name) else "vllm_python"])


def floor(plan: Plan, name: str, suite: str = PROMPTS) -> list[int]:
    """Concurrencies at which a model is asked a suite's prompts again: the baseline only."""
    settings = plan.suites.get(suite)
    if name != plan.baseline or settings is None or isinstance(settings, LikelihoodSettings):
        return []
    if not isinstance(settings, AnswersSettings):
        return [plan.config["quality"]["floor_concurrency"]]
    return [*([settings.concurrency] if settings.floor_repeat else []), settings.floor_concurrency]


def startups(plan: Plan) -> list[str]:
    """Models whose start-up is measured in rounds of its own."""
    return [name for name, model in plan.models.items() if plan.config["startup_rounds"] and not model["endpoint"]]


def _calibrates(plan: Plan, name: str) -> bool:
    return bool(plan.config["models"][name]["quantize"]["method"] != "rtn")
