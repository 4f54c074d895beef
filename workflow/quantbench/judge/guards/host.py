"""Guards of a block: what the host did beside it. On a shared or small machine this is most of the noise."""

from __future__ import annotations

from quantbench.judge.guards.base import BlockFacts, Seen, guard


@guard("block", "warn", title="CPU time stolen",
       detection="steal of {limit:%} or more of the CPU time that was wanted",
       remedy="Use a machine whose CPUs are its own (no burstable type); more blocks average it out.")  # fmt: skip
def host_steal(facts: BlockFacts, *, limit: float = 0.03) -> Seen:
    """The hypervisor gave CPU time to other machines. Where a CPU is the limit, so much of the speed is gone, and it
    comes and goes. Both arms have it, so the block stands."""
    share = facts.need(lambda b: b.host.steal_share)
    return Seen(share >= limit, f"{share:.1%} of the CPU time was stolen (limit {limit:.0%})")


@guard("block", "warn", title="Foreign CPU load",
       detection="other programs used {limit:%} of the CPUs or more ({gpu_limit:%} where the server is not on the CPU)",
       remedy="Stop other programs; run one lane at a time if the host has few cores.")  # fmt: skip
def foreign_load(facts: BlockFacts, *, limit: float = 0.10, gpu_limit: float = 0.50) -> Seen:
    """Other programs (another lane's, too) took CPU time that a server on the CPU would have used. A server on a card
    needs a few cores and loses little before the others run out."""
    share = facts.need(lambda b: b.host.foreign_cpu_share)
    cores, cpus = facts.need(lambda b: b.host.foreign_cpu_cores), facts.need(lambda b: b.host.cpus)
    most = limit if "cpu" in (facts.ready.get(lambda r: r.devices) or ()) else gpu_limit
    return Seen(share >= most, f"other programs used {cores:.1f} of {cpus} CPUs, {share:.0%} (limit {most:.0%})")


@guard("block", "fail", title="Stopped by a CPU quota",
       detection="a control group's CPU quota stopped the client or a server in {limit:%} of its periods or more",
       remedy="Give the container more CPUs, or the server fewer threads than that (OMP_NUM_THREADS).")  # fmt: skip
def cpu_quota(facts: BlockFacts, *, limit: float = 0.05) -> Seen:
    """All threads stood still until the next period, some 0.1 s: times are those of the quota, not of the model."""
    share = facts.need(lambda b: b.host.throttled_share)
    quota = facts.block.host.quota_cores
    text = f"stopped in {share:.1%} of the periods of a quota of {quota:g} cores" if quota else "no quota"
    return Seen(share >= limit, text)
