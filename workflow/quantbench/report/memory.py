"""The section "Model & VRAM Baseline": what was picked, how vLLM sees it, what it takes, how it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from quantbench.records.plan import Factor
from quantbench.records.run import Run
from quantbench.records.server import Startup
from quantbench.records.tables import MemoryRow, StartupRow
from quantbench.report.document import Part, Section, Table, bullets, table, text, without_empty_columns
from quantbench.report.marks import code
from quantbench.report.say import Speech
from quantbench.wording import BLANK, capitalized, integer, number, reduction

FIGURES: Final[dict[str, tuple[str, Callable[[object], str]]]] = {
    # column of memory.csv: row title, how it is shown
    "vram_before_mib": ("{sensor} before start (MiB)", integer),
    "vram_after_mib": ("{sensor} after start (MiB)", integer),
    "vram_delta_mib": ("{sensor} difference (MiB)", integer),
    "weights_gib": ("weights (GiB)", number),
    "checkpoint_gib": ("checkpoint files (GiB)", number),
    "kv_cache_gib": ("KV cache (GiB)", number),
    "kv_cache_tokens": ("KV cache (tokens)", integer),
    "max_concurrency": ("requests of full length that fit", number),
    "concurrency_at_length": ("requests of {length} tokens that fit", integer),
    "activation_peak_gib": ("activation peak (GiB)", number),
    "cuda_graphs_gib": ("CUDA graphs (GiB)", number),
    "non_torch_gib": ("outside torch (GiB)", number),
    "after_stop_mib": ("{sensor} after stop (MiB)", integer),
}
OF_DEVICE: Final = ("vram_before_mib", "vram_delta_mib", "after_stop_mib")
"""Figures of the device; of a server's processes they say nothing, which take nothing before the start and after it."""
OF_EACH: Final = ("weights_gib", "kv_cache_gib", "activation_peak_gib", "cuda_graphs_gib", "non_torch_gib")
"""What the log says of one GPU; of a model on several, each has so much."""
PHASES: Final = {
    "weights_s": "reading weights",
    "compile_s": "compiling",
    "warmup_s": "warm-up",
    "graphs_s": "CUDA graph capture",
    "engine_init_s": "engine start (profile, KV cache, warm-up)",
    "total_s": "total, until it answers",
}
MOST_OF_START: Final = 0.5
"""Share of the start below which the phases that the log times do not explain it, so that they get no table."""
ALIKE: Final = 0.05
"""Share by which NVML's used memory may differ between models for which vLLM fills the same share of the card."""
FEW_SAVED: Final = 10.0
"""Percentage points by which the weights may shrink less than the bits of the label promise."""
PLAIN_BITS: Final = 16
DECLARED_AS: Final[dict[str, Factor]] = {
    "kv_cache_dtype": "kv_cache",
    "speculative": "speculative",
    "max_model_len": "max_model_len",
}
"""Setting of a server → what declares that it differs, so that it surprises nobody."""
LABEL_BITS: Final = {"W4": 4, "W8": 8}


def section(run: Run, say: Speech) -> Section:
    """A paragraph per variant, tables of memory and of start-up, and what surprised."""
    answered = [model for model in run.models if model in run.ready and run.ready[model].test_completion.text]
    everyone = len(answered) == len(run.models)
    answer = say("memory.answered_by_all") if everyone else say("memory.answered", models=answered) if answered else ""
    odd = list(surprises(run, say))
    parts = (
        *bullets([_about(run, say, variant) for variant in run.variants]),
        text(_snapshot(run, say), answer),
        memory_table(run, say),
        *_startup(run, say),
        *([text(say("memory.surprises" if odd else "memory.no_surprises"))] if run.variants else []),
        *bullets(odd),
    )
    return Section("Model & VRAM Baseline", parts)


def sensor(run: Run) -> str:
    """What the memory snapshots read."""
    return "RSS" if run.on_cpu else "NVML"


