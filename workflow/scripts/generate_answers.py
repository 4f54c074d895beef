"""Ask one served model all quality prompts; the baseline is asked again, for the noise floor."""

import sys
from pathlib import Path

from msgspec.structs import replace
from quantbench import jobs, kept, wording
from quantbench.config.expected import of_run
from quantbench.engines import openai_api
from quantbench.quality import ask, prompt_set
from quantbench.quality.answers import Thought
from quantbench.records import base
from quantbench.records.layout import Results
from quantbench.serving import lane


def main(job):
    spec, expected = jobs.spec(job), of_run(job.config)
    wanted = kept.answered_with(expected.plan, spec.model, kept.now(expected.servers[spec.model], spec))
    record = Results(expected.plan.gpu).file("answered_with", model=spec.model)
    if kept.take_back("generate_answers", (record, job.output.answers), wanted):
        return
    path = Path(job.input.prompts)
    prompts = prompt_set.parse(path.read_text(encoding="utf-8"), str(path))
    key = openai_api.key_of(spec)
    at_once, floor = job.params.concurrency, job.params.floor
    again = f", then {wording.plural(len(floor), 'time')} again" if floor else ""
    print(f"{spec.model}: {len(prompts)} quality prompts, {at_once} at a time{again}", file=sys.stderr, flush=True)
    with lane.lease(spec, "answers") as lease:
        thought = Thought(wanted.thinking, wanted.thinking_tokens)
        answers = ask.answers(lease.url, spec.served_name, prompts, at_once, floor, key, thought)
        served = lease.served(wanted.server)
    base.write(record, replace(wanted, server=served))
    base.write(job.output.answers, answers)


jobs.run(snakemake, main)
