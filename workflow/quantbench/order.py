"""The order in which a run measures: `judge.schedule`, of what a plan says."""

from __future__ import annotations

from collections.abc import Mapping

from quantbench.config.configuration import Plan
from quantbench.judge.schedule import Schedule
from quantbench.records.cell import served_model


def of_plan(plan: Plan, modes: Mapping[str, str]) -> Schedule:
    """The schedule of a plan's arms and grid; modes: how each lane changes models (`settings.lane_modes`)."""
    return Schedule(
        models={arm: plan.lane_of(arm) for arm in plan.arms},
        modes=modes,
        cells=plan.grid,
        aa={arm: model for arm in plan.arms if (model := served_model(arm)) != arm},
        together=plan.iso_cells.values(),
        starts={lane: plan.starts_on(mode) for lane, mode in modes.items()},
        blocks=plan.config["blocks"],
    )
