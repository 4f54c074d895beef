"""The guard of what a block was measured with: is it what the configuration asks for now?"""

from __future__ import annotations

from quantbench.judge.guards.base import BlockFacts, Seen, guard
from quantbench.judge.provenance import block_differences


@guard("block", "fail", title="Another configuration",
       detection="protocol, settings of the server, model files, vLLM's version, knobs or prompts of the block "
                 "are not those of the configuration",
       remedy="Run snakemake again: it sets the block aside and measures it anew; it is in no figure.")  # fmt: skip
def other_configuration(facts: BlockFacts) -> Seen:
    """The block was measured under other settings, so its figures are of something else: it is left out."""
    wanted, block = facts.wanted.record, facts.block
    if wanted is None:
        return Seen(False, "judged without a configuration: nothing else is asked for")
    if differences := block_differences(block, wanted):
        return Seen(True, "; ".join(differences))
    facts.need(lambda b: b.measured_with)
    return Seen(False, "as the configuration asks")
