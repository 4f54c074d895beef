"""What a guard is: one function with its limits, severity, meaning and remedy on it; and how it reads facts.

    @guard("block", "fail", title="Client short of CPU", detection="client.cpu_share of {limit:%} of a core or more",
           remedy="Run the client on free cores, or lower the concurrency.")
    def client_cpu(facts: BlockFacts, *, limit: float = 0.80) -> Seen:
        \"""The load client was the limit, not the server.\"""

The function's name is the guard's id, its docstring the meaning, its keyword-only defaults are the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from inspect import Parameter, signature
from typing import Any, Concatenate, Generic, Literal, NamedTuple, TypeVar

from quantbench.records.base import Number
from quantbench.records.block import BlockContext, Calibration, Delta, GuardResult, MeasuredWith
from quantbench.records.cell import Cell
from quantbench.records.metric import METRICS
from quantbench.records.plan import BASELINE, VARIANT, ArmPlan, Factor
from quantbench.records.server import Ready

Scope = Literal["block", "server", "pair", "run"]
Severity = Literal["fail", "warn"]
F = TypeVar("F")
R = TypeVar("R")
T = TypeVar("T")


class Missing(Exception):  # noqa: N818 - it is an answer, not an error
    """A fact that is not there; the guard answers `unknown`."""


class Seen(NamedTuple):
    """What a check saw: whether it is bad, and the figures either way."""

    bad: bool
    detail: str


@dataclass(frozen=True)
class Guard:
    """One check: what it is called, what it means, how it is detected, what to do; `limits` go into the check."""

    id: str
    title: str
    meaning: str
    detection: str
    remedy: str
    scope: Scope
    severity: Severity
    check: Callable[..., Seen]
    limits: Mapping[str, float]

    def answer(self, facts: object) -> GuardResult:
        """The guard's answer on the facts of its scope."""
        try:
            seen = self.check(facts, **self.limits)
        except Missing as missing:
            return GuardResult(id=self.id, status="unknown", detail=str(missing))
        return GuardResult(id=self.id, status=self.severity if seen.bad else "ok", detail=seen.detail)


def guard(
    scope: Scope, severity: Severity, *, title: str, detection: str, remedy: str
) -> Callable[[Callable[Concatenate[F, ...], Seen]], Guard]:
    """Make a check a guard. `detection` has the limits in braces: {limit}, or {limit:%} for a share."""

    def made(check: Callable[Concatenate[F, ...], Seen]) -> Guard:
        limits = {p.name: p.default for p in signature(check).parameters.values() if p.kind is Parameter.KEYWORD_ONLY}
        how = detection.format(**{name: _Shown(limit) for name, limit in limits.items()})
        meaning = " ".join((check.__doc__ or "").split())
        return Guard(check.__name__, title, meaning, how, remedy, scope, severity, check, limits)

    return made


class _Shown(float):
    """A limit in a text: 0.95 as "0.95", or with `%` as "95 %"."""

    def __format__(self, spec: str) -> str:
        return f"{100 * float(self):g} %" if spec == "%" else f"{float(self):g}"


