"""All guards, and their answers on a block, a server, a comparison and a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from quantbench.judge.guards import client, device, engine, host, load, pair, provenance, server, stall
from quantbench.judge.guards.base import BlockFacts, Guard, PairFacts, Scope, Source
from quantbench.observe import bottleneck
from quantbench.records.block import BlockContext, Calibration, GuardResult, MeasuredWith
from quantbench.records.plan import BASELINE, VARIANT, ArmPlan
from quantbench.records.server import Ready, Session

GUARDS: Final = tuple(
    value
    for module in (provenance, load, stall, engine, device, host, client, server, pair)
    for value in vars(module).values()
    if isinstance(value, Guard)
)
"""In the order in which modules define them."""
CLIENT: Final = ("client_cpu", "client_loop_lag", "client_limit")
"""Guards that say that the load client was the limit."""
OTHER: Final = provenance.other_configuration.id
"""The guard that says that a block is not of this configuration: it is in no figure."""


def _answers(scope: Scope, facts: object) -> list[GuardResult]:
    return [guard.answer(facts) for guard in GUARDS if guard.scope == scope]


def evaluate_block(
    context: BlockContext,
    ready: Ready | None,
    calibration: Calibration | None = None,
    wanted: MeasuredWith | None = None,
    arm: ArmPlan = BASELINE,
) -> list[GuardResult]:
    """All guards of a block; `wanted`: what the plan wants it to be, `arm`: what is declared of its model."""
    sources = Source("ready", ready), Source("calibration", calibration), Source("wanted", wanted)
    facts = BlockFacts(context, *sources, arm)
    return _answers("block", facts)


def judged(
    context: BlockContext,
    ready: Ready | None,
    calibration: Calibration | None,
    wanted: MeasuredWith | None = None,
    arm: ArmPlan = BASELINE,
) -> BlockContext:
    """The context with bottleneck, guards, valid and reasons, from its facts, the calibration and what is wanted.

    Where energy_mismatch warns, j_per_token is blank: nobody knows which of the two energies is right.
    """
    results = evaluate_block(context, ready, calibration, wanted, arm)
    reasons = failed(results)
    client_limits = [result.detail for result in results if result.id in CLIENT and result.id in reasons]
    block = replace(
        context,
        bottleneck=bottleneck.judge(context, client_limits),
        guards=tuple(results),
        valid=not reasons,
        reasons=tuple(reasons),
    )
    return replace(block, metrics=block.metrics | {"j_per_token": None}) if block.warned("energy_mismatch") else block


def of_plan(blocks: Iterable[BlockContext]) -> list[BlockContext]:
    """The judged blocks without those of another configuration."""
    return [block for block in blocks if OTHER not in block.reasons]


def evaluate_server(ready: Ready) -> list[GuardResult]:
    """All guards of a server."""
    return _answers("server", Source("ready", ready))


def evaluate_pair(
    ready_a: Ready,
    ready_b: Ready,
    blocks_a: Sequence[BlockContext],
    blocks_b: Sequence[BlockContext],
    arm_a: ArmPlan = BASELINE,
    arm_b: ArmPlan = VARIANT,
) -> list[GuardResult]:
    """All guards of the comparison of a baseline (a) and a variant (b): their servers and all their blocks."""
    facts = PairFacts(Source("ready_a", ready_a), Source("ready_b", ready_b), blocks_a, blocks_b, arm_a, arm_b)
    return _answers("pair", facts)


def comparison_failures(
    ready_a: Ready,
    ready_b: Ready,
    blocks_a: Sequence[BlockContext],
    blocks_b: Sequence[BlockContext],
    arm_a: ArmPlan = BASELINE,
    arm_b: ArmPlan = VARIANT,
) -> list[str]:
    """Ids of all that refuses the comparison as a whole: what differs between the arms, or is wrong with a server."""
    servers = [*evaluate_server(ready_a), *evaluate_server(ready_b)]
    pair = evaluate_pair(ready_a, ready_b, blocks_a, blocks_b, arm_a, arm_b)
    return list(dict.fromkeys(failed([*pair, *servers])))


def evaluate_run(sessions: Mapping[str, Session]) -> list[GuardResult]:
    """All guards of a whole run; sessions: {model: session}."""
    return _answers("run", sessions)


def failed(results: Iterable[GuardResult]) -> list[str]:
    """Ids of the guards that make their object invalid."""
    return [result.id for result in results if result.status == "fail"]


def meanings() -> dict[str, str]:
    """{id: title}, for prose."""
    return {guard.id: guard.title for guard in GUARDS}
