"""Blocks of one tuple -> its CSV, one row."""

from quantbench import jobs, results
from quantbench.client import tables_io
from quantbench.config.expected import of_config
from quantbench.judge.summary import tuple_row
from quantbench.records.base import convert, read
from quantbench.records.block import Calibration
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready


def main(job):
    ready, calibration = read(job.input.ready, Ready), read(job.input.calibration, Calibration)
    arm, expected = convert(job.params.arm, ArmPlan), of_config(job.config)
    contexts, records = results.contexts(job.params.blocks), results.records(job.params.blocks)
    blocks = results.judged_blocks(contexts, {ready.model: ready}, [calibration], expected, {ready.model: arm})
    requests = [results.requests_of(block, path) for block, path in zip(blocks, records, strict=True)]
    row = tuple_row(job.params.gpu_name, list(zip(requests, blocks, strict=True)), calibration, arm.gpus, ready)
    tables_io.write_rows(job.output.csv, [row])


jobs.run(snakemake, main)
