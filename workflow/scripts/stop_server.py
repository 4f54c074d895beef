"""Stop the model's server if it is up, and write down its whole life."""

from quantbench import jobs
from quantbench.records.base import write
from quantbench.serving import lane, server


def main(job):
    spec = jobs.spec(job)
    lane.stop(spec)
    write(job.output.session, server.session_record(spec))


jobs.run(snakemake, main)
