"""Server records and sessions -> the memory table."""

from quantbench import jobs, results
from quantbench.judge.memory import memory_rows
from quantbench.records.server import Ready, Session


def main(job):
    ready, sessions = results.by_model(job.input.ready, Ready), results.by_model(job.input.sessions, Session)
    wanted = job.params.memory
    results.write_rows(job.output[0], memory_rows(wanted["labels"], wanted["baseline"], ready, sessions))


jobs.run(snakemake, main)
