"""All judged results -> what to do: the decision per use, its doubts, and how the predictions came out."""

from quantbench import jobs, results
from quantbench.judge.decision import decide
from quantbench.records.base import convert, write
from quantbench.records.plan import ReportPlan


def main(job):
    write(job.output[0], decide(results.load_run(job.input, convert(job.params.report, ReportPlan))))


jobs.run(snakemake, main)
