"""Blocks of all arms -> the comparison tables and the verdict."""

from pathlib import Path

from quantbench import jobs
from quantbench.files import write_json
from quantbench.judge import verdict
from quantbench.report import results_tree


def main(job):
    wanted = job.params.comparison
    ready = results_tree.by_model(job.input.ready)
    contexts = results_tree.judged_contexts(job.input.contexts, ready, job.input.calibrations)
    judged = verdict.build_verdict(
        contexts,
        baseline=wanted["baseline"],
        gpu_name=wanted["gpu_name"],
        primary=wanted["primary"],
        variants=wanted["variants"],
        margin=wanted["margin"],
        samples=results_tree.samples(contexts, job.input.records),
        pair_failures=results_tree.pair_failures(contexts, ready, wanted["baseline"], wanted["variants"]),
        target=wanted["precision"],
        planned_blocks=wanted["blocks"],
        most_blocks=wanted["most_blocks"],
    )
    for path in job.output.tables:
        rows = [row for row in judged["rows"] if row["workload"] == Path(path).stem]
        results_tree.write_comparison(path, rows)
    write_json(job.output.verdict, judged)


jobs.run(snakemake, main)
