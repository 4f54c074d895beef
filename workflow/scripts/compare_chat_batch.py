"""Comparison, capacity and measurement -> does quantization help chat or batch more?"""

from quantbench import jobs, results
from quantbench.judge.impact import impact_rows
from quantbench.records.base import convert
from quantbench.records.plan import ReportPlan
from quantbench.records.tables import ImpactRow
from quantbench.report import impact
from quantbench.report.say import Speech


def main(job):
    run = results.load_run(job.input, convert(job.params.report, ReportPlan))
    rows = [impact.worded(run, Speech.of(run), row) for row in impact_rows(run)]
    results.write_rows(job.output[0], rows, results.columns_of(ImpactRow))


jobs.run(snakemake, main)
