"""How the servers start: seconds per phase, and what vLLM's compile cache saves. Pure."""

from __future__ import annotations

from quantbench.report.document import Part, Table, table, text
from quantbench.report.facts import Facts, Json
from quantbench.report.narrative_surprises import startup
from quantbench.wording import capitalized, is_number, listing, number, percent, plural, reduction, seconds

MOST_OF_START = 0.5
"""Share of the start below which the phases that the log times do not explain it."""
PHASES = {
    "weights_s": "reading weights",
    "compile_s": "compiling",
    "warmup_s": "warm-up",
    "graphs_s": "CUDA graph capture",
    "engine_init_s": "engine start (profile, KV cache, warm-up)",
    "total_s": "total, until it answers",
}


def parts(facts: Facts) -> list[Part]:
    """The start that the run needed; where starts were measured on purpose, those with a cold and a warm cache."""
    found: list[Part] = [startup_table(facts)]
    measured = [row for row in facts.startup if row["source"] == "startup_rounds"]
    if measured:
        found += [_cache_table(measured), text(_cache_words(facts, measured))]
    return found


def startup_table(facts: Facts) -> Table:
    """Seconds per phase and model."""
    rows, notes = [], []
    for key, name in PHASES.items():
        values = [(facts.ready.get(model, {}).get("startup") or {}).get(key) for model in facts.models]
        if any(is_number(value) for value in values):
            rows.append([capitalized(name), *(number(value) for value in values)])
        else:
            reasons = (startup(facts, facts.baseline).get("missing") or {}).get(key)
            notes.append(f"{capitalized(name)}: {reasons or 'not reported'}.")
    caches = [str(startup(facts, model).get("compile_cache") or "") for model in facts.models]
    if any(caches):
        rows.append(["Compile cache", *caches])
    return table(["Start-up (s)", *map(facts.label, facts.models)], rows, caption="Start-up", notes=notes)


def _cache_table(rows: list[Json]) -> Table:
    """A row per model and state of the compile cache, a column per phase that any of them has."""
    phases = [key for key in PHASES if any(is_number(row.get(key)) for row in rows)]
    body = [
        [row["label"], str(row["compile_cache"] or ""), str(row["starts"]), *(number(row.get(key)) for key in phases)]
        for row in rows
    ]
    head = ["Model", "Compile cache", "Starts", *(capitalized(PHASES[key]) for key in phases)]
    note = "Each server alone on its devices, started again and again; medians. The weights were in the page cache."
    return table(head, body, caption="Start-up (s), with an empty compile cache and with a warm one", notes=[note])


def _cache_words(facts: Facts, rows: list[Json]) -> str:
    """What the warm cache saves, per model."""
    told = []
    for model in facts.models:
        total = {row["compile_cache"]: row for row in rows if row["model"] == model and is_number(row.get("total_s"))}
        if {"cold", "warm"} <= set(total):
            cold, warm = total["cold"], total["warm"]
            saved = reduction((1 - warm["total_s"] / cold["total_s"]) * 100)
            told.append(
                f"{facts.label(model)} answers after {seconds(warm['total_s'])} instead of {seconds(cold['total_s'])} "
                f"({saved}; {plural(int(cold['starts']), 'start')} each)"
            )
    if told:
        return f"With vLLM's compile cache {listing(told)}."
    return "vLLM compiled nothing in these starts, so there is no cache that could make them faster."


def sentence(facts: Facts, variant: str) -> str:
    """How long the variant took until it answered, against the baseline."""
    own, base = startup(facts, variant).get("total_s"), startup(facts, facts.baseline).get("total_s")
    if not (is_number(own) and is_number(base)):
        return "Start-up times are not known for both models."
    caches = [startup(facts, m).get("compile_cache") for m in (variant, facts.baseline)]
    same = f" (compile cache {caches[0]} for both)"
    cache = (same if caches[0] == caches[1] else f" (compile cache {caches[0]} and {caches[1]})") if all(caches) else ""
    return (
        f"It answered {seconds(own)} after its start, {facts.label(facts.baseline)} after {seconds(base)}{cache}; "
        "one start each, so this is an observation and not a test."
    )


def phases_sentence(facts: Facts, variant: str) -> str:
    """The phase whose time differs most."""
    own, base = startup(facts, variant), startup(facts, facts.baseline)
    both = [key for key in PHASES if key != "total_s" and is_number(own.get(key)) and is_number(base.get(key))]
    if not both:
        return ""
    key = max(both, key=lambda name: abs(own[name] - base[name]))
    told = f"The phase that differs most is {PHASES[key]}: {seconds(own[key])} against {seconds(base[key])}"
    return f"{told}{_covered(own)}."


def _covered(phases: Json) -> str:
    """How much of the start the known phases cover, where that is little. Those of the engine lie within its start."""
    engine = phases.get("engine_init_s")
    within = [engine] if is_number(engine) else [phases.get(key) for key in ("compile_s", "warmup_s", "graphs_s")]
    known = sum(value for value in (phases.get("weights_s"), *within) if is_number(value))
    total = phases.get("total_s")
    if not is_number(total) or total <= 0 or known / total >= MOST_OF_START:
        return ""
    share = f"{percent(known / total, 0)} of its start ({seconds(known)} of {seconds(total)})"
    return f"; the phases that the log times are only {share}, the rest is in no phase that it times"
