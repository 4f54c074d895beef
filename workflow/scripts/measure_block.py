"""Measure one block of one tuple on its lane, unless just this block lies set aside."""

from pathlib import Path

from msgspec.structs import replace
from quantbench import block, jobs, kept
from quantbench.client import tables_io
from quantbench.config.expected import of_run
from quantbench.judge import guards
from quantbench.records.base import convert, read, write
from quantbench.records.block import BlockKnobs
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready
from quantbench.serving.starts import Start


def main(job):
    spec, knobs = jobs.spec(job), convert(job.params.knobs, BlockKnobs)
    run, number = of_run(job.config), int(job.wildcards.block)
    planned = run.wanted(job.wildcards.arm, knobs.cell)
    now = replace(planned, server=kept.now(planned.server, spec))
    if kept.take_back("measure_block", (job.output.context, job.output.records), now):
        return
    wanted = block.BlockSpec(
        arm=job.wildcards.arm,
        number=number,
        spec=spec,
        knobs=knobs,
        gpu=job.params.gpu,
        prompts=Path(job.input.prompts),
        wanted=now,
        # From the config and not the params: another number of starts measures no block again.
        start=Start(run.plan.start_of(number), run.plan.starts_if_cheap),
    )
    records, context = block.measure(wanted)
    tables_io.write_records(job.output.records, records)
    # From the config and not the params: what is declared judges a block, and measures none again.
    arm = convert(job.config["arms"].get(spec.model, {}), ArmPlan)
    write(job.output.context, guards.judged(context, read(job.input.ready, Ready), None, now, arm))
    block.say_progress(wanted, context)


jobs.run(snakemake, main)
