"""Tuple CSVs of one model and workload -> one table."""

from quantbench import jobs
from quantbench.files import atomic
from quantbench.report import results_tree, tables


def main(job):
    tuples = [results_tree.read_tuple(path) for path in job.input]
    table = tables.combine_capacity(tuples, job.wildcards.model, job.wildcards.workload)
    with atomic(job.output[0]) as part:
        table.write_csv(part)


jobs.run(snakemake, main)
