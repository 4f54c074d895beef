"""What the comparing and reporting rules take from the plan: cells to compare, and narrow params for their jobs.

Params are plain dicts, as snakemake keeps them; the jobs convert them to the types of `records`.
"""

from __future__ import annotations

from typing import Any

from quantbench.config.configuration import Plan
from quantbench.records.cell import Cell
from quantbench.records.layout import Results

Json = dict[str, Any]

PAGES = ("notes", "cost", "best_practices", "decision", "answers")
"""The Markdown pages of a report, one file each; scripts/write_pages.py says what makes them."""


def points(plan: Plan, arm: str, results: Results) -> list[Cell]:
    """The grid of an arm, then every tuple that was asked for by name and lies on disk."""
    anywhere = results.path("cell", arm=arm, workload="*", concurrency="*", max_tokens="*")
    grid, files = dict.fromkeys(plan.cells(arm)), sorted(results.below.glob(anywhere))
    on_disk = [Cell.parse(f"{path.parent.name}/{path.stem}") for path in files]
    more = [cell for cell in on_disk if cell and cell not in grid and cell.workload in plan.config["workloads"]]
    return [*grid, *more]


def comparison(plan: Plan, results: Results) -> Json:
    """What the verdict depends on beside the blocks.

    A run that had rounds is judged by their rule whatever the budget of today's command, which `refine` sets to 0.
    """
    return {
        "baseline": plan.baseline,
        "gpu_name": plan.gpu_name,
        "variants": plan.variants,
        "primary": plan.primary,
        "margin": plan.config["margin"],
        "precision": plan.config["precision"],
        "blocks": plan.config["blocks"],
        "most_blocks": plan.config["refine"]["max_blocks"],
        "starts": plan.starts,
        "until_decided": plan.budget_s > 0 or results.file("further").exists(),
        "arms": arms(plan),
        "iso_memory": iso_memory(plan),
    }


def arms(plan: Plan) -> Json:
    """`records.plan.ArmPlan` of each model: what is declared of it."""
    return {model: {"gpus": plan.gpus(model), "differs_in": plan.differs_in(model)} for model in plan.models}


def memory(plan: Plan) -> Json:
    """What the memory table depends on beside the server records."""
    lengths = {name: max(entry["max_tokens"]) for name, entry in plan.config["workloads"].items()}
    return {
        "baseline": plan.baseline,
        "labels": {model: plan.label(model) for model in plan.models},
        "arms": arms(plan),
        "max_tokens": lengths,
    }


def report(plan: Plan) -> Json:
    """`records.plan.ReportPlan`: what the reports depend on beside their input files; no price, it is in cost.json."""
    models, cells = plan.config["models"], plan.grid
    return {
        "gpu": plan.gpu,
        "gpu_name": plan.gpu_name,
        "baseline": plan.baseline,
        "variants": plan.variants,
        "labels": {model: plan.label(model) for model in plan.selected},
        "unfit": {model: unfit.as_dict() for model, unfit in plan.unfit.items()},
        "declared_baseline": plan.config["baseline"],
        "arms": arms(plan),
        "load_formats": {model: models[model]["load_format"] for model in plan.models},
        "server_differences": {model: models[model]["server"] for model in plan.models if models[model]["server"]},
        "workloads": {
            name: {
                "style": entry["style"],
                "cells": [[c.concurrency, c.max_tokens] for c in cells if c.workload == name],
            }
            for name, entry in plan.config["workloads"].items()
        },
        "primary": plan.primary,
        "margin": plan.config["margin"],
        "predictions": plan.config["predictions"],
        "iso_memory": iso_memory(plan),
        "quality_margins": plan.config["quality"]["margins"],
    }


def iso_memory(plan: Plan) -> Json:
    """{workload: `records.plan.IsoPlan`}; of what was known, only what does not change while it is measured."""
    return {
        workload: {
            "length": plan.config["workloads"][workload]["iso_memory"],
            "max_tokens": max(plan.config["workloads"][workload]["max_tokens"]),
            "concurrency": {model: fit.concurrency for model, fit in fits.items()},
            "limits": {model: fit.limit for model, fit in fits.items()},
            "measured": workload in plan.iso_cells,
        }
        for workload, fits in plan.iso_memory.items()
    }


def prices(plan: Plan) -> Json:
    """`records.cost.Price`: what cost.json depends on beside the tables."""
    each = {name: (model["hourly_price"], plan.gpus(name)) for name, model in plan.models.items()}
    own = {name: price * gpus for name, (price, gpus) in each.items() if price is not None}
    return dict(plan.config["cost"]) | {"per_hour": own, "gpus": {name: gpus for name, (_, gpus) in each.items()}}
