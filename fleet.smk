# Several comparisons: each a run of the pipeline in a folder of its own, by whatever executor the profile names.
from snakemake.utils import min_version

min_version("9.20")


include: "rules/fleet_config.smk"
include: "rules/fleet.smk"


localrules:
    fleet,
    join_fleet,


rule fleet:
    default_target: True
    input:
        rules.join_fleet.output,


onstart:
    # One comparison that fails costs the others nothing. Here, as profiles/default is of the runs inside, too.
    workflow.scheduler.keepgoing = True
    # A second fleet of this name waits, and then does what the first has left.
    try:
        joined.enter(FLEET)
    except QuantbenchError as error:
        raise WorkflowError(str(error)) from None


# The rule of the pages needs all comparisons; a reader wants those that are done, and the names of the others.
onerror:
    for line in joined.write(FLEET):
        print(f"quantbench: {line}", file=sys.stderr, flush=True)
