"""The section "Model & VRAM Baseline": what was picked, how vLLM sees it, what it takes, how it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from quantbench.records.finding import Finding, finding
from quantbench.records.run import Run
from quantbench.records.server import Startup
from quantbench.records.tables import MemoryRow, StartupRow
from quantbench.report.document import Part, Section, Table, bullets, table, text
from quantbench.report.say import Speech
from quantbench.wording import BLANK, capitalized, integer, number

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
    "activation_peak_gib": ("activation peak (GiB)", number),
    "cuda_graphs_gib": ("CUDA graphs (GiB)", number),
    "non_torch_gib": ("outside torch (GiB)", number),
    "after_stop_mib": ("{sensor} after stop (MiB)", integer),
}
OF_DEVICE: Final = ("vram_before_mib", "vram_delta_mib", "after_stop_mib")
"""Figures of the device; of a server's processes they say nothing, which take nothing before the start and after it."""
PHASES: Final = {
    "weights_s": "reading weights",
    "compile_s": "compiling",
    "warmup_s": "warm-up",
    "graphs_s": "CUDA graph capture",
    "engine_init_s": "engine start (profile, KV cache, warm-up)",
    "total_s": "total, until it answers",
}
MOST_OF_START: Final = 0.5
"""Share of the start below which the phases that the log times do not explain it."""
ALIKE: Final = 0.05
"""Share by which NVML's used memory may differ between models for which vLLM fills the same share of the card."""
UNLIKE_START: Final = 0.25
FEW_SAVED: Final = 10.0
"""Percentage points by which the weights may shrink less than the bits of the label promise."""
PLAIN_BITS: Final = 16
LABEL_BITS: Final = {"W4": 4, "W8": 8}
NOT_REPORTED: Final = "not reported"


def section(run: Run, say: Speech) -> Section:
    """A paragraph per variant, tables of memory and of start-up, and what surprised."""
    answered = [model for model in run.models if model in run.ready and run.ready[model].test_completion.text]
    everyone = finding("memory.answered_by_all") if len(answered) == len(run.models) else None
    answer = everyone or (finding("memory.answered", models=answered) if answered else None)
    surprising = list(surprises(run))
    surprised: tuple[Part, ...] = ()
    if surprising:
        surprised = (text(say("memory.surprises")), *bullets([say(found) for found in surprising]))
    elif run.variants:
        surprised = (text(say("memory.no_surprises")),)
    return Section(
        "Model & VRAM Baseline",
        (
            *(text(say.all(_about(run, variant))) for variant in run.variants),
            text(say.all([_snapshot(run), answer])),
            memory_table(run, say),
            startup_table(run, say),
            text(say.all(_startup_notes(run))),
            *_measured_starts(run, say),
            *surprised,
        ),
    )


def sensor(run: Run) -> str:
    """What the memory snapshots read."""
    return "RSS" if {row.vram_source for row in run.memory} == {"rss"} else "NVML"


def _about(run: Run, variant: str) -> Iterator[Finding]:
    record = run.ready.get(variant)
    if record is None:
        yield finding("memory.no_record", variant=variant)
        return
    seen = record.quantization
    what = {"variant": variant, "source": record.source}
    how = ", ".join(filter(None, [seen.method and f"`{seen.method}`", seen.label]))
    if not how:
        yield finding("memory.picked_unseen", **what)
    elif seen.kernel:
        yield finding("memory.picked", **what, how=how, kernel=seen.kernel)
    else:
        yield finding("memory.picked_without_kernel", **what, how=how)
    if seen.bits_per_weight is not None:
        ids = {"checkpoint": "memory.bits_of_checkpoint", "memory": "memory.bits_of_memory"}
        yield finding(ids.get(seen.bits_source or "", "memory.bits"), bits=seen.bits_per_weight)
    if changes := list(_changes(run.memory_of(variant))):
        yield finding("memory.changes", baseline=run.baseline, changes=changes)


def _changes(row: MemoryRow) -> Iterator[Finding]:
    if row.weights_reduction_pct is not None:
        yield finding("memory.changed_weights", by=row.weights_reduction_pct)
    elif row.checkpoint_reduction_pct is not None:
        yield finding("memory.changed_files", by=row.checkpoint_reduction_pct)
    if row.vram_delta_reduction_pct is not None:
        ids = {"nvml": "memory.changed_nvml", "rss": "memory.changed_rss"}
        yield finding(ids[row.vram_source or "nvml"], by=row.vram_delta_reduction_pct)
    if row.kv_cache_tokens_ratio is not None:
        same = abs(row.kv_cache_tokens_ratio - 1) < 0.0005
        yield finding("memory.same_kv") if same else finding("memory.changed_kv", by=row.kv_cache_tokens_ratio)


