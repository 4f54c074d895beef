"""Measure the load client against a server whose timing is known, at one concurrency."""

from quantbench import jobs
from quantbench.client.calibration import calibrate
from quantbench.records.base import write


def main(job):
    write(job.output[0], calibrate(int(job.wildcards.concurrency)))


jobs.run(snakemake, main)
