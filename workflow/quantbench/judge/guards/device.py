"""Guards of a block: what the card went through while it was measured."""

from __future__ import annotations

from quantbench.judge.guards.base import BlockFacts, Seen, guard


def _throttled(facts: BlockFacts, *words: str) -> Seen:
    reasons = facts.need(lambda b: b.telemetry.throttle_reasons)
    hit = [r for r in reasons if any(word in r.lower().replace("_", "").replace(" ", "") for word in words)]
    return Seen(bool(hit), f"clock-event reasons: {', '.join(reasons) or 'none'}")


@guard("block", "fail", title="Thermal throttling",
       detection="clock-event reasons SwThermalSlowdown, HwThermalSlowdown, HwSlowdown or HwPowerBrakeSlowdown",
       remedy="Improve the cooling or pause between blocks.")  # fmt: skip
def thermal_throttling(facts: BlockFacts) -> Seen:
    """The card slowed down because of heat or a hardware brake; the next block may differ."""
    return _throttled(facts, "thermal", "hwslowdown", "powerbrake")


@guard("block", "warn", title="Power cap",
       detection="clock-event reason SwPowerCap",
       remedy="State the card's power limit with the result.")  # fmt: skip
def power_cap(facts: BlockFacts) -> Seen:
    """The card ran at its power limit. Normal under load, but a lower limit would give lower figures."""
    return _throttled(facts, "powercap")


@guard("block", "fail", title="Foreign process on the card",
       detection="NVML lists a process on the device that is not the server's; "
                 "unknown if it does not list the server's own",
       remedy="Stop the process, or give quantbench devices of its own.")  # fmt: skip
def foreign_process(facts: BlockFacts) -> Seen:
    """Another program shared the card's memory and time."""
    others = facts.need(lambda b: b.telemetry.foreign_processes)
    text = ", ".join(f"{p.name or '?'} (pid {p.pid or '?'}, {'?' if p.mib is None else p.mib} MiB)" for p in others)
    return Seen(bool(others), text or "none on the card")


@guard("block", "warn", title="Energy figures disagree",
       detection="energy counter and mean power × time differ by more than {limit:%}",
       remedy="Use longer blocks: the counter and the power reading are updated slowly.")  # fmt: skip
def energy_mismatch(facts: BlockFacts, *, limit: float = 0.05) -> Seen:
    """Energy per token is not to be trusted, so `j_per_token` of the block is blank."""
    counter = facts.need(lambda b: b.telemetry.energy_j)
    power = facts.need(lambda b: b.telemetry.energy_from_power_j)
    off = abs(counter - power) / counter if counter else 1.0
    return Seen(off > limit, f"energy counter {counter:.0f} J, mean power × time {power:.0f} J")
