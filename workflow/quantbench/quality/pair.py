"""What a suite's score gets: the two sides of a pair, what they were asked, and how code of an answer is run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from quantbench.quality.checks import CodeRunner
from quantbench.quality.prompt_set import Prompt
from quantbench.records.suite import SuiteSettings


@dataclass(frozen=True)
class Side:
    """One model, and what was collected of it: records of the kind's type."""

    model: str
    collected: Sequence[Any]


@dataclass(frozen=True)
class Pair:
    """A suite's items (none for a kind without a file of them), and both sides. run_code: None runs no code."""

    suite: str
    settings: SuiteSettings
    items: Sequence[Prompt]
    baseline: Side
    variant: Side
    run_code: CodeRunner | None = None


def digest(value: object) -> str:
    """Names plain data, or a record: 16 hex digits."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]
