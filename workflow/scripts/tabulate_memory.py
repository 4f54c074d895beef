"""Server records and sessions -> the memory table."""

from quantbench import jobs
from quantbench.client import tables_io
from quantbench.report import results_tree, tables


def main(job):
    ready, sessions = results_tree.by_model(job.input.ready), results_tree.by_model(job.input.sessions)
    wanted = job.params.memory
    tables_io.write_rows(job.output[0], tables.memory_rows(wanted["labels"], wanted["baseline"], ready, sessions))


jobs.run(snakemake, main)
