"""Blocks of one tuple -> its CSV, one row."""

from quantbench import jobs
from quantbench.client import tables_io
from quantbench.files import read_json
from quantbench.judge import guards
from quantbench.judge.summary import tuple_row
from quantbench.records.base import convert, read
from quantbench.records.block import BlockContext, Calibration
from quantbench.report import results_tree


def main(job):
    ready, calibration = read_json(job.input.ready, "model"), results_tree.read_calibration(job.input.calibration)
    judged = (guards.judged(results_tree.read_context(path), ready, calibration) for path in job.input.contexts)
    contexts = [convert(context, BlockContext) for context in judged]
    records = [tables_io.read_records(path) for path in job.input.records]
    blocks = list(zip(records, contexts, strict=True))
    tables_io.write_row(
        job.output.csv, tuple_row(job.params.gpu_name, blocks, read(job.input.calibration, Calibration))
    )


jobs.run(snakemake, main)
