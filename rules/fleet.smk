import os
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from snakemake.exceptions import WorkflowError

from quantbench.errors import QuantbenchError
from quantbench.fleet import comparisons, joined
from quantbench.judgement import judgement
from quantbench.serving import owner

try:
    FLEET = comparisons.load(
        comparisons.PROJECT,
        map(Path, workflow.config_settings.configfiles),
        workflow.config_settings.config,
    )
    if workflow.is_main_process:  # not again in every job's process
        comparisons.check(FLEET)
    # To jobs by name: how depends on the executor, never as an argument and never in a file.
    workflow.register_envvars(*FLEET.keys)
except QuantbenchError as error:
    raise WorkflowError(str(error)) from None

os.environ["PYTHONPATH"] = owner.library_path()  # for the scripts
config = {
    "fleet": {
        "fleet": FLEET.name,
        "comparisons": {name: entry.as_dict() for name, entry in FLEET.entries.items()},
    }
}


def needs(key):
    """What a comparison needs of a scheduler."""
    return lambda wildcards: getattr(FLEET.entries[wildcards.comparison].resources, key)


wildcard_constraints:
    comparison="|".join(FLEET.entries),


# Its results are no outputs: Snakemake would remove them with a job that fails or is cancelled.
rule run_comparison:
    output:
        f"fleets/{FLEET.name}/{{comparison}}/done.json",
    log:
        f"fleets/{FLEET.name}/{{comparison}}/job.log",
    conda:
        "../envs/pipeline.yaml"
    threads: needs("cpus")
    resources:
        gpu=needs("gpus"),
        gpu_model=needs("gpu_model"),
        cpus_per_task=needs("cpus"),
        mem_mb=needs("mem_mb"),
        runtime=needs("runtime_min"),
        slurm_partition=needs("partition"),
        slurm_account=needs("account"),
    params:
        definition=lambda wildcards: FLEET.definition(wildcards.comparison),
    script:
        "../workflow/scripts/run_comparison.py"


rule join_fleet:
    input:
        expand(rules.run_comparison.output, comparison=FLEET.entries),
    output:
        **joined.paths(FLEET.name),
    log:
        f"fleets/{FLEET.name}/joined/join.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        made_by=judgement(),
    script:
        "../workflow/scripts/join_fleet.py"
