"""Guards: checks that make a wrong measurement impossible to miss. Pure.

A guard answers ok, fail, warn or unknown. A failed guard makes a block or a comparison invalid. A fact that is
missing is `unknown`, never ok: it does not invalidate, but the report counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quantbench.judge.guard_facts import Facts, GuardResult, evaluate
from quantbench.judge.guard_table import BLOCK, GUARDS, PAIR, RUN, SERVER
from quantbench.observe import bottleneck

__all__ = [
    "GUARDS",
    "GuardResult",
    "comparison_failures",
    "energy_doubted",
    "evaluate_block",
    "evaluate_pair",
    "evaluate_run",
    "evaluate_server",
    "failed",
    "judged",
    "meanings",
]

Json = Mapping[str, Any]
CLIENT = ("client_cpu", "client_loop_lag", "client_limit")
"""Guards that say that the load client was the limit."""


def evaluate_block(
    context: Json, ready: Json, calibration: Json | None = None, config: Json | None = None
) -> list[GuardResult]:
    """All block guards. config may hold `ignore_eos` and `min_seconds`."""
    facts = Facts({"context": context, "ready": ready, "calibration": calibration or {}, "config": config or {}})
    return [evaluate(guard, facts) for guard in BLOCK]


def judged(context: Json, ready: Json, calibration: Json | None) -> dict[str, Any]:
    """The context with bottleneck, guards, valid and reasons, from its facts and the client's calibration.

    Where energy_mismatch warns, j_per_token is blank: nobody knows which of the two energies is right.
    """
    facts = dict(context)
    results = evaluate_block(facts, ready, calibration or {}, {"min_seconds": facts["min_seconds"]})
    reasons = failed(results)
    limits = [r.detail for r in results if r.status == "fail" and r.id in CLIENT]
    facts["bottleneck"] = bottleneck.judge(facts, limits)
    facts["guards"] = [{"id": r.id, "status": r.status, "detail": r.detail} for r in results]
    facts["valid"], facts["reasons"] = not reasons, reasons
    if energy_doubted(facts):
        facts["metrics"] = {**facts["metrics"], "j_per_token": None}
    return facts


def energy_doubted(context: Json) -> bool:
    """Did energy_mismatch warn in this judged block?"""
    return any(row["id"] == "energy_mismatch" and row["status"] == "warn" for row in context.get("guards") or ())


def evaluate_server(ready: Json) -> list[GuardResult]:
    """All server guards on one ready.json."""
    facts = Facts({"ready": ready})
    return [evaluate(guard, facts) for guard in SERVER]


def evaluate_pair(
    ready_a: Json, ready_b: Json, contexts_a: Sequence[Json], contexts_b: Sequence[Json]
) -> list[GuardResult]:
    """All pair guards of baseline (a) and variant (b): their servers and all their blocks."""
    blocks = {"blocks_a": list(contexts_a), "blocks_b": list(contexts_b)}
    facts = Facts({"a": ready_a, "b": ready_b, **blocks})
    return [evaluate(guard, facts) for guard in PAIR]


def comparison_failures(
    ready_a: Json, ready_b: Json, contexts_a: Sequence[Json], contexts_b: Sequence[Json]
) -> list[str]:
    """Ids of all that refuses the comparison as a whole: what differs between the arms, or is wrong with a server."""
    servers = [*evaluate_server(ready_a), *evaluate_server(ready_b)]
    return list(dict.fromkeys(failed([*evaluate_pair(ready_a, ready_b, contexts_a, contexts_b), *servers])))


def evaluate_run(sessions: Json) -> list[GuardResult]:
    """All guards of a whole run; sessions: {model: session.json}."""
    facts = Facts({"sessions": sessions})
    return [evaluate(guard, facts) for guard in RUN]


def failed(results: Iterable[GuardResult]) -> list[str]:
    """Ids of the guards that make their object invalid."""
    return [result.id for result in results if result.status == "fail"]


def meanings() -> dict[str, str]:
    """{id: title}, for prose."""
    return {guard.id: guard.title for guard in GUARDS}
