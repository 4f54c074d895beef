"""What is served: the content of ready.json, gathered from the log, /metrics, the files and a test completion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from quantbench.engines import openai_api
from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import UNQUANTIZED, Spec, spec_hash, url_of
from quantbench.errors import QuantbenchError
from quantbench.serving import identity, memory, model_source, preflight, processes, registry

Json = dict[str, Any]

_SETTINGS = (
    "max_model_len", "dtype", "kv_cache_dtype", "enforce_eager", "prefix_caching", "attention_backend", "cuda_graphs",
    "speculative", "sampling_defaults_overridden", "jit_monitor",
)  # fmt: skip


def gather(state: registry.State) -> Json:
    """Everything about a server of ours that has just become ready (ready.json).

    Raises QuantbenchError if it does not answer, or is not quantized the way its config says.
    """
    spec, url = state["spec"], state["url"]
    engine, log = engine_of(spec), registry.log_text(state)
    start = engine.start_facts(log)
    page = engine.snapshot(engine.metrics_page(url))
    folder = model_source.find_source(spec)
    quantization = engine.check_quantization(spec, log, display(state["log"]), folder, _baseline_weights(spec))
    try:
        test = openai_api.complete(url, spec["served_name"])
    except openai_api.ClientError as error:
        raise QuantbenchError(
            f"server of {spec['model']} is healthy but completes nothing: {error}",
            remedy="read the log",
            log=display(state["log"]),
        ) from error
    facts = _frame(spec, url) | {
        "mode": state["mode"],
        "started_at": state["started_at"],
        "log": display(state["log"]),
        "quantization": quantization,
        "memory": _memory(spec, start.memory, page),
        "vram": _vram(state),
        "startup": start.startup,
        "settings": _settings(start.settings) | {"inherited_env": engine.inherited(spec, state["mode"])},
    }
    facts["startup"]["total_s"] = state["start_s"]
    facts["startup"]["missing"].pop("total_s", None)
    return facts | _identity(test, url, spec)


def of_endpoint(spec: Spec) -> Json:
    """The same of a server that is not ours: without log and memory, and so without proof of its quantization."""
    engine, url = engine_of(spec), url_of(spec)
    page = engine.snapshot(engine.metrics_page(url))
    reason = "not known: the server is not ours, so its log is not at hand"
    claimed = spec["claimed"]["quantization"]
    empty = engine.start_facts("")
    startup, sizes = ({key: None for key in section if key != "missing"} for section in (empty.startup, empty.memory))
    sizes |= {key: page[key] for key in ("kv_cache_tokens", "max_concurrency")}
    try:
        test = openai_api.complete(url, spec["served_name"])
    except openai_api.ClientError as error:
        raise QuantbenchError(
            f"models.{spec['model']}.endpoint: {error}", remedy=preflight.endpoint_remedy(error)
        ) from error
    facts = _frame(spec, url) | {
        "mode": "endpoint",
        "started_at": None,
        "log": None,
        "quantization": {
            "claimed": claimed, "method": None, "label": claimed, "kernel": None, "bits_per_weight": None,
            "verified": None, "evidence": [f"The config says {claimed}; no log, no proof."],
        },
        "memory": sizes | {"checkpoint_gib": None, "missing": {k: reason for k, v in sizes.items() if v is None}},
        "vram": None,
        "startup": startup | {"missing": dict.fromkeys(startup, reason)},
        "settings": dict.fromkeys(_SETTINGS) | {"missing": dict.fromkeys(_SETTINGS, reason)},
    }  # fmt: skip
    facts["versions"] = dict.fromkeys(facts["versions"]) | {engine.NAME: engine.version(url)}
    return facts | _identity(test, url, spec)


def _frame(spec: Spec, url: str) -> Json:
    return {
        "model": spec["model"],
        "spec_hash": spec_hash(spec),
        "source": spec["source"],
        "source_id": identity.source_id(spec),
        "served_name": spec["served_name"],
        "url": url,
        "hardware": None if spec["endpoint"] else identity.hardware(spec["devices"]),
        "lane": spec["lane"],
        "devices": list(spec["devices"]),
        "versions": _versions(spec, url),
    }


def _identity(test: Json, url: str, spec: Spec) -> Json:
    fingerprint = test.pop("system_fingerprint")
    return {
        "test_completion": test,
        "logits": engine_of(spec).logits(url, spec["served_name"]),
        "tokenizer": engine_of(spec).tokenizer(url, spec["served_name"]),
        "system_fingerprint": fingerprint,
    }


def _versions(spec: Spec, url: str) -> Json:
    engine = engine_of(spec)
    installed = engine.installed(spec) if not spec["endpoint"] else {}
    card = memory.snapshot(spec["devices"])
    return {
        engine.NAME: engine.version(url) or installed.get(engine.NAME),
        "torch": installed.get("torch"),
        "driver": card["driver"] if card else None,
        "python": installed.get("python"),
    }


def _baseline_weights(spec: Spec) -> float | None:
    """Weight memory of an unquantized server beside this one, if there is one."""
    for state in registry.servers(spec["devices"]):
        other = state.get("ready") or {}
        if other and str(state["spec"]["claimed"]["quantization"]) in UNQUANTIZED:
            weights = other["memory"].get("weights_gib")
            return float(weights) if weights else None
    return None


def _memory(spec: Spec, logged: Json, page: Json) -> Json:
    """What the log says of memory, completed from the metrics page and by the size of the weight files."""
    for key in ("kv_cache_tokens", "max_concurrency"):
        if logged.get(key) is None and page.get(key) is not None:
            logged[key] = page[key]
            logged["missing"].pop(key, None)
    size = model_source.checkpoint_mib(spec)
    return {**logged, "checkpoint_gib": round(size / 1024, 4) if size else None}


def _settings(logged: Json) -> Json:
    missing = {key: why for key, why in logged["missing"].items() if key in _SETTINGS}
    return {key: logged.get(key) for key in _SETTINGS} | {"missing": missing}


def _vram(state: registry.State) -> Json:
    """Memory before the start and now: NVML's device total, or the resident memory of the server's processes."""
    spec, before = state["spec"], state["before_mib"]
    card = memory.snapshot(spec["devices"])
    if card and before is not None:
        after, total, source = float(card["used_mib"]), float(card["total_mib"]), "nvml"
    else:
        before, after, source = 0.0, processes.rss_mib(registry.members(state)), "rss"
        total = round(psutil.virtual_memory().total / 2**20, 1)
    delta = round(after - before, 1)
    return {"source": source, "before_mib": before, "after_mib": after, "delta_mib": delta, "total_mib": total}


def display(path: Path | str) -> str:
    """A path as shown to the user: relative to the working folder where it lies in it."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else str(path)
