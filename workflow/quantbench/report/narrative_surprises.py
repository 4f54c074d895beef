"""What the server records say that one would not expect: small savings, slow starts, settings that differ. Pure."""

from __future__ import annotations

from typing import Any

from quantbench.report.facts import Facts, Json
from quantbench.wording import BLANK, is_number, percent

NVML_ALIKE = 0.05
"""Share by which NVML's used memory may differ between models for which vLLM fills the same share of the card."""
HIDDEN = {"missing", "inherited_env"}
"""Entries of `settings` that are no settings of the engine."""


def startup(facts: Facts, model: str) -> Json:
    """The start-up phases of one model, empty where unknown."""
    return dict(facts.ready.get(model, {}).get("startup") or {})


def surprises(facts: Facts) -> list[str]:
    """What the figures say that one would not expect; each with its figure."""
    found = []
    for variant in facts.variants:
        label, row = facts.label(variant), facts.memory_of(variant)
        found += [
            _few_saved(label, row),
            _nvml_differs(label, row),
            _slow_start(facts, variant),
            *_settings(facts, variant),
        ]
    return [sentence for sentence in found if sentence]


def _few_saved(label: str, row: Json) -> str:
    """Weights shrink less than the bits of the label promise: embeddings and scales stay in 16 bits."""
    promised = _promised_reduction(str(row.get("quantization") or ""))
    actual = row.get("weights_reduction_pct")
    if promised is None or not is_number(actual) or promised - actual <= 10:
        return ""
    shrank = f"shrank by {percent(actual / 100)}" if actual > 0 else "did not shrink"
    return (
        f"{label}: weights {shrank}, not by the {percent(promised / 100)} that its bits "
        "suggest; layers that stay in 16 bits (embeddings, output layer) and scales are the likely reason."
    )


def _promised_reduction(label: str) -> float | None:
    bits = {"W4": 4, "W8": 8}.get(label[:2].upper())
    return None if bits is None else (1 - bits / 16) * 100


def _nvml_differs(label: str, row: Json) -> str:
    reduction = row.get("vram_delta_reduction_pct")
    if row.get("vram_source") != "nvml" or not is_number(reduction) or abs(reduction) < 100 * NVML_ALIKE:
        return ""
    differs = f"differs by {percent(abs(reduction) / 100)} from the baseline's"
    return f"{label}: NVML's used memory {differs}, so vLLM did not fill the same share of the card."


def _slow_start(facts: Facts, variant: str) -> str:
    own, base = startup(facts, variant).get("total_s"), startup(facts, facts.baseline).get("total_s")
    if not (is_number(own) and is_number(base) and base > 0) or 0.75 <= own / base <= 1.25:
        return ""
    how = f"{percent(abs(own / base - 1))} {'longer' if own > base else 'less time'}"
    caches = [startup(facts, model).get("compile_cache") for model in (variant, facts.baseline)]
    unlike = f" (its compile cache was {caches[0]}, the baseline's {caches[1]})" if caches[0] != caches[1] else ""
    return f"{facts.label(variant)}: its start took {how} than that of {facts.label(facts.baseline)}{unlike}."


def _settings(facts: Facts, variant: str) -> list[str]:
    """Settings of the server that differ from the baseline's."""
    own: Json = facts.ready.get(variant, {}).get("settings") or {}
    base: Json = facts.ready.get(facts.baseline, {}).get("settings") or {}
    differing = [key for key in own if key not in HIDDEN and key in base and own[key] != base[key]]
    return [
        f"{facts.label(variant)}: `{key}` is {_shown(own[key])}, the baseline's is {_shown(base[key])}."
        for key in differing
    ]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`" if value not in (None, "") else BLANK
