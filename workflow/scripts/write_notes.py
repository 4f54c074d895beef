"""Result files -> the notes, as Markdown."""

from quantbench import jobs
from quantbench.files import write_text
from quantbench.report import pages, render, results_tree


def main(job):
    facts = results_tree.load_facts(job.input, job.params.report, job.config["command"])
    write_text(job.output[0], render.page(pages.notes(facts)))


jobs.run(snakemake, main)
