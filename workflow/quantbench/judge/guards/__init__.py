"""Guards: checks that make a wrong measurement impossible to miss.

A guard answers ok, fail, warn or unknown. A failed guard makes a block or a comparison invalid; a warning is printed
beside the figures. A fact that is missing is `unknown`, never ok: it does not invalidate, but the report counts it.
"""

from quantbench.judge.guards.base import Guard
from quantbench.judge.guards.evaluate import (
    BLOCK,
    CLIENT,
    GUARDS,
    PAIR,
    RUN,
    SERVER,
    comparison_failures,
    evaluate_block,
    evaluate_pair,
    evaluate_run,
    evaluate_server,
    failed,
    judged,
    meanings,
)
from quantbench.records.block import GuardResult

__all__ = [
    "BLOCK",
    "CLIENT",
    "GUARDS",
    "PAIR",
    "RUN",
    "SERVER",
    "Guard",
    "GuardResult",
    "comparison_failures",
    "evaluate_block",
    "evaluate_pair",
    "evaluate_run",
    "evaluate_server",
    "failed",
    "judged",
    "meanings",
]
