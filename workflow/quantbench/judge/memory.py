"""Server records → the rows of memory.csv and startup.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from quantbench.records.base import Number
from quantbench.records.server import MeasuredStarts, Memory, Ready, Session, Startup
from quantbench.records.tables import MemoryRow, StartupRow

READY_MEMORY = (
    *("weights_gib", "checkpoint_gib", "kv_cache_gib", "kv_cache_tokens", "max_concurrency"),
    *("activation_peak_gib", "cuda_graphs_gib", "non_torch_gib"),
)
PHASES = tuple(name for name in Startup.__struct_fields__ if name.endswith("_s"))
SENSORS = {"nvml": "NVML, whole device", "rss": "resident set of the server's processes"}


def memory_rows(
    labels: Mapping[str, str],
    baseline: str,
    ready: Mapping[str, Ready],
    sessions: Mapping[str, Session],
    *,
    gpus: Mapping[str, int] | None = None,
    length: int | None = None,
) -> list[MemoryRow]:
    """One row per model of `labels` (ordered): MiB, GiB, and reductions against the baseline in percent.

    A figure that was not found is None, and `missing` says why ("activation_peak_gib: not found: …"). gpus: how many
    serve each model, 1 where not given; what the log says is of each. length: tokens of the longest request.
    """
    base, counts = ready.get(baseline), gpus or {}
    return [
        _memory_row(
            model, label, ready.get(model), base, sessions.get(model),
            gpus=counts.get(model, 1), base_gpus=counts.get(baseline, 1), length=length,
        )
        for model, label in labels.items()
    ]  # fmt: skip


def _memory_row(
    model: str,
    label: str,
    own: Ready | None,
    base: Ready | None,
    session: Session | None,
    *,
    gpus: int,
    base_gpus: int,
    length: int | None,
) -> MemoryRow:
    if own is None:
        return MemoryRow(model=model, label=label, missing="all: no ready.json for this model")
    memory, vram = own.memory, own.vram
    base_memory, base_vram = base.memory if base else Memory(), base.vram if base else None
    own_delta, base_delta = (v.delta_mib if v else None for v in (vram, base_vram))
    figures = {name: getattr(memory, name) for name in READY_MEMORY}
    blank = [name for name, value in figures.items() if value is None] + ([] if vram else ["vram_delta_mib"])
    return MemoryRow(
        model=model,
        label=label,
        quantization=own.quantization.label,
        kernel=own.quantization.kernel,
        bits_per_weight=own.quantization.bits_per_weight,
        **{f"vram_{name}": value for name, value in (vram.as_dict() if vram else {}).items()},
        vram_delta_reduction_pct=_reduction(own_delta, base_delta),
        **figures,
        weights_reduction_pct=_reduction(_times(memory.weights_gib, gpus), _times(base_memory.weights_gib, base_gpus)),
        checkpoint_reduction_pct=_reduction(memory.checkpoint_gib, base_memory.checkpoint_gib),
        kv_cache_tokens_ratio=_quotient(memory.kv_cache_tokens, base_memory.kv_cache_tokens),
        length_tokens=length,
        concurrency_at_length=None if (fits := requests_at(memory, length)) is None else int(fits),
        gpus=gpus,
        after_stop_mib=session.memory_after_stop_mib if session else None,
        memory_returned=session.memory_returned if session else None,
        sources=_sources(own),
        missing="; ".join(f"{name}: {memory.missing.get(name, 'not reported')}" for name in blank),
    )


def requests_at(memory: Memory, length: int | None) -> float | None:
    """Requests of `length` tokens that the KV cache holds at once; None where its size or the length is not known."""
    return memory.kv_cache_tokens / length if memory.kv_cache_tokens and length else None


def _sources(own: Ready) -> str:
    known = {name for name in READY_MEMORY if getattr(own.memory, name) is not None}
    sources = [f"vram_*: {SENSORS[own.vram.source]}"] if own.vram else []
    if "checkpoint_gib" in known:
        sources.append("checkpoint_gib: size of the weight files")
    if known - {"checkpoint_gib"}:
        sources.append("other memory figures: the server's log and metrics")
    return "; ".join(sources)


def startup_rows(
    labels: Mapping[str, str], ready: Mapping[str, Ready], starts: Mapping[str, MeasuredStarts]
) -> list[StartupRow]:
    """Seconds per start-up phase: a row for each model's start in the run, and one per state of the compile cache that
    was measured on purpose, with medians over its rounds.
    """
    rows = []
    for model, label in labels.items():
        own = [ready[model].startup] if model in ready else []
        rows.append(_startup_row(model, label, own))
        measured = starts[model].starts if model in starts else ()
        for state in dict.fromkeys(start.compile_cache for start in measured):
            rows.append(_startup_row(model, label, [s for s in measured if s.compile_cache == state], rounds=True))
    return rows


def _startup_row(model: str, label: str, starts: Sequence[Startup], *, rounds: bool = False) -> StartupRow:
    times = {name: [t for start in starts if (t := getattr(start, name)) is not None] for name in PHASES}
    return StartupRow(
        model=model,
        label=label,
        source="startup_rounds" if rounds else "run",
        compile_cache=starts[0].compile_cache if starts else None,
        starts=len(starts),
        **{name: median(values) if values else None for name, values in times.items()},
        total_min_s=min(times["total_s"], default=None),
        total_max_s=max(times["total_s"], default=None),
    )


def _reduction(value: Number | None, base: Number | None) -> float | None:
    quotient = _quotient(value, base)
    return None if quotient is None else round((1 - quotient) * 100, 3)


def _times(value: Number | None, count: int) -> Number | None:
    return None if value is None else value * count


def _quotient(value: Number | None, base: Number | None) -> float | None:
    return value / base if value is not None and base else None
