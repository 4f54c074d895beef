"""Run the pipeline for one comparison in its folder, and mark it as done when that has succeeded."""

from quantbench import jobs
from quantbench.fleet import comparisons, done, folder, inner
from quantbench.records.base import write


def main(job):
    fleet, name = comparisons.of_job(comparisons.PROJECT, job.config["fleet"]), job.wildcards.comparison
    place = fleet.folder(name)
    folder.prepare(fleet.root, place, fleet.entries[name].config)
    inner.run(place, fleet.command(name))
    write(job.output[0], done.of(fleet, name))


jobs.run(snakemake, main)
