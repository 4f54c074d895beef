"""Capacity, comparison and price -> cost per million tokens, savings, sensitivity."""

from quantbench import jobs
from quantbench.files import read_json, write_json
from quantbench.judge import cost
from quantbench.report import results_tree


def main(job):
    capacity = results_tree.read_capacity(job.input.capacity)
    rows = [row for models in capacity.values() for found in models.values() for row in found]
    verdict = read_json(job.input.verdict)
    write_json(job.output[0], cost.cost_report(rows, verdict["rows"], job.params.price))


jobs.run(snakemake, main)
