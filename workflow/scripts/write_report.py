"""Result files -> one self-contained HTML page, and its plots as files."""

from pathlib import Path

from quantbench import jobs, results
from quantbench.files import write_text
from quantbench.records.base import convert
from quantbench.records.plan import ReportPlan
from quantbench.report import pages, plots, render


def main(job):
    run = results.load_run(job.input, convert(job.params.report, ReportPlan), job.config["command"])
    charts = plots.draw_all(run)
    folder = Path(job.output.plots)
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in charts.items():
        plots.save(chart, folder, name)
    drawn = {name: plots.svg_inline(chart) for name, chart in charts.items()}
    write_text(job.output.page, render.report(pages.report(run, drawn)))


jobs.run(snakemake, main)
