import sys

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from snakemake.exceptions import WorkflowError

from quantbench import terminal
from quantbench.errors import QuantbenchError
from quantbench.fleet import comparisons, joined, signals
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

owner.share_library()  # with the scripts
signals.hand_on()
terminal.outlive()
config = {
    "fleet": {
        "fleet": FLEET.name,
        "comparisons": {name: entry.as_dict() for name, entry in FLEET.entries.items()},
    }
}


def needs(key):
    """What a comparison needs of a scheduler."""
    return lambda wildcards: getattr(FLEET.entries[wildcards.comparison].resources, key)
