"""The quality suites of a configuration, typed: that of `quality.prompts`, then those of `quality.suites`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from quantbench.records.suite import PROMPTS, SuiteSettings, settings_of

THINKING: Final = ("thinking", "thinking_tokens")
SHARED: Final = {
    "answers": ("concurrency", "floor_concurrency", "floor_repeat", *THINKING),
    "likelihood": THINKING[:1],
    "lm_eval": THINKING,
    "judge": THINKING,
}
"""Settings that a suite takes from `quality.*` where it does not say them itself, by kind."""


def of_quality(quality: Mapping[str, Any]) -> dict[str, SuiteSettings]:
    """The suites by name, of the valid and complete section `quality`; none where `prompts` is null."""
    if not quality["prompts"]:
        return {}
    asked = {PROMPTS: {"kind": "answers", "items": quality["prompts"]}, **quality["suites"]}
    return {name: _settings(entry, quality) for name, entry in asked.items() if entry is not None}


def items_key(suite: str) -> str:
    """The key that names a suite's file of items."""
    return "quality.prompts" if suite == PROMPTS else f"quality.suites.{suite}.items"


def left_out(suite: str) -> str:
    """How to leave a suite out, as the end of a remedy."""
    return "to null" if suite == PROMPTS else f"set quality.suites.{suite} to null"


def _settings(entry: Mapping[str, Any], quality: Mapping[str, Any]) -> SuiteSettings:
    shared = {key: quality[key] for key in SHARED.get(entry["kind"], ())}
    if not quality["thinking"]:
        shared.pop("thinking_tokens", None)
    return settings_of({**shared, **entry})
