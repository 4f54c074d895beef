"""Result files -> the decision memo, as Markdown."""

from quantbench import jobs
from quantbench.files import write_text
from quantbench.report import pages, render, results_tree


def main(job):
    facts = results_tree.load_facts(job.input, job.params.report, job.config["command"])
    write_text(job.output[0], render.page(pages.decision(facts)))


jobs.run(snakemake, main)
