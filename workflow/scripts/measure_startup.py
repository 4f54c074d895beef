"""Start the model's server with an empty and with a warm compile cache, and write down how long each phase took."""

from quantbench import files, jobs
from quantbench.serving import startup


def main(job):
    starts = startup.measure(jobs.spec(job), job.params.rounds)
    files.write_json(job.output[0], {"model": job.params.spec["model"], "starts": starts})


jobs.run(snakemake, main)
