"""Compare the answers of a variant with those of the baseline, prompt by prompt."""

from pathlib import Path

from quantbench import jobs
from quantbench.quality import code_check, prompt_set, score
from quantbench.records import base
from quantbench.records.quality import Answer


def main(job):
    path = Path(job.input.prompts)
    prompts = prompt_set.parse(path.read_text(encoding="utf-8"), str(path))
    baseline, variant = (base.read(answers, list[Answer]) for answers in (job.input.baseline, job.input.variant))
    details = score.details(
        prompts,
        (job.params.baseline, baseline),
        (job.wildcards.variant, variant),
        job.params.notes,
        code_check.run_python if job.params.code else None,
    )
    base.write(job.output.pairs, score.plain(baseline, variant))
    base.write(job.output.details, details)


jobs.run(snakemake, main)
