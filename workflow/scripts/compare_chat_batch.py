"""Comparison, capacity and measurement -> does quantization help chat or batch more?"""

from quantbench import jobs
from quantbench.report import impact, results_tree


def main(job):
    facts = results_tree.load_facts(job.input, job.params.report)
    results_tree.write_table(job.output[0], impact.impact_rows(facts), impact.COLUMNS)


jobs.run(snakemake, main)
