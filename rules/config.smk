import shlex
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow"))

from snakemake.exceptions import WorkflowError

from quantbench.config import settings
from quantbench.errors import QuantbenchError

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
MEASURE_BLOCK = literally(
    shlex.join(
        [sys.executable, "-I", "-S", str(ROOT / "workflow/scripts/measure_block.py")]
    )
)
