"""Bring the model's server up on its lane and write down what it is."""

from msgspec.structs import replace
from quantbench import files, jobs, kept
from quantbench.config.expected import of_run
from quantbench.engines.choose import engine_of
from quantbench.records.base import convert, write
from quantbench.records.server import Identity
from quantbench.serving import lane, ready
from quantbench.serving.server import mode_of


def main(job):
    spec = jobs.spec(job)
    served = kept.now(of_run(job.config).servers[spec.model], spec)
    if kept.take_back("start_server", (job.output.ready, job.output.serve_sh), served):
        return
    with lane.lease(spec, why="start rule") as lease:
        if spec.endpoint:
            script = f"#!/bin/sh\n# Not ours: {spec.endpoint} is already running.\n"
        else:
            script = engine_of(spec).serve_script(lease.answering, mode_of(spec)[0])
        facts = lease.ready or ready.of_endpoint(spec)
        served = lease.served(served)
    files.write_script(job.output.serve_sh, script)
    write(job.output.ready, replace(facts, identity=convert(job.params.identity, Identity), served_with=served))


jobs.run(snakemake, main)
