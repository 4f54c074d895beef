"""Stop the model's server if it is up, and write down its whole life."""

from quantbench import files, jobs
from quantbench.serving import lane, server


def main(job):
    spec = jobs.spec(job)
    lane.stop(spec)
    files.write_json(job.output.session, server.session_record(spec))


jobs.run(snakemake, main)
