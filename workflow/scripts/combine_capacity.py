"""Tuple CSVs of one model and workload -> one table."""

from quantbench import jobs, results
from quantbench.files import atomic


def main(job):
    table = results.combine_capacity(job.input, job.wildcards.model, job.wildcards.workload)
    with atomic(job.output[0]) as part:
        table.write_csv(part)


jobs.run(snakemake, main)