def _about(run: Run, say: Speech, variant: str) -> str:
    """What a variant is, how vLLM sees it, and what it saves."""
    record = run.ready.get(variant)
    if record is None:
        return say("memory.no_record", variant=variant)
    seen = record.quantization
    how = ", ".join(filter(None, [seen.method and code(seen.method), seen.label]))
    picked = say("memory.picked", form="seen" if how else "unseen", variant=variant, source=record.source, how=how,
                 kernel=seen.kernel, bits=seen.bits_per_weight, bits_of=seen.bits_source)  # fmt: skip
    changes = list(_changes(run.memory_of(variant), say))
    # Where vLLM computes with another scheme than the checkpoint is named for, pages have both.
    runs_as = [words for words in seen.evidence if f"what runs is {seen.label}:" in words]
    saved = [say("memory.changes", baseline=run.baseline, changes=changes)] if changes else []
    return " ".join([picked, *runs_as, *saved])


def _changes(row: MemoryRow, say: Speech) -> Iterator[str]:
    if row.weights_reduction_pct is not None:
        yield say("memory.change", form="weights", by=row.weights_reduction_pct)
    elif row.checkpoint_reduction_pct is not None:
        yield say("memory.change", form="files", by=row.checkpoint_reduction_pct)
    if row.vram_delta_reduction_pct is not None:
        yield say("memory.change", form=row.vram_source or "nvml", by=row.vram_delta_reduction_pct)
    if row.kv_cache_tokens_ratio is not None:
        same = abs(row.kv_cache_tokens_ratio - 1) < 0.0005
        yield say("memory.change", form="same_kv" if same else "kv", by=row.kv_cache_tokens_ratio)


def _snapshot(run: Run, say: Speech) -> str:
    """Why the snapshots hardly differ, or that they do."""
    if sensor(run) == "RSS":
        return say("memory.snapshot", form="rss")
    if not run.variants:
        return ""
    deltas = [row.vram_delta_mib for row in run.memory if row.vram_delta_mib is not None]
    if not deltas or len(deltas) < len(run.memory):
        return say("memory.snapshot", form="unknown")
    alike = min(deltas) >= (1 - ALIKE) * max(deltas)
    return say("memory.snapshot", form="alike" if alike else "unlike", low=min(deltas), high=max(deltas))


def memory_table(run: Run, say: Speech) -> Table:
    """A row per figure, a column per model; below, why some have a blank, and on a GPU what no model has."""
    rows: list[list[str]] = []
    left_out: dict[str, None] = {}
    blanks: dict[str, list[str]] = {}
    for column, (title, show) in FIGURES.items():
        name, values = title.partition(" (")[0], {row.model: getattr(row, column) for row in run.memory}
        if sensor(run) == "RSS" and column in OF_DEVICE:
            continue
        if all(value is None for value in values.values()):
            if column != "concurrency_at_length":  # reckoned, and not the server's to report
                left_out[name.format(sensor=sensor(run))] = None
            continue
        each = ", each GPU" if column in OF_EACH and any(row.gpus > 1 for row in run.memory) else ""
        shown = ("" if value is None else show(value) for value in values.values())
        rows.append([capitalized(f"{title.format(sensor=sensor(run), length=integer(_length(run)))}{each}"), *shown])
        for model in (model for model, value in values.items() if value is None):
            why = run.ready[model].memory.missing.get(column) if model in run.ready else None
            what = name.format(sensor=sensor(run), length=integer(_length(run)))
            blanks.setdefault(why or say("memory.not_reported"), []).append(f"{what} of {say.label(model)}")
    reasons = [say("memory.blank_because", figures=names, reason=why) for why, names in blanks.items()]
    notes = [say("memory.blank", figures=reasons) if reasons else ""]
    notes += [say("memory.left_out", figures=list(left_out))] if left_out and sensor(run) != "RSS" else []
    return table(["Memory", *(say.label(row.model) for row in run.memory)], rows, notes=notes)


def _length(run: Run) -> int | None:
    """Tokens of the longest request, prompt and answer."""
    return next((row.length_tokens for row in run.memory if row.length_tokens), None)


