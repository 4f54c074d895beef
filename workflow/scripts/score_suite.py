"""Score one quality suite of a variant against the baseline, from what was collected of both."""

from pathlib import Path

from quantbench import jobs
from quantbench.quality import code_check, suites
from quantbench.quality.pair import Pair, Side
from quantbench.records.base import read, write
from quantbench.records.suite import settings_of


def main(job):
    settings = settings_of(job.params.settings)
    kind = suites.of(settings)
    pair = Pair(
        suite=job.wildcards.suite,
        settings=settings,
        items=suites.items(settings, "".join(Path(path).read_text(encoding="utf-8") for path in job.input.prompts)),
        baseline=Side(job.params.baseline, read(job.input.baseline, kind.collected)),
        variant=Side(job.wildcards.variant, read(job.input.variant, kind.collected)),
        run_code=code_check.run_python if job.params.code else None,
    )
    write(job.output[0], kind.score(pair))


jobs.run(snakemake, main)
