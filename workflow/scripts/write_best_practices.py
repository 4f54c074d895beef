"""Result files -> the best practices, as Markdown."""

from quantbench import jobs
from quantbench.files import write_text
from quantbench.report import pages, render, results_tree


def main(job):
    facts = results_tree.load_facts(job.input, job.params.report)
    write_text(job.output[0], render.page(pages.practices(facts)))


jobs.run(snakemake, main)
