"""What a plan warns of before anything starts: where the host will bound a cell."""

from __future__ import annotations

from collections.abc import Iterator

from quantbench import subjects
from quantbench.config.configuration import Plan
from quantbench.engines.vllm.formats import claim_of
from quantbench.engines.vllm.inspection import Subject, host_bound
from quantbench.engines.vllm.step import step_of
from quantbench.errors import QuantbenchError
from quantbench.observe import bound
from quantbench.records.base import convert
from quantbench.records.server import ServerSpec


def notes(plan: Plan) -> Iterator[str]:
    """A line per model that the host will bound in cells of the grid; variants only where the baseline is not bound so.

    Models and cards of which nothing is known are passed over: `inputs` and the jobs say what is wrong with them.
    """
    on = subjects.card(plan) if plan.config["server"]["platform"] == "cuda" else None
    for name in plan.models if on else ():
        try:
            seen = subjects.subject(plan, convert(plan.server_spec(name), ServerSpec))
        except (QuantbenchError, OSError, ValueError):
            continue
        step, peaks = step_of(seen.spec, seen.config, seen.tensors), on and on.peaks(len(seen.spec.devices))
        decode = [bound.expected(step, peaks, load) for load in seen.loads] if step and peaks else []
        slow = [entry for entry in decode if entry and entry.bound == "host"]
        if slow:
            yield f"models.{name}: {host_bound(slow, everywhere=len(slow) == len(decode), quantized=_quantized(seen))}"
        if slow and name == plan.baseline:
            return


def _quantized(seen: Subject) -> bool:
    return claim_of(seen.config, seen.spec.settings.quantization) is not None
