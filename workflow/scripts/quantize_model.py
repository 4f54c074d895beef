"""Make a quantized copy of a BF16 model, in the environment of vLLM (rtn) or of llm-compressor (gptq, awq)."""

from pathlib import Path

from quantbench import jobs
from quantbench.config.configuration import Plan
from quantbench.quality import made_models


def main(job):
    recipe = job.params.recipe
    source = made_models.find(recipe["from"], job.params.source)
    command = [job.params.python, str(job.input.program), str(source), "--scheme", recipe["scheme"]]
    command += ["--group-size", str(recipe["group_size"])]
    if recipe["method"] != "rtn":
        calibration = recipe["calibration"]
        command += ["--method", recipe["method"]]
        command += ["--calibration", calibration["file"], "--samples", str(calibration["samples"])]
    facts = made_models.facts(Plan(job.config), job.wildcards.model)
    made_models.build(job.output.marker, command, job.log[0], facts)
    made_models.require_quantized(Path(job.output.marker).parent)


jobs.run(snakemake, main)
