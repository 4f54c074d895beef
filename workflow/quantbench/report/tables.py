"""Server records → the memory and start-up tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from quantbench.report.facts import Json
from quantbench.wording import is_number

READY_MEMORY = (
    "weights_gib",
    "checkpoint_gib",
    "kv_cache_gib",
    "kv_cache_tokens",
    "max_concurrency",
    "activation_peak_gib",
    "cuda_graphs_gib",
    "non_torch_gib",
)

STARTUP = ("weights_s", "compile_s", "warmup_s", "graphs_s", "engine_init_s", "total_s")


def memory_rows(
    labels: Mapping[str, str], baseline: str, ready: Mapping[str, Json], sessions: Mapping[str, Json]
) -> list[Json]:
    """One row per model of `labels` (ordered): MiB, GiB, and reductions against the baseline in percent.

    A figure that was not found is None, and `missing` says why ("activation_peak_gib: not found: …").
    """
    base = ready.get(baseline, {})
    return [
        _memory_row(model, label, ready.get(model, {}), base, sessions.get(model, {}))
        for model, label in labels.items()
    ]


def _memory_row(model: str, label: str, record: Json, base: Json, session: Json) -> Json:
    memory, vram = record.get("memory") or {}, record.get("vram") or {}
    quantization = record.get("quantization") or {}
    base_memory, base_vram = base.get("memory") or {}, base.get("vram") or {}
    row: Json = {
        "model": model,
        "label": label,
        "quantization": quantization.get("label"),
        "kernel": quantization.get("kernel"),
        "bits_per_weight": quantization.get("bits_per_weight"),
        "vram_source": vram.get("source"),
        "vram_before_mib": vram.get("before_mib"),
        "vram_after_mib": vram.get("after_mib"),
        "vram_delta_mib": vram.get("delta_mib"),
        "vram_total_mib": vram.get("total_mib"),
        "vram_delta_reduction_pct": _reduction(vram.get("delta_mib"), base_vram.get("delta_mib")),
    }
    for name in READY_MEMORY:
        row[name] = memory.get(name)
        if name in ("weights_gib", "checkpoint_gib"):
            row[name.replace("_gib", "_reduction_pct")] = _reduction(memory.get(name), base_memory.get(name))
    row["kv_cache_tokens_ratio"] = _quotient(memory.get("kv_cache_tokens"), base_memory.get("kv_cache_tokens"))
    row["after_stop_mib"] = session.get("memory_after_stop_mib")
    row["memory_returned"] = session.get("memory_returned")
    row["sources"] = _sources(row)
    row["missing"] = "; ".join(f"{name}: {reason}" for name, reason in _missing(record, row).items())
    return row


def _sources(row: Json) -> str:
    sensor = {"nvml": "NVML, whole device", "rss": "resident set of the server's processes"}
    snapshot = sensor.get(str(row["vram_source"]), row["vram_source"])
    told = [f"vram_*: {snapshot}"] if snapshot else []
    if row["checkpoint_gib"] is not None:
        told.append("checkpoint_gib: size of the weight files")
    if any(row[name] is not None for name in READY_MEMORY if name != "checkpoint_gib"):
        told.append("other memory figures: the server's log and metrics")
    return "; ".join(told)


def _missing(record: Json, row: Json) -> dict[str, str]:
    if not record:
        return {"all": "no ready.json for this model"}
    told = (record.get("memory") or {}).get("missing") or {}
    blank = [name for name in (*READY_MEMORY, "vram_delta_mib") if row[name] is None]
    return {name: str(told.get(name, "not reported")) for name in blank}


def startup_rows(labels: Mapping[str, str], ready: Mapping[str, Json], starts: Mapping[str, Json]) -> list[Json]:
    """Seconds per start-up phase: a row for each model's start in the run, and one per state of the compile cache that
    was measured on purpose (`starts`: {model: startup.json}), with medians over its rounds.
    """
    rows = []
    for model, label in labels.items():
        own = (ready.get(model) or {}).get("startup") or {}
        rows.append(_startup_row(model, label, "run", own.get("compile_cache"), [own] if own else []))
        measured = (starts.get(model) or {}).get("starts") or []
        for state in dict.fromkeys(str(start["compile_cache"]) for start in measured):
            group = [start for start in measured if str(start["compile_cache"]) == state]
            rows.append(_startup_row(model, label, "startup_rounds", group[0]["compile_cache"], group))
    return rows


def _startup_row(model: str, label: str, source: str, cache: str | None, starts: Sequence[Json]) -> Json:
    row: Json = {"model": model, "label": label, "source": source, "compile_cache": cache, "starts": len(starts)}
    for name in STARTUP:
        values = [float(start[name]) for start in starts if is_number(start.get(name))]
        row[name] = median(values) if values else None
        if name == "total_s":
            row |= {"total_min_s": min(values, default=None), "total_max_s": max(values, default=None)}
    return row


def _reduction(value: Any, base: Any) -> float | None:
    quotient = _quotient(value, base)
    return None if quotient is None else round((1 - quotient) * 100, 3)


def _quotient(value: Any, base: Any) -> float | None:
    return value / base if is_number(value) and is_number(base) and base > 0 else None
