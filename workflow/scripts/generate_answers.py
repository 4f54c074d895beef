"""Ask one served model all quality prompts; the baseline is asked again, for the noise floor."""

import sys
from pathlib import Path

from quantbench import jobs
from quantbench.engines import openai_api
from quantbench.quality import ask, prompt_set
from quantbench.records import base
from quantbench.serving import lane


def main(job):
    path = Path(job.input.prompts)
    prompts = prompt_set.parse(path.read_text(encoding="utf-8"), str(path))
    spec = jobs.spec(job)
    key = openai_api.key_of(spec)
    again = f", then {len(job.params.floor)} times again" if job.params.floor else ""
    print(f"{spec.model}: {len(prompts)} quality prompts, one by one{again}", file=sys.stderr, flush=True)
    with lane.lease(spec, "answers") as lease:
        answers = ask.answers(lease.url, spec.served_name, prompts, job.params.floor, key)
    base.write(job.output.answers, answers)


jobs.run(snakemake, main)
