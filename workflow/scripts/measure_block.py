"""Measure one block of one tuple on its lane."""

from pathlib import Path

from quantbench import block, jobs
from quantbench.client import tables_io
from quantbench.files import read_json, write_json
from quantbench.judge import guards


def main(job):
    wanted = block.BlockSpec(
        arm=job.wildcards.arm,
        number=int(job.wildcards.block),
        spec=jobs.spec(job),
        knobs=job.params.knobs,
        gpu=job.params.gpu,
        prompts=Path(job.input.prompts),
    )
    ready = read_json(job.input.ready, "spec_hash")
    records, context = block.measure(wanted, ready)
    tables_io.write_records(job.output.records, records)
    write_json(job.output.context, guards.judged(context, ready, None))
    block.say_progress(wanted, context)


jobs.run(snakemake, main)
