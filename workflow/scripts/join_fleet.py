"""All comparisons of a fleet -> one table, one plot, one page."""

from quantbench import jobs
from quantbench.fleet import comparisons, joined


def main(job):
    fleet = comparisons.of_job(comparisons.PROJECT, job.config["fleet"])
    joined.write(fleet, job.output)
    joined.need_all(fleet)


jobs.run(snakemake, main)
