"""Result files -> all pages, as Markdown: they quote the same, and loading it takes longer than writing them."""

from quantbench import jobs, results
from quantbench.config import report_plan
from quantbench.files import write_text
from quantbench.records.base import convert
from quantbench.records.plan import ReportPlan
from quantbench.report import pages, render


def main(job):
    run = results.load_run(job.input, convert(job.params.report, ReportPlan), job.config["command"])
    for name, path in zip(report_plan.PAGES, job.output, strict=True):
        write_text(path, render.page(pages.PAGES[name](run)))


jobs.run(snakemake, main)
