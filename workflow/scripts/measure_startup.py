"""Start the model's server with an empty and with a warm compile cache, and write down how long each phase took."""

from quantbench import jobs
from quantbench.records.base import write
from quantbench.serving import startup


def main(job):
    write(job.output[0], startup.measure(jobs.spec(job), job.params.rounds))


jobs.run(snakemake, main)
