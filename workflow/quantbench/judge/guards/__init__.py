"""Guards: checks that make a wrong measurement impossible to miss.

A guard answers ok, fail, warn or unknown. A failed guard makes a block or a comparison invalid; a warning is printed
beside the figures. A fact that is missing is `unknown`, never ok: it does not invalidate, but the report counts it.
"""

from quantbench.judge.guards.evaluate import CLIENT as CLIENT
from quantbench.judge.guards.evaluate import GUARDS as GUARDS
from quantbench.judge.guards.evaluate import OTHER as OTHER
from quantbench.judge.guards.evaluate import comparison_failures as comparison_failures
from quantbench.judge.guards.evaluate import evaluate_block as evaluate_block
from quantbench.judge.guards.evaluate import evaluate_pair as evaluate_pair
from quantbench.judge.guards.evaluate import evaluate_run as evaluate_run
from quantbench.judge.guards.evaluate import evaluate_server as evaluate_server
from quantbench.judge.guards.evaluate import failed as failed
from quantbench.judge.guards.evaluate import judged as judged
from quantbench.judge.guards.evaluate import meanings as meanings
from quantbench.judge.guards.evaluate import of_plan as of_plan
