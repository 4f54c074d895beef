"""Measure the load client against a server whose timing is known, at one concurrency."""

import time

from quantbench import jobs
from quantbench.client.calibration import calibrate
from quantbench.records.base import convert, write
from quantbench.records.block import Calibration


def main(job):
    measured = {"measured_unix": time.time(), **calibrate(int(job.wildcards.concurrency))}
    write(job.output[0], convert(measured, Calibration))


jobs.run(snakemake, main)
