"""What guards read and what they answer: facts by dotted path, and findings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["block", "pair", "server", "run"]
Severity = Literal["fail", "warn"]
Status = Literal["ok", "fail", "warn", "unknown"]

# Limits of the checks: the same for every run, so that "valid" means the same everywhere.
LIMITS: dict[str, float] = {
    "prefix_cache_hit_share": 0.0,  # hits / queries
    "concurrency_held": 0.95,  # mean share of the asked concurrency over the steady window
    "concurrency_held_short": 0.60,  # over the whole block, where it has no steady window
    "steady_share": 0.5,  # steady window / block
    "min_block_s": 5.0,
    "requests_per_slot": 2.0,
    "resent_share": 0.01,  # of the requests: a keep-alive that runs out is rare within a block
    "token_count_share": 0.01,  # server's count against the client's
    "queue_share": 0.10,  # mean queue time / p50 TTFT
    "client_cpu_share": 0.80,  # of one core
    "loop_lag_p50_ms": 2.0,
    "loop_lag_p50_share": 0.10,  # of p50 TTFT
    "loop_lag_p99_ms": 20.0,
    "client_limit_share": 0.80,  # of the rate that the calibration reached
    "client_error_share": 0.10,  # of p50 TTFT
    "coalesced_share": 0.50,
    "tokens_per_chunk": 1.5,
    "energy_share": 0.05,
    "prompt_length_share": 0.02,
    "answer_length_share": 0.01,
    "clock_share": 0.03,
    "drift_pct": 2.0,
}


class Missing(Exception):  # noqa: N818 - it is an answer, not an error
    """A fact that is not there; the guard answers `unknown`."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    bad: bool
    detail: str


def good(detail: str) -> Finding:
    """Nothing wrong; the detail says what was seen."""
    return Finding(False, detail)


def found(bad: bool, detail: str) -> Finding:
    """Wrong if `bad`; the detail holds the numbers either way."""
    return Finding(bad, detail)


@dataclass(frozen=True)
class Facts:
    """JSON facts under named roots: `need("context.server.delta.preemptions")`."""

    roots: Mapping[str, Any]

    def get(self, path: str) -> Any:
        """The fact at a dotted path, None where any step is absent."""
        node: Any = self.roots
        for key in path.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    def need(self, path: str) -> Any:
        """The fact at a dotted path. Raises Missing, with the reason that a `missing` record beside it gives."""
        value = self.get(path)
        if value is None:
            parent, _, key = path.rpartition(".")
            reasons = self.get(f"{parent}.missing")
            why = reasons.get(key) if isinstance(reasons, Mapping) else None
            raise Missing(f"{path} is not known" + (f" ({why})" if why else ""))
        return value


@dataclass(frozen=True)
class Guard:
    """One check of the table: what it is called, what it means, how it is detected, what to do."""

    id: str
    title: str
    meaning: str
    detection: str
    remedy: str
    scope: Scope
    severity: Severity
    check: Callable[[Facts], Finding]


@dataclass(frozen=True)
class GuardResult:
    """A guard's answer. `unknown` names the missing fact; it neither passes nor fails."""

    id: str
    status: Status
    detail: str


def evaluate(guard: Guard, facts: Facts) -> GuardResult:
    """Run one check on the facts."""
    try:
        finding = guard.check(facts)
    except Missing as missing:
        return GuardResult(guard.id, "unknown", str(missing))
    return GuardResult(guard.id, guard.severity if finding.bad else "ok", finding.detail)
