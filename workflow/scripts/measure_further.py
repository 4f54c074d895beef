"""After the blocks of the plan: further ones where answers are open, until they are decided or the budget is spent."""

from quantbench import further, jobs
from quantbench.records.base import convert, write
from quantbench.records.plan import ComparisonPlan


def main(job):
    plan = convert(job.params.comparison, ComparisonPlan)
    told = further.run(job.config, plan, job.params.budget_s, job.input.ready, job.input.calibrations)
    write(job.output[0], told)


jobs.run(snakemake, main)
