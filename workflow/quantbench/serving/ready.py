"""What is served: the content of ready.json, gathered from the log, /metrics, the files and a test completion."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint, evidence, hardware, server_metrics, vllm_log
from quantbench.serving import device_memory, endpoint, identity, preflight, processes, registry, vllm_client
from quantbench.serving import vllm_command as command

Json = dict[str, Any]
Spec = Mapping[str, Any]

_SETTINGS = (
    "max_model_len", "dtype", "kv_cache_dtype", "enforce_eager", "prefix_caching", "attention_backend", "cuda_graphs",
    "speculative", "sampling_defaults_overridden", "jit_monitor",
)  # fmt: skip
_UNCLAIMED = ("none", "bf16", "fp16", "")


def gather(state: registry.State) -> Json:
    """Everything about a server of ours that has just become ready (ready.json).

    Raises QuantbenchError if it does not answer, or is not quantized the way its config says.
    """
    spec, url = state["spec"], state["url"]
    log = vllm_log.parse(registry.log_text(state))
    page = server_metrics.snapshot(vllm_client.metrics(url))
    verdict = verify(spec, log, state["log"])
    try:
        test = vllm_client.complete(url, spec["served_name"])
    except vllm_client.ClientError as error:
        raise QuantbenchError(
            f"server of {spec['model']} is healthy but completes nothing: {error}",
            remedy="read the log",
            log=display(state["log"]),
        ) from error
    facts = _frame(spec, url) | {
        "mode": state["mode"],
        "started_at": state["started_at"],
        "log": display(state["log"]),
        "quantization": verdict,
        "memory": _memory(spec, log, page),
        "vram": _vram(state),
        "startup": log.record("startup"),
        "settings": _settings(log) | {"inherited_env": inherited(spec, state["mode"])},
    }
    facts["startup"]["total_s"] = state["start_s"]
    facts["startup"]["missing"].pop("total_s", None)
    return facts | _identity(test, url, spec)


def of_endpoint(spec: Spec) -> Json:
    """The same of a server that is not ours: without log and memory, and so without proof of its quantization."""
    url, log = command.url(spec), vllm_log.parse("")
    page = server_metrics.snapshot(vllm_client.metrics(url))
    reason = "not known: the server is not ours, so its log is not at hand"
    claimed = spec["claimed"]["quantization"]
    unknown = {name: dict.fromkeys(getattr(log, name)) for name in ("startup", "memory")}
    memory = unknown["memory"] | {key: page[key] for key in ("kv_cache_tokens", "max_concurrency")}
    try:
        test = vllm_client.complete(url, spec["served_name"])
    except vllm_client.ClientError as error:
        raise QuantbenchError(f"models.{spec['model']}.endpoint: {error}", remedy=endpoint.remedy_of(error)) from error
    facts = _frame(spec, url) | {
        "mode": "endpoint",
        "started_at": None,
        "log": None,
        "quantization": {
            "claimed": claimed, "method": None, "label": claimed, "kernel": None, "bits_per_weight": None,
            "verified": None, "evidence": [f"The config says {claimed}; no log, no proof."],
        },
        "memory": memory | {"checkpoint_gib": None, "missing": {k: reason for k, v in memory.items() if v is None}},
        "vram": None,
        "startup": unknown["startup"] | {"missing": dict.fromkeys(unknown["startup"], reason)},
        "settings": dict.fromkeys(_SETTINGS) | {"missing": dict.fromkeys(_SETTINGS, reason)},
    }  # fmt: skip
    facts["versions"] = dict.fromkeys(facts["versions"]) | {"vllm": vllm_client.version(url)}
    return facts | _identity(test, url, spec)


def _frame(spec: Spec, url: str) -> Json:
    return {
        "model": spec["model"],
        "spec_hash": command.spec_hash(spec),
        "source": spec["source"],
        "source_id": identity.source_id(spec),
        "served_name": spec["served_name"],
        "url": url,
        "hardware": None if spec["endpoint"] else hardware.identity(spec["devices"]),
        "lane": spec["lane"],
        "devices": list(spec["devices"]),
        "versions": _versions(spec, url),
    }


def _identity(test: Json, url: str, spec: Spec) -> Json:
    fingerprint = test.pop("system_fingerprint")
    return {
        "test_completion": test,
        "logits": vllm_client.logits(url, spec["served_name"]),
        "tokenizer": vllm_client.tokenizer(url, spec["served_name"]),
        "system_fingerprint": fingerprint,
    }


def _versions(spec: Spec, url: str) -> Json:
    installed = preflight.versions(spec) if not spec["endpoint"] else {}
    card = device_memory.snapshot(spec["devices"])
    return {
        "vllm": vllm_client.version(url) or installed.get("vllm"),
        "torch": installed.get("torch"),
        "driver": card["driver"] if card else None,
        "python": installed.get("python"),
    }


def verify(spec: Spec, log: vllm_log.LogFacts, log_path: str) -> Json:
    """The `quantization` entry. Raises QuantbenchError where the model is not what its config says."""
    folder = preflight.find_source(spec)
    config = checkpoint.config(folder) if folder else {}
    settings, claimed = spec["settings"], str(spec["claimed"]["quantization"] or "none").lower()
    dummy = settings.get("load_format") == "dummy"
    claim = evidence.claim_of(config, settings.get("quantization"))
    if mismatch := claim_mismatch(claimed, spec["claimed"].get("bits"), claim):
        raise QuantbenchError(
            f"models.{spec['model']}.quantization: {mismatch} ({spec['source']})",
            remedy="correct `quantization` (or `quantize_flag`) in config, or take the right checkpoint",
        )
    facts = evidence.Facts(
        log=log,
        config=config,
        tensors=None if dummy or not folder else checkpoint.tensors(folder),
        baseline_weights_gib=_baseline_weights(spec),
        host_w4a8=spec["platform"] == "cpu" and _amx(settings.get("env") or {}),
    )
    verdict = evidence.judge(claim, facts)
    if not verdict.verified:
        raise QuantbenchError(
            f"server of {spec['model']} is not what the config says ({claimed}): " + " ".join(verdict.sentences),
            remedy=verdict.remedy,
            log=display(log_path),
        )
    return {
        "claimed": claimed,
        "method": verdict.method,
        "label": verdict.label,
        "kernel": verdict.kernel,
        "bits_per_weight": verdict.bits_per_weight,
        "verified": True,
        "evidence": list(verdict.sentences),
    }


def claim_mismatch(claimed: str, bits: float | None, claim: evidence.Claim | None) -> str | None:
    """Where the config's claim and the checkpoint's own differ, in words; None where they agree."""
    if claim is None:
        if claimed in _UNCLAIMED:
            return None
        return f"the config says {claimed}, but neither the checkpoint's config.json nor an argument quantizes it"
    if claimed in _UNCLAIMED:
        return f"the config says it is not quantized, but it is ({claim.method})"
    same = any(name in claim.method and name in claimed for name in ("awq", "gptq", "fp8", "compressed-tensors"))
    if claim.method != claimed and not same:
        return f"the config says {claimed}, the checkpoint says {claim.method}"
    if bits is not None and claim.weight_bits is not None and int(bits) != claim.weight_bits:
        return f"the config says {bits:g} bits per weight, the checkpoint {claim.weight_bits}"
    return None


def _baseline_weights(spec: Spec) -> float | None:
    """Weight memory of an unquantized server beside this one, if there is one."""
    for state in registry.servers(spec["devices"]):
        other = state.get("ready") or {}
        if other and str(state["spec"]["claimed"]["quantization"]) in _UNCLAIMED:
            weights = other["memory"].get("weights_gib")
            return float(weights) if weights else None
    return None


def _amx(env: Mapping[str, str]) -> bool:
    if (env.get("VLLM_CPU_INT4_W4A8") or os.environ.get("VLLM_CPU_INT4_W4A8", "1")) == "0":
        return False
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def inherited(spec: Spec, mode: str) -> dict[str, str]:
    """Variables of the caller that vLLM reads and the spec does not set: not part of the spec, but of the result."""
    own = command.build(spec, mode)[1]
    return {
        key: value
        for key, value in sorted(os.environ.items())
        if key.startswith(("VLLM_", "OMP_", "MKL_", "KMP_")) and key not in own and key not in command.UNSET
    }


def _memory(spec: Spec, log: vllm_log.LogFacts, page: Json) -> Json:
    memory = log.record("memory")
    for key in ("kv_cache_tokens", "max_concurrency"):
        if memory.get(key) is None and page.get(key) is not None:
            memory[key] = page[key]
            memory["missing"].pop(key, None)
    size = preflight.checkpoint_mib(spec)
    return {**memory, "checkpoint_gib": round(size / 1024, 4) if size else None}


def _settings(log: vllm_log.LogFacts) -> Json:
    record = log.record("settings")
    missing = {key: why for key, why in record["missing"].items() if key in _SETTINGS}
    return {key: record.get(key) for key in _SETTINGS} | {"missing": missing}


def _vram(state: registry.State) -> Json:
    """Memory before the start and now: NVML's device total, or the resident memory of the server's processes."""
    spec, before = state["spec"], state["before_mib"]
    card = device_memory.snapshot(spec["devices"])
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
