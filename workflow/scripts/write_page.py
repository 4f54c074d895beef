"""Result files -> one page, as Markdown."""

from quantbench import jobs
from quantbench.files import write_text
from quantbench.report import pages, render, results_tree

# As many as in quantbench.config.report_plan.PAGES.
PAGES = {
    "notes": pages.notes,
    "cost": pages.cost,
    "best_practices": pages.practices,
    "decision": pages.decision,
}


def main(job):
    facts = results_tree.load_facts(job.input, job.params.report, job.config["command"])
    write_text(job.output[0], render.page(PAGES[job.wildcards.page](facts)))


jobs.run(snakemake, main)
