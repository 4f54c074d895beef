"""Server records and measured starts -> the start-up table."""

from quantbench import jobs, results
from quantbench.judge.memory import startup_rows
from quantbench.records.server import MeasuredStarts, Ready


def main(job):
    ready = results.by_model(job.input.ready, Ready)
    starts = results.by_model(job.input.starts, MeasuredStarts)
    results.write_rows(job.output[0], startup_rows(job.params.labels, ready, starts))


jobs.run(snakemake, main)
