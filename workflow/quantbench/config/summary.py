"""What a run will measure, in one line: to be read before it is paid for."""

from __future__ import annotations

from quantbench.config.configuration import Plan
from quantbench.records.cell import AA_SUFFIX, Cell
from quantbench.wording import plural


def line(plan: Plan) -> str:
    """E.g. `int8 against bf16 in chat (c1, c4; t128): 15 blocks (…); decides: throughput_tok_s of …; from my.yaml`."""
    blocks = {arm: sum(plan.blocks(cell) for cell in plan.cells(arm)) for arm in plan.arms}
    points = plan.grid
    what = f"{', '.join(plan.variants)} against {plan.baseline}" if plan.variants else f"{plan.baseline} alone"
    asked = ", ".join(_workload(plan, name) for name in plan.config["workloads"])
    shares = f"{plural(len(plan.models), 'model')} × {plural(len(points), 'point')} × {plan.config['blocks']}"
    grid = set(points)
    iso = sum(plan.blocks(cell) for model in plan.models for cell in plan.cells(model) if cell not in grid)
    extra = sum(blocks[model] for model in plan.models) - len(plan.models) * len(points) * plan.config["blocks"] - iso
    more = (f" + {extra} more (extra_blocks)" if extra else "") + (f" + {iso} at what fits (iso_memory)" if iso else "")
    control = blocks.get(plan.baseline + AA_SUFFIX)
    shares += more + (f" + {control} of the control {plan.baseline} against itself" if control else "")
    primary = plan.primary
    files = ", ".join(
        layer.name + (" (the machine only)" if layer.machine_only else "")
        for layer in reversed(plan.layers)
        if layer.values
    )
    further = f", then up to {plan.budget_s / 60:g} min more where answers are open" if plan.budget_s else ""
    return (
        f"{what} in {asked}: {plural(sum(blocks.values()), 'block')} ({shares}){further}; "
        f"decides: {primary['metric']} of {Cell.of_row(primary).key}" + (f"; from {files}" if files else "")
    )


def _workload(plan: Plan, name: str) -> str:
    entry = plan.config["workloads"][name]
    concurrency, tokens = (", ".join(f"{letter}{n}" for n in entry[key])
                           for letter, key in (("c", "concurrency"), ("t", "max_tokens")))  # fmt: skip
    return f"{name} ({concurrency}; {tokens})"
