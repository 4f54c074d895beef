"""Measure the load client against a server whose timing is known, at one concurrency."""

import time

from quantbench import jobs
from quantbench.client.calibration import calibrate
from quantbench.files import write_json


def main(job):
    measured = {"measured_unix": time.time(), **calibrate(int(job.wildcards.concurrency))}
    write_json(job.output[0], measured)


jobs.run(snakemake, main)
