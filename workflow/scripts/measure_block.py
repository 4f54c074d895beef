"""Measure one block of one tuple on its lane."""

from pathlib import Path

from quantbench import block, jobs
from quantbench.client import tables_io
from quantbench.judge import guards
from quantbench.records.base import convert, read, write
from quantbench.records.block import BlockKnobs
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready


def main(job):
    wanted = block.BlockSpec(
        arm=job.wildcards.arm,
        number=int(job.wildcards.block),
        spec=jobs.spec(job),
        knobs=convert(job.params.knobs, BlockKnobs),
        gpu=job.params.gpu,
        prompts=Path(job.input.prompts),
    )
    ready = read(job.input.ready, Ready)
    records, context = block.measure(wanted, ready)
    tables_io.write_records(job.output.records, records)
    # From the config and not the params: what is declared judges a block, and measures none again.
    arm = convert(job.config["arms"].get(ready.model, {}), ArmPlan)
    write(job.output.context, guards.judged(context, ready, None, arm))
    block.say_progress(wanted, context)


jobs.run(snakemake, main)