def _snapshot(run: Run) -> Finding | None:
    """Why the snapshots hardly differ, or that they do."""
    if sensor(run) == "RSS":
        return finding("memory.rss")
    if not run.variants:
        return None
    deltas = [row.vram_delta_mib for row in run.memory if row.vram_delta_mib is not None]
    if not deltas or len(deltas) < len(run.memory):
        return finding("memory.nvml_unknown")
    spread = {"low": min(deltas), "high": max(deltas)}
    if spread["low"] < (1 - ALIKE) * spread["high"]:
        return finding("memory.nvml_differs", **spread)
    return finding("memory.nvml_alike", **spread)


def memory_table(run: Run, say: Speech) -> Table:
    """A row per figure that any model has, a column per model; blanks are explained below."""
    shown = {column: title for column, title in FIGURES.items() if sensor(run) != "RSS" or column not in OF_DEVICE}
    body: list[Row] = []
    for column, (title, show) in shown.items():
        values = {row.model: getattr(row, column) for row in run.memory}
        reasons = {model: run.ready[model].memory.missing.get(column, "") for model in values if model in run.ready}
        body.append((title.format(sensor=sensor(run)), values, show, reasons))
    return _table(
        say, "Figure", [row.model for row in run.memory], body, caption="Memory", left_out_as="memory.left_out"
    )


def startup_table(run: Run, say: Speech) -> Table:
    """Seconds per phase and model; the state of the compile cache where it is not the same for all."""
    starts = {model: run.startup_of(model) for model in run.models}
    body: list[Row] = []
    for column, title in PHASES.items():
        values = {model: getattr(start, column) for model, start in starts.items()}
        body.append((title, values, number, {model: start.missing.get(column, "") for model, start in starts.items()}))
    if len(set(_caches(run))) > 1:
        body.append(("compile cache", dict(zip(starts, _caches(run), strict=True)), str, {}))
    return _table(say, "Start-up (s)", run.models, body, caption="Start-up", left_out_as="startup.left_out")


Row = tuple[str, Mapping[str, Any], Callable[[Any], str], Mapping[str, str]]
"""Title, {model: value}, how a value is shown, {model: why it is blank}."""


def _table(
    say: Speech, head: str, models: Sequence[str], body: Iterable[Row], *, caption: str, left_out_as: str
) -> Table:
    """A column per model. What no model has is left out; below stands what was, and why the others have a blank."""
    rows: list[list[str]] = []
    left_out: list[str] = []
    blanks: dict[str, list[str]] = {}
    for title, values, show, reasons in body:
        name = title.partition(" (")[0]
        lacking = [model for model in models if values.get(model) is None]
        if len(lacking) == len(models):
            left_out.append(name)
            continue
        rows.append([capitalized(title), *("" if model in lacking else show(values[model]) for model in models)])
        for model in lacking:
            blanks.setdefault(reasons.get(model) or NOT_REPORTED, []).append(f"{name} of {say.label(model)}")
    figures = [finding("memory.blank_because", figures=names, reason=why) for why, names in blanks.items()]
    notes = [say("memory.blank", figures=figures) if figures else ""]
    notes += [say(left_out_as, figures=left_out)] if left_out else []
    return table([head, *map(say.label, models)], rows, caption=caption, notes=notes)


def _caches(run: Run) -> list[str | None]:
    return [run.startup_of(model).compile_cache for model in run.models]


def _startup_notes(run: Run) -> Iterator[Finding]:
    """How the starts differ, and how little of them the log explains."""
    base = run.startup_of(run.baseline).total_s
    starts = [
        finding("startup.start", variant=variant, by=(1 - total / base) * 100)
        for variant in run.variants
        if base and (total := run.startup_of(variant).total_s) is not None
    ]
    caches = set(_caches(run))
    cache = finding("startup.cache", state=caches.pop()) if len(caches) == 1 and None not in caches else ""
    if starts:
        yield finding("startup.note", baseline=run.baseline, starts=starts, cache=cache)
    elif run.variants:
        yield finding("startup.unknown")
    covered = [share for model in run.models if (share := _covered(run.startup_of(model))) is not None]
    if covered and max(covered) < MOST_OF_START:
        yield finding("startup.covered", share=max(covered))


