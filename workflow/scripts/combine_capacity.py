"""Tuple CSVs of one model and workload -> one table."""

import polars as pl
from quantbench import jobs
from quantbench.files import atomic
from quantbench.report import tables


def main(job):
    tuples = [pl.read_csv(path) for path in job.input]
    table = tables.combine_capacity(tuples, job.wildcards.model, job.wildcards.workload)
    with atomic(job.output[0]) as part:
        table.write_csv(part)


jobs.run(snakemake, main)
