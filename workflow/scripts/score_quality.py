"""Compare the answers of a variant with those of the baseline, prompt by prompt."""

from pathlib import Path

from quantbench import jobs
from quantbench.files import read_json, write_json
from quantbench.quality import code_check, pair, prompt_set


def main(job):
    path = Path(job.input.prompts)
    prompts = prompt_set.parse(path.read_text(encoding="utf-8"), str(path))
    baseline, variant = read_json(job.input.baseline), read_json(job.input.variant)
    details = pair.details(
        prompts,
        (job.params.baseline, baseline),
        (job.wildcards.variant, variant),
        job.params.notes,
        code_check.run_python,
    )
    write_json(job.output.pairs, pair.plain(baseline, variant))
    write_json(job.output.details, details)


jobs.run(snakemake, main)
