"""Bring the model's server up on its lane and write down what it is."""

from quantbench import files, jobs
from quantbench.engines.choose import engine_of
from quantbench.serving import lane, ready
from quantbench.serving.server import mode_of


def main(job):
    spec = jobs.spec(job)
    endpoint = spec["endpoint"]
    if endpoint:
        script = f"#!/bin/sh\n# Not ours: {endpoint} is already running.\n"
    else:
        script = engine_of(spec).serve_script(spec, mode_of(spec)[0])
    with lane.lease(spec, why="start rule") as lease:
        facts = ready.of_endpoint(spec) if endpoint else lease.state["ready"]
    files.write_script(job.output.serve_sh, script)
    files.write_json(job.output.ready, {**facts, "identity": job.params.identity})


jobs.run(snakemake, main)
