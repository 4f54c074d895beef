"""Server records and sessions -> the memory table."""

from quantbench import jobs, results_tree, tables, tables_io


def main(job):
    ready, sessions = results_tree.by_model(job.input.ready), results_tree.by_model(job.input.sessions)
    wanted = job.params.memory
    tables_io.write_rows(job.output[0], tables.memory_rows(wanted["labels"], wanted["baseline"], ready, sessions))


jobs.run(snakemake, main)
