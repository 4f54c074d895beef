"""Capacity, comparison, price and answers -> cost per million tokens and per correct answer, savings, sensitivity."""

from quantbench import jobs, results
from quantbench.judge.cost import cost_report
from quantbench.quality import correct, natural
from quantbench.records.base import convert, read, write
from quantbench.records.comparison import Verdict
from quantbench.records.cost import Price
from quantbench.records.quality import QualityDetails
from quantbench.records.suite import SuiteScore


def main(job):
    verdict = read(job.input.verdict, Verdict)
    details = [read(path, QualityDetails) for path in job.input.get("quality") or []]
    scores = [read(path, SuiteScore) for path in job.input.get("suites") or []]
    answers = natural.of_run(verdict.baseline, scores, details)
    lengths = natural.tokens(pair for pair, _ in answers.values())
    price, capacity = convert(job.params.price, Price), results.read_capacity(job.input.capacity)
    cost = cost_report(capacity, verdict.rows, price, lengths)
    write(job.output[0], correct.with_answers(cost, verdict.rows, answers))


jobs.run(snakemake, main)