def _startup(run: Run, say: Speech) -> tuple[Part, ...]:
    """How long the starts took; their phases, of starts measured on purpose, or where the log explains them."""
    starts = {model: run.startup_of(model) for model in run.models}
    rounds = [row for row in run.startup if row.source == "startup_rounds"]
    explained = max((_covered(start) for start in starts.values()), default=0)
    note = text(_startup_note(run, say))
    if rounds:
        totals = {(row.model, row.compile_cache): row.total_s for row in rounds}
        savings = [
            say("startup.warm_model", model=model, warm=warm, cold=cold, by=(1 - warm / cold) * 100)
            for model in run.models
            if (warm := totals.get((model, "warm"))) and (cold := totals.get((model, "cold")))
        ]
        warm_cache = say("startup.warm", savings=savings) if savings else say("startup.no_cache")
        return note, startup_table(say, rounds, say("startup.rounds")), text(warm_cache)
    rows = [row for row in run.startup if row.source == "run"] if explained >= MOST_OF_START else []
    return (note, startup_table(say, rows)) if rows else (note,)


def startup_table(say: Speech, rows: Iterable[StartupRow], note: str = "") -> Table:
    """Seconds per phase, a row per model and state of the compile cache."""
    body = [
        [say.label(row.model), row.compile_cache or "", str(row.starts), *(number(getattr(row, c)) for c in PHASES)]
        for row in rows
    ]
    head = ["Start-up (s)", "compile cache", "starts", *PHASES.values()]
    return without_empty_columns(table(head, body, notes=[note]))


def _startup_note(run: Run, say: Speech) -> str:
    """Every start's time against the baseline's, and the state of the compile cache."""
    starts = {model: run.startup_of(model) for model in run.models}
    base, caches = starts[run.baseline].total_s, {start.compile_cache for start in starts.values()}
    if base is None or any(start.total_s is None for start in starts.values()):
        return say("startup.unknown")
    times = []
    for model, start in starts.items():
        by = reduction((1 - (start.total_s or 0) / base) * 100) if base and model != run.baseline else ""
        cache = f"cache {start.compile_cache}" if len(caches) > 1 and start.compile_cache else ""
        times.append(say("startup.time", model=model, total=start.total_s, how=", ".join(filter(None, [by, cache]))))
    return say("startup.note", times=times, cache=caches.pop() if len(caches) == 1 else None)


def _covered(start: Startup) -> float:
    """Share of a start that the known phases cover; those of the engine lie within its start."""
    within = [start.compile_s, start.warmup_s, start.graphs_s]
    engine = within if start.engine_init_s is None else [start.engine_init_s]
    return sum(value or 0 for value in (start.weights_s, *engine)) / (start.total_s or math.inf)


def surprises(run: Run, say: Speech) -> Iterator[str]:
    """What the figures say that one would not expect: small savings, other shares of the card, other settings."""
    rows = [run.memory_of(variant) for variant in run.variants]
    few = [
        say("memory.few_saved", model=row.model, by=by, promised=promised) for row in rows for by, promised in _few(row)
    ]
    if few:
        yield say("memory.too_few_saved", few=few)
    for row in rows:
        by = row.vram_delta_reduction_pct
        if row.vram_source == "nvml" and by is not None and abs(by) >= 100 * ALIKE:
            yield say("memory.other_share", variant=row.model, by=abs(by) / 100)
        yield from _other_settings(run, say, row.model)


def _few(row: MemoryRow) -> Iterator[tuple[float, float]]:
    """(saved, promised) in percent where weights shrink less than the bits of the label promise."""
    bits, actual = LABEL_BITS.get((row.quantization or "")[:2].upper()), row.weights_reduction_pct
    if bits is not None and actual is not None:
        promised = 100 * (1 - bits / PLAIN_BITS)
        if promised - actual > FEW_SAVED:
            yield actual, promised


def _other_settings(run: Run, say: Speech, variant: str) -> Iterator[str]:
    """Settings of the server that differ from the baseline's."""
    if variant not in run.ready or run.baseline not in run.ready:
        return
    own, base = run.ready[variant].settings, run.ready[run.baseline].settings
    declared = {*run.plan.arm(run.baseline).differs_in, *run.plan.arm(variant).differs_in}
    for key in own.__struct_fields__:
        if key in ("missing", "inherited_env") or DECLARED_AS.get(key) in declared:
            continue
        if getattr(own, key) != getattr(base, key):
            values = {"own": _shown(getattr(own, key)), "base": _shown(getattr(base, key))}
            yield say("memory.other_setting", variant=variant, key=key, **values)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return BLANK if value in (None, "") else code(str(value))
