"""Server records and measured starts -> the start-up table."""

from quantbench import jobs
from quantbench.client import tables_io
from quantbench.report import results_tree, tables


def main(job):
    ready, starts = results_tree.by_model(job.input.ready), results_tree.by_model(job.input.starts)
    tables_io.write_rows(job.output[0], tables.startup_rows(job.params.labels, ready, starts))


jobs.run(snakemake, main)
