"""Capacity, comparison and price -> cost per million tokens, savings, sensitivity."""

from quantbench import jobs, results
from quantbench.judge.cost import cost_report
from quantbench.records.base import convert, read, write
from quantbench.records.comparison import Verdict
from quantbench.records.cost import Price


def main(job):
    rows = read(job.input.verdict, Verdict).rows
    write(job.output[0], cost_report(results.read_capacity(job.input.capacity), rows, convert(job.params.price, Price)))


jobs.run(snakemake, main)
