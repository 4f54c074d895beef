"""Result files -> one page, as Markdown."""

from quantbench import jobs, results
from quantbench.files import write_text
from quantbench.records.base import convert
from quantbench.records.plan import ReportPlan
from quantbench.report import pages, render


def main(job):
    run = results.load_run(job.input, convert(job.params.report, ReportPlan), job.config["command"])
    write_text(job.output[0], render.page(pages.PAGES[job.wildcards.page](run)))


jobs.run(snakemake, main)