def _covered(start: Startup) -> float | None:
    """Share of a start that the known phases cover, None without any; those of the engine lie within its start."""
    within = [start.compile_s, start.warmup_s, start.graphs_s]
    engine = within if start.engine_init_s is None else [start.engine_init_s]
    known = sum(value for value in (start.weights_s, *engine) if value is not None)
    return known / start.total_s if known and start.total_s else None


def _measured_starts(run: Run, say: Speech) -> tuple[Part, ...]:
    """Starts that were measured on purpose, with a cold and with a warm compile cache."""
    rows = [row for row in run.startup if row.source == "startup_rounds"]
    if not rows:
        return ()
    phases = [column for column in PHASES if any(getattr(row, column) is not None for row in rows)]
    body = [
        [say.label(row.model), row.compile_cache or "", str(row.starts), *(number(getattr(row, c)) for c in phases)]
        for row in rows
    ]
    head = ["Model", "Compile cache", "Starts", *(capitalized(PHASES[column]) for column in phases)]
    caption = "Start-up (s), with an empty compile cache and with a warm one"
    savings = [saving for model in run.models if (saving := _warm(rows, model))]
    said = finding("startup.warm", savings=savings) if savings else finding("startup.no_cache")
    return table(head, body, caption=caption, notes=[say("startup.rounds")], words=(0, 1)), text(say(said))


def _warm(rows: Iterable[StartupRow], model: str) -> Finding | None:
    """What the warm cache saves a model."""
    starts = {row.compile_cache: row for row in rows if row.model == model}
    cold, warm = starts.get("cold"), starts.get("warm")
    if not (cold and warm and cold.total_s and warm.total_s):
        return None
    saved = (1 - warm.total_s / cold.total_s) * 100
    return finding(
        "startup.warm_model", model=model, warm=warm.total_s, cold=cold.total_s, by=saved, starts=cold.starts
    )


def surprises(run: Run) -> Iterator[Finding]:
    """What the figures say that one would not expect: small savings, slow starts, settings that differ."""
    for variant in run.variants:
        row = run.memory_of(variant)
        yield from _few_saved(row)
        by = row.vram_delta_reduction_pct
        if row.vram_source == "nvml" and by is not None and abs(by) >= 100 * ALIKE:
            yield finding("memory.other_share", variant=variant, by=abs(by) / 100)
        yield from _unlike_start(run, variant)
        yield from _unlike_settings(run, variant)


def _few_saved(row: MemoryRow) -> Iterator[Finding]:
    """Weights shrink less than the bits of the label promise: embeddings and scales stay in 16 bits."""
    bits, actual = LABEL_BITS.get((row.quantization or "")[:2].upper()), row.weights_reduction_pct
    if bits is None or actual is None:
        return
    promised = 1 - bits / PLAIN_BITS
    if 100 * promised - actual > FEW_SAVED:
        id_ = "memory.few_saved" if actual > 0 else "memory.none_saved"
        yield finding(id_, variant=row.model, by=actual / 100, promised=promised)


def _unlike_start(run: Run, variant: str) -> Iterator[Finding]:
    own, base = run.startup_of(variant), run.startup_of(run.baseline)
    if own.total_s is None or not base.total_s or abs(own.total_s / base.total_s - 1) <= UNLIKE_START:
        return
    unlike = own.compile_cache != base.compile_cache
    caches = finding("startup.caches", own=own.compile_cache, base=base.compile_cache) if unlike else ""
    id_ = "startup.slow" if own.total_s > base.total_s else "startup.fast"
    by = abs(own.total_s / base.total_s - 1)
    yield finding(id_, variant=variant, baseline=run.baseline, by=by, caches=caches)


def _unlike_settings(run: Run, variant: str) -> Iterator[Finding]:
    """Settings of the server that differ from the baseline's."""
    if variant not in run.ready or run.baseline not in run.ready:
        return
    own, base = run.ready[variant].settings, run.ready[run.baseline].settings
    for key in own.__struct_fields__:
        if key not in ("missing", "inherited_env") and getattr(own, key) != getattr(base, key):
            values = {"own": _shown(getattr(own, key)), "base": _shown(getattr(base, key))}
            yield finding("memory.other_setting", variant=variant, key=key, **values)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return BLANK if value in (None, "") else f"`{value}`"
