"""Make the demo model's folder: the shipped weights, grown so that speeds differ."""

from pathlib import Path

from quantbench import jobs
from quantbench.config.configuration import Plan
from quantbench.quality import made_models


def main(job):
    source = Path(job.input.model[0]).parent
    size = job.params.grow or "0"
    command = [job.params.python, str(job.input.program), str(source), "--intermediate-size", str(size)]
    facts = made_models.facts(Plan(job.config), job.wildcards.model)
    made_models.build(job.output.marker, command, job.log[0], facts)


jobs.run(snakemake, main)