class _Trace:
    """Notes which attributes are read of it: so the expression that reads a fact also names it."""

    def __init__(self, *path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> _Trace:
        return _Trace(*self._path, name)


@dataclass(frozen=True)
class Source(Generic[R]):
    """A record that facts are read from, by its name in details; None where there is no such record."""

    name: str
    record: R | None

    def path(self, read: Callable[[R], object]) -> str:
        """The fact's name below the record: "settings.dtype"."""
        return ".".join(_steps(read))

    def get(self, read: Callable[[R], T | None]) -> T | None:
        """A fact, None where it is not known."""
        return None if self.record is None else read(self.record)

    def need(self, read: Callable[[R], T | None]) -> T:
        """A fact. Raises Missing naming it, with the reason that a `missing` mapping beside it gives."""
        value = self.get(read)
        if value is None:
            raise self.missing(read)
        return value

    def missing(self, read: Callable[[R], object], why: str | None = None) -> Missing:
        """That a fact is not known, and why."""
        *parents, name = _steps(read)
        if self.record is not None and why is None:
            why = getattr(reduce(getattr, parents, self.record), "missing", {}).get(name)
        place = ".".join(filter(None, (self.name, *parents, name)))
        return Missing(f"{place} is not known" + (f" ({why})" if why else ""))


def _steps(read: Callable[[Any], Any]) -> tuple[str, ...]:
    steps: tuple[str, ...] = read(_Trace())._path
    return steps


@dataclass(frozen=True)
class BlockFacts:
    """What guards of a block read: the block, its server, the client's calibration, what the plan wants it to be, and
    what is declared of its model."""

    block: BlockContext
    ready: Source[Ready]
    calibration: Source[Calibration]
    wanted: Source[MeasuredWith] = Source("wanted", None)
    arm: ArmPlan = BASELINE

    def need(self, read: Callable[[BlockContext], T | None]) -> T:
        """A fact of the block. Raises Missing."""
        return Source("", self.block).need(read)

    def metric(self, name: str) -> Number:
        """A metric of the block. Raises Missing."""
        return metric(self.block, name)

    def counter(self, read: Callable[[Delta], Number | None]) -> float:
        """By how much a counter of the server grew in the block. Raises Missing; a restart has no differences."""
        source = Source("server.delta", self.block.server.delta)
        if self.block.server.delta.restarted:
            raise source.missing(read, "the server restarted")
        return float(source.need(read))

    def incidents(self, *kinds: str) -> list[str]:
        """Log lines of the block that mean one of these kinds of trouble."""
        return [incident.line for incident in self.block.server.incidents if incident.id in kinds]


@dataclass(frozen=True)
class PairFacts:
    """What guards of a comparison read of baseline (a) and variant (b): servers, blocks, what is declared."""

    a: Source[Ready]
    b: Source[Ready]
    blocks_a: Sequence[BlockContext]
    blocks_b: Sequence[BlockContext]
    arm_a: ArmPlan = BASELINE
    arm_b: ArmPlan = VARIANT

    def may_differ(self, factor: Factor) -> bool:
        """Whether the arms are declared to differ in this, or may: where a variant stands in for the baseline."""
        return factor in (*self.arm_a.differs_in, *self.arm_b.differs_in)

    @property
    def said_to_differ(self) -> list[Factor]:
        """What one arm alone declares, so that it should be there."""
        a, b = self.arm_a.differs_in, self.arm_b.differs_in
        return [*(factor for factor in b if factor not in a), *(factor for factor in a if factor not in b)]

    @property
    def arms(self) -> tuple[Sequence[BlockContext], Sequence[BlockContext]]:
        """The blocks of both arms. Raises Missing where an arm has none."""
        if not self.blocks_a or not self.blocks_b:
            raise Missing("blocks of both arms are not known")
        return self.blocks_a, self.blocks_b

    def cells(self) -> dict[Cell, tuple[list[BlockContext], list[BlockContext]]]:
        """The blocks of both arms in each cell of the baseline. Raises Missing where an arm has no blocks."""
        a, b = self.arms
        cells: dict[Cell, tuple[list[BlockContext], list[BlockContext]]] = {block.cell: ([], []) for block in a}
        for side, blocks in enumerate((a, b)):
            for block in blocks:
                if block.cell in cells:
                    cells[block.cell][side].append(block)
        return cells

    def equal(self, *reads: Callable[[Ready], object]) -> Seen:
        """Settings that must be known and equal in both arms. One that differs decides, known or not the others."""
        values = [(self.a.path(read), self.a.get(read), self.b.get(read)) for read in reads]
        unequal = [f"{path}: {a} against {b}" for path, a, b in values if None not in (a, b) and a != b]
        for read in () if unequal else reads:
            self.a.need(read)
            self.b.need(read)
        return Seen(bool(unequal), "; ".join(unequal) or ", ".join(f"{path}: {a}" for path, a, _ in values))


def metric(block: BlockContext, name: str) -> Number:
    """A metric of a block. Raises Missing where it is not known, KeyError for a name that no metric has."""
    value = block.metrics.get(METRICS[name].name)
    if value is None:
        raise Missing(f"metrics.{name} is not known")
    return value
