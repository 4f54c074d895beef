"""All comparisons of a fleet -> one table, one plot, one page."""

from pathlib import Path

from quantbench import jobs
from quantbench.fleet import comparisons, joined


def main(job):
    joined.write(comparisons.of_job(Path.cwd(), job.config["fleet"]))


jobs.run(snakemake, main)
