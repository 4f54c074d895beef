"""One hash over the code that judges kept measurements and words the result.

It is a parameter of every rule that reads kept facts only, so a mended guard, verdict or sentence remakes tables and
pages of existing results. No rule that needs a server, a GPU or the clock has it: those have `MEASUREMENT_PROTOCOL`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

WORKFLOW = Path(__file__).parents[1]
QUALITY = (
    "answers", "checks", "code_check", "code_worker", "correct", "gate", "judgements", "likelihood",
    "lm_eval_samples", "natural", "pair", "paired", "prompt_set", "readings", "score", "suites", "symbolic",
    "time_limit",
)  # fmt: skip
JUDGING = (
    "quantbench/records/**/*",
    "quantbench/judge/**/*",
    "quantbench/report/**/*",
    *(f"quantbench/quality/{name}.py" for name in QUALITY),
    # What is computed anew from kept requests and counters.
    "quantbench/client/concurrency.py",
    "quantbench/client/metrics.py",
    "quantbench/client/silences.py",
    "quantbench/observe/bottleneck.py",
    "quantbench/observe/bound.py",
    "quantbench/results.py",
    "quantbench/stats.py",
    "quantbench/visible.py",
    "quantbench/wording.py",
    "templates/**/*",
    *(f"scripts/{verb}_*.py" for verb in ("combine", "compare", "describe", "price", "score", "summarize", "tabulate")),
    "scripts/decide.py",
    "scripts/write_*.py",
)
"""Patterns below `workflow/`."""


def files(workflow: Path = WORKFLOW) -> list[Path]:
    """Every file that judges or words, sorted by its path."""
    paths = {path for pattern in JUDGING for path in workflow.glob(pattern)}
    return sorted(path for path in paths if "__pycache__" not in path.parts and path.is_file())


def judgement(workflow: Path = WORKFLOW) -> str:
    """SHA-256 over path and content of `files`, 16 hex digits."""
    digest = hashlib.sha256()
    for path in files(workflow):
        digest.update(f"{path.relative_to(workflow).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
