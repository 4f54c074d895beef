"""Blocks of all arms -> the comparison tables and the verdict."""

from pathlib import Path

from msgspec.structs import replace
from quantbench import jobs, results
from quantbench.config.expected import of_config
from quantbench.judge import iso_memory
from quantbench.judge.verdict import build_verdict
from quantbench.records.base import convert, read, write
from quantbench.records.block import Calibration
from quantbench.records.comparison import COMPARISON_COLUMNS, ISO_COLUMNS
from quantbench.records.plan import ComparisonPlan
from quantbench.records.server import Ready
from quantbench.report.say import Speech
from quantbench.report.verdict import worded


def main(job):
    plan = convert(job.params.comparison, ComparisonPlan)
    ready = results.by_model(job.input.ready, Ready)
    calibrations = [read(path, Calibration) for path in job.input.calibrations]
    blocks = results.judged_blocks(job.input.contexts, ready, calibrations, of_config(job.config), plan.arms)
    samples = results.samples(blocks, job.input.records)
    failures = results.pair_failures(blocks, ready, plan.baseline, plan.variants, plan.arms)
    verdict = build_verdict(
        blocks,
        baseline=plan.baseline,
        primary=plan.primary,
        variants=plan.variants,
        margin=plan.margin,
        samples=samples,
        pair_failures=failures,
        target=plan.precision,
        planned_blocks=plan.blocks,
        most_blocks=plan.most_blocks,
        gpu_name=plan.gpu_name,
        starts=plan.starts,
        gpus={model: arm.gpus for model, arm in plan.arms.items()},
    )
    longest = {
        name: results.longest_request(job.input.records, {name: iso.max_tokens})
        for name, iso in plan.iso_memory.items()
    }
    iso = iso_memory.compare(
        blocks, plan, verdict, ready=ready, longest=longest, samples=samples, pair_failures=failures
    )
    verdict = worded(Speech(), replace(verdict, iso_memory=iso))
    for path in job.output.tables:
        rows = [row for row in verdict.rows if row.workload == Path(path).stem]
        results.write_rows(path, rows, COMPARISON_COLUMNS)
    for path in job.output.get("iso_memory") or []:
        results.write_rows(path, verdict.iso_memory, ISO_COLUMNS)
    write(job.output.verdict, verdict)


jobs.run(snakemake, main)
