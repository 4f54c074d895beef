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

# In full, as snakemake joins it with the folder's path and takes braces in that for wildcards.
ENVIRONMENT = str(ROOT / "envs" / "pipeline.yaml").replace("{", "{{").replace("}", "}}")
