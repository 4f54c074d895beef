"""Measure one block of one tuple on its lane."""

from pathlib import Path

from quantbench import block, jobs
from quantbench.client import tables_io
from quantbench.files import read_json
from quantbench.judge import guards
from quantbench.records.base import convert, read, write
from quantbench.records.block import BlockContext
from quantbench.records.server import Ready


def main(job):
    wanted = block.BlockSpec(
        arm=job.wildcards.arm,
        number=int(job.wildcards.block),
        spec=jobs.spec(job),
        knobs=job.params.knobs,
        gpu=job.params.gpu,
        prompts=Path(job.input.prompts),
    )
    records, context = block.measure(wanted, read_json(job.input.ready, "spec_hash"))
    tables_io.write_records(job.output.records, records)
    write(job.output.context, guards.judged(convert(context, BlockContext), read(job.input.ready, Ready), None))
    block.say_progress(wanted, context)


jobs.run(snakemake, main)
