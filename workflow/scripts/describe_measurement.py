"""Blocks, server records and calibrations -> how the run was measured."""

from msgspec.structs import replace
from quantbench import jobs, results
from quantbench.config.expected import of_config
from quantbench.judge.measurement import summarize
from quantbench.records.base import convert, read, write
from quantbench.records.block import Calibration
from quantbench.records.measurement import Further
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready, Session


def main(job):
    ready, sessions = results.by_model(job.input.ready, Ready), results.by_model(job.input.sessions, Session)
    calibrations = [read(path, Calibration) for path in job.input.calibrations]
    arms = convert(job.params.arms, dict[str, ArmPlan])
    blocks = results.judged_blocks(
        results.contexts(job.params.blocks), ready, calibrations, of_config(job.config), arms
    )
    checks = results.other_guards(blocks, ready, sessions, job.params.baseline, arms)
    told = summarize(blocks, ready, sessions, calibrations, gpu_name=job.params.gpu_name, checks=checks)
    further = [read(path, Further) for path in job.input.get("further") or []]
    write(job.output[0], replace(told, further=further[0] if further else None))


jobs.run(snakemake, main)
