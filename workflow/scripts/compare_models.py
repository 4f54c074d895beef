"""Blocks of all arms -> the comparison tables and the verdict."""

from pathlib import Path

from quantbench import jobs, results
from quantbench.config.expected import of_config
from quantbench.judge.rounds import explained
from quantbench.records.base import convert, read, write
from quantbench.records.block import Calibration
from quantbench.records.comparison import COMPARISON_COLUMNS, ISO_COLUMNS
from quantbench.records.measurement import Further
from quantbench.records.plan import ComparisonPlan
from quantbench.records.server import Ready
from quantbench.report.say import Speech
from quantbench.report.verdict import worded


def main(job):
    plan = convert(job.params.comparison, ComparisonPlan)
    ready = results.by_model(job.input.ready, Ready)
    calibrations = [read(path, Calibration) for path in job.input.calibrations]
    blocks = results.judged_blocks(
        results.contexts(job.params.blocks), ready, calibrations, of_config(job.config), plan.arms
    )
    verdict = results.verdict_of(blocks, results.records(job.params.blocks), ready, plan)
    for path in job.input.get("further") or []:
        told = read(path, Further)
        verdict = explained(verdict, told.measured, told.budget_s - told.spent_s, told.prices)
    verdict = worded(Speech(), verdict)
    for path in job.output.tables:
        rows = [row for row in verdict.rows if row.workload == Path(path).stem]
        results.write_rows(path, rows, COMPARISON_COLUMNS)
    for path in job.output.get("iso_memory") or []:
        results.write_rows(path, verdict.iso_memory, ISO_COLUMNS)
    write(job.output.verdict, verdict)


jobs.run(snakemake, main)
