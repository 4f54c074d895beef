"""Ask one served model what one quality suite asks: only what this very server was not asked before."""

import sys
from contextlib import contextmanager
from pathlib import Path

from quantbench import jobs, kept
from quantbench.config import model_plan
from quantbench.config.expected import of_run
from quantbench.engines import openai_api
from quantbench.kept_items import KeptItems
from quantbench.quality import collect, suites
from quantbench.quality.asked import Asked, Server
from quantbench.records import base
from quantbench.records.layout import Results
from quantbench.serving import lane


def main(job):
    spec, expected, suite = jobs.spec(job), of_run(job.config), job.wildcards.suite
    plan, wanted = expected.plan, kept.now(expected.servers[spec.model], spec)
    settings, items, results = plan.suites[suite], kept.items(plan, suite), Results(plan.gpu)
    answers = KeptItems(results.file("kept_items", suite=suite, model=spec.model), wanted)

    @contextmanager
    def server():
        print(f"{spec.model}: suite {suite}, {len(answers)} answers are kept", file=sys.stderr, flush=True)
        with lane.lease(spec, f"suite {suite}") as lease:
            answers.begin(lease.served(wanted))
            yield Server(lease.url, spec.served_name, openai_api.key_of(spec))

    baseline = job.input.baseline
    asked = Asked(
        suite=suite,
        model=spec.model,
        settings=settings,
        items=items,
        kept=answers,
        server=server,
        floor=model_plan.floor(plan, spec.model, suite),
        baseline=base.read(baseline[0], suites.of(settings).collected) if baseline else None,
        baseline_name=plan.baseline,
        log=Path(job.log[0]),
        lmeval_python=plan.config["lmeval_python"],
    )
    collected = collect.collect(asked)
    told = kept.collected_with(plan, suite, spec.model, answers.server, suites.version(settings, items))
    base.write(results.file("collected_with", suite=suite, model=spec.model), told)
    base.write(job.output.collected, collected)


jobs.run(snakemake, main)
