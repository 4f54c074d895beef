"""Block contexts, server records and calibrations -> how the run was measured."""

from quantbench import jobs
from quantbench.files import write_json
from quantbench.report import measurement, results_tree


def main(job):
    ready, sessions = results_tree.by_model(job.input.ready), results_tree.by_model(job.input.sessions)
    contexts = results_tree.judged_contexts(job.input.contexts, ready, job.input.calibrations)
    calibrations = [results_tree.read_calibration(path) for path in job.input.calibrations]
    described = measurement.summarize(contexts, ready, sessions, calibrations)
    described["gpu_name"] = job.params.gpu_name
    described["checks"] = results_tree.other_guards(contexts, ready, sessions, job.params.baseline)
    write_json(job.output[0], described)


jobs.run(snakemake, main)
