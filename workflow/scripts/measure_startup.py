"""Start the model's server with an empty and with a warm compile cache, and write down how long each phase took."""

from msgspec.structs import replace
from quantbench import jobs, kept
from quantbench.config.expected import of_run
from quantbench.records.base import write
from quantbench.serving import startup


def main(job):
    spec = jobs.spec(job)
    served = kept.now(of_run(job.config).servers[spec.model], spec)
    if not kept.take_back("measure_startup", job.output, served):
        write(job.output[0], replace(startup.measure(spec, job.params.rounds), served_with=served))


jobs.run(snakemake, main)
