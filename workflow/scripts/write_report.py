"""Result files -> one self-contained HTML page, and its plots as files."""

from pathlib import Path

from quantbench import jobs
from quantbench.files import write_text
from quantbench.report import pages, plots, render, results_tree


def main(job):
    facts = results_tree.load_facts(job.input, job.params.report, job.config["command"])
    charts = plots.draw_all(facts)
    folder = Path(job.output.plots)
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in charts.items():
        plots.save(chart, folder, name)
    drawn = {name: plots.svg_inline(chart) for name, chart in charts.items()}
    write_text(job.output.page, render.report(pages.report(facts, drawn)))


jobs.run(snakemake, main)
