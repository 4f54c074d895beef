import gc
import shlex
import sys
from pathlib import Path

# What a plan makes stays until the run ends: to look through all of it for garbage, again after every 700 objects, is a
# sixth of the time of a plan with thousands of jobs.
gc.set_threshold(100_000, 20, 20)

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow"))

from snakemake.exceptions import WorkflowError

from quantbench import terminal
from quantbench.config import settings
from quantbench.errors import QuantbenchError

terminal.outlive()

try:
    settings.require_project_dir(ROOT, Path.cwd())
except QuantbenchError as error:
    raise WorkflowError(str(error)) from None


def literally(text):
    """As snakemake is given a text in which it takes braces for wildcards."""
    return text.replace("{", "{{").replace("}", "}}")


# In full, as snakemake joins it with the folder's path.
ENVIRONMENT = literally(str(ROOT / "envs" / "pipeline.yaml"))
# Neither this environment's variables (-I) nor its packages (-S): it starts in a tenth of the time.
MEASURE_TUPLE = literally(
    shlex.join(
        [sys.executable, "-I", "-S", str(ROOT / "workflow/scripts/measure_tuple.py")]
    )
)
