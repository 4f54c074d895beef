"""Server records, sessions and the lengths of prompts -> the memory table."""

from quantbench import jobs, results
from quantbench.judge.memory import memory_rows
from quantbench.records.base import convert
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready, Session


def main(job):
    ready, sessions = results.by_model(job.input.ready, Ready), results.by_model(job.input.sessions, Session)
    wanted = job.params.memory
    arms = convert(wanted["arms"], dict[str, ArmPlan])
    rows = memory_rows(
        wanted["labels"],
        wanted["baseline"],
        ready,
        sessions,
        gpus={model: arm.gpus for model, arm in arms.items()},
        length=results.longest_request(results.records(job.params.blocks), wanted["max_tokens"]),
    )
    results.write_rows(job.output[0], rows)


jobs.run(snakemake, main)
