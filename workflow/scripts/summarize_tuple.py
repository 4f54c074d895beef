"""Blocks of one tuple -> its CSV, one row."""

from quantbench import jobs
from quantbench.client import tables_io
from quantbench.files import read_json
from quantbench.judge import guards
from quantbench.judge.summary import tuple_row
from quantbench.report import results_tree


def main(job):
    ready, calibration = read_json(job.input.ready, "model"), results_tree.read_calibration(job.input.calibration)
    contexts = [guards.judged(results_tree.read_context(path), ready, calibration) for path in job.input.contexts]
    records = [tables_io.read_records(path) for path in job.input.records]
    identity = contexts[0] | {"gpu_name": job.params.gpu_name}
    tables_io.write_row(job.output.csv, tuple_row(identity, list(zip(records, contexts, strict=True)), calibration))


jobs.run(snakemake, main)
