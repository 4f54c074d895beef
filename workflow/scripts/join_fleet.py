"""All comparisons of a fleet -> one table, one plot, one page."""

from quantbench import jobs
from quantbench.fleet import comparisons, joined


def main(job):
    joined.write(comparisons.of_job(comparisons.PROJECT, job.config["fleet"]), job.output)


jobs.run(snakemake, main)
